"""Thunder written down plainly: one list of posts, sorted for each request. What the real one must always equal."""

from dataclasses import dataclass, field

from operators.parameters import Thunder as ThunderLimits
from schemas.events import PostCreated, PostDeleted, PostEvent


@dataclass
class ReferenceThunder:
    """Posts by id in the order they came; every id is an integer above 0."""

    retention_ms: int
    posts: dict[int, tuple[int, PostCreated]] = field(default_factory=dict)
    video_listed: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    clock_ms: int = 0

    def apply(self, event: PostEvent) -> None:
        self.clock_ms = max(self.clock_ms, event.at)
        if isinstance(event, PostDeleted):
            self.deleted.add(event.post)
        if not isinstance(event, PostCreated) or event.post in self.posts or event.post in self.deleted:
            return
        if event.at < self.clock_ms - self.retention_ms:
            return
        source = self.posts.get(event.repost_of)
        shows_video = event.video_ms or (event.repost_of and source and source[1].video_ms and not source[1].reply_to)
        if shows_video and not event.reply_to:
            self.video_listed.add(event.post)
        self.posts[event.post] = (len(self.posts), event)

    def newest(self, followed, viewer, at_ms, excluded=(), limits=None, videos_only=False) -> list[int]:
        limits = limits or ThunderLimits()
        followed = set(followed[: limits.followees_max])
        excluded = set(excluded[: limits.excluded_max])
        found = []
        for author in followed:
            mine = [post for _, post in self._newest_first() if post.author == author and self._shown(post, at_ms)]
            mine = [post for post in mine if post.post not in excluded]
            if videos_only:
                lists = [([p for p in mine if p.post in self.video_listed], limits.videos_per_author)]
            else:
                lists = [
                    ([p for p in mine if not _secondary(p)], limits.originals_per_author),
                    ([p for p in mine if _secondary(p)], limits.secondary_per_author),
                ]
            for posts, most in lists:
                looked_at = posts[: limits.scan_per_author]
                kept = [p for p in looked_at if not self._repost_of_own(p, viewer)]
                if not videos_only:
                    kept = [p for p in kept if not p.reply_to or self._reply_rule(p, at_ms, followed)]
                found += kept[:most]
        chosen = {post.post for post in found}
        most = limits.videos_max if videos_only else limits.posts_max
        return [post.post for _, post in self._newest_first() if post.post in chosen][:most]

    def _newest_first(self) -> list[tuple[int, PostCreated]]:
        return sorted(self.posts.values(), key=lambda one: (one[1].at, one[0]), reverse=True)

    def _shown(self, post: PostCreated, at_ms: int) -> bool:
        alive = at_ms - self.retention_ms <= post.at <= at_ms
        return alive and post.post not in self.deleted and post.repost_of not in self.deleted

    def _repost_of_own(self, post: PostCreated, viewer: int) -> bool:
        if not post.repost_of:
            return False
        source = self.posts.get(post.repost_of)
        author = post.repost_of_author or (source[1].author if source else None)
        return author == viewer

    def _reply_rule(self, post: PostCreated, at_ms: int, followed: set[int]) -> bool:
        if post.reply_to not in self.posts:
            return False
        parent = self.posts[post.reply_to][1]
        if not self._shown(parent, at_ms):
            return False
        root = post.conversation or parent.conversation
        to_root = parent.reply_to is not None and root is not None and parent.reply_to == root
        return not _secondary(parent) or (to_root and parent.author in followed)


def _secondary(post: PostCreated) -> bool:
    return bool(post.reply_to or post.repost_of)
