"""The intake: from polls to the state of posts and viewers, and to queries. Feeds and training examples share it."""

from collections import deque
from collections.abc import Callable, Iterable
from statistics import median_low
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.decode import CLOCK_EVENTS, Ownership, Poll, dead_letter, decode
from operators.experiments import NO_EXPERIMENTS, Experiments
from operators.keys import Keys, keys_of
from operators.parameters import Parameters
from operators.posts.husks import is_of, without_names
from operators.posts.interest_clusters import NO_LIKES, InterestClusters, Likes
from operators.slate import originals_of
from operators.state import State
from operators.viewers.query import Query, Request
from schemas.actions import ACTION_INDEX
from schemas.codec import Refused
from schemas.events import Follow, PostCreated, Served
from schemas.feeds import Feed
from schemas.ids import key_of, partition_of
from schemas.polls import RawPoll

FAVORITE: Final = ACTION_INDEX["favorite"]
# The raw post events of one poll, with the job's clock when they were taken in.
TakenIn = tuple[int, list[bytes]]


class Intake:
    """The work of the steps that change the state; `events` counts what was taken.

    `clock_ms` is the time by which posts expire: the median of the latest events' times, so that one event with a wrong
    clock neither expires the posts of others nor holds anything back. Requests before `answer_from_ms` are passed over;
    those for which `answered` knows a feed have been answered by a process before this one. Where there is
    a `journal`, raw post events go there as they are taken in, with the clock of the moment. `polls`, `events` and
    `dead_letters` count what has come through. `check` refuses requests whose parameters this job can't do with.

    With `counts_events` it counts what is done with posts and what was shown, of all viewers, and tells co-likers; on
    Kafka, where an instance reads its own viewers' engagements alone, another flow counts and tells
    (flows/post_counts.py), and there are neither co-likers nor interest clusters. How many follow an author is told by
    profiles alone there (flows/serving/accounts.py).
    """

    def __init__(
        self,
        state: State,
        parameters: Parameters,
        ownership: Ownership,
        answer_from_ms: int = 0,
        answered: Callable[[Request], Feed | None] | None = None,
        journal: list[TakenIn] | None = None,
        experiments: Experiments = NO_EXPERIMENTS,
        counts_events: bool = True,
        check: Callable[[Parameters], None] | None = None,
    ) -> None:
        self.state = state
        self.parameters = parameters
        self.ownership = ownership
        self.answer_from_ms = answer_from_ms
        self._answered = answered
        self.journal = journal
        self._experiments = experiments
        self._counts_events = counts_events
        self._check = check
        self.polls = 0
        self.events = 0
        self.dead_letters = 0
        self.clock_ms = 0
        self._latest_ms: deque[int] = deque(maxlen=CLOCK_EVENTS)

    def decode(self, raw: RawPoll) -> Poll:
        """Decode a poll."""
        poll = decode(raw, self.parameters, self.ownership, self._experiments, self._check)
        self.events += poll.events
        self.dead_letters += len(poll.dead_letters)
        return poll

    def update_posts(self, poll: Poll) -> Iterable[Poll]:
        """Apply a poll's posts, and tell its engagements who wrote the posts and what they are about."""
        self._latest_ms.extend(poll.latest_ms)
        if len(self._latest_ms) == CLOCK_EVENTS:
            self.clock_ms = max(self.clock_ms, median_low(self._latest_ms))
        posts = self.state.posts
        for user in poll.deleted_users:
            self._delete_user(key_of(user))
        self._pass_over_deleted(poll)
        first_new = posts.table.end
        if self.journal is not None and poll.post_events:
            self.journal.append((self.clock_ms, [origin.raw for origin in poll.post_origins]))
        for refusal in posts.apply(poll.post_events, self.clock_ms):
            place = next(i for i, event in enumerate(poll.post_events) if event is refusal.event)
            poll.dead_letters.append(dead_letter(poll.post_origins[place], Refused(refusal.reason, refusal.path)))
            self.dead_letters += 1
        if poll.actions is not None:
            authors, terms = posts.table.resolve(poll.actions.post)
            if posts.table.end > first_new:
                later = self._created_later(poll, poll.actions.post, poll.action_places, first_new)
                authors[later], terms[later] = 0, 0
            known = poll.actions.author
            poll.actions = poll.actions._replace(author=known + authors * (known == 0), terms=terms)
            self._pass_over_actions(poll)
        if self._counts_events:
            self._tell_all(poll, first_new)
        return [poll]

    def _tell_all(self, poll: Poll, first_new: int) -> None:
        """Tell what all viewers did to whoever keeps that, each instance alike."""
        posts = self.state.posts
        if poll.everyones is not None or poll.served:
            posts.counting.take(poll.everyones, poll.served)
            posts.forget_counts()
        posts.followers.take(poll.followers)
        if posts.co_likers is not None:
            posts.co_likers.take_events(poll.post_events, poll.everyones)
        if posts.interest_clusters is not None:
            self._tell_interests(poll, posts.interest_clusters, first_new)

    def _tell_interests(self, poll: Poll, clusters: InterestClusters, first_new: int) -> None:
        """Tell the interest clusters of everybody's follows, and of likes of live posts; of reposts, the original's."""
        table, actions = self.state.posts.table, poll.everyones
        likes, places = NO_LIKES, np.empty(0, np.int64)
        if actions is not None:
            liked = np.flatnonzero((actions.action == FAVORITE) & ~actions.undo)
            rows = table.rows_of(actions.post[liked])
            live = rows >= 0
            live[self._created_later(poll, actions.post[liked], poll.everyones_places[liked], first_new)] = False
            liked, rows = liked[live], rows[live]
            originals = table.rows_of(table.reposted(rows))
            told = table.gather(np.where(originals >= 0, originals, rows))
            viewer, at_ms = actions.slot[liked].view(np.uint64), actions.at_ms[liked]
            likes, places = Likes(viewer, told.key, told.author, told.created_ms, at_ms), poll.everyones_places[liked]
        changes = zip(poll.followers, poll.follower_places, strict=True)
        follows = [(event, place) for event, place in changes if isinstance(event, Follow)]
        clusters.take(likes, places, [event for event, _ in follows], [place for _, place in follows])

    def _delete_user(self, key: int) -> None:
        """Delete all that is known of a user: the posts at once, the viewers that name it before they say anything."""
        if self.state.deleted.add(key):
            self.state.posts.delete_author(key)
            self.state.viewers.forget(key)
            self.state.posts.followers.forget(key)
            if self.state.posts.co_likers is not None:
                self.state.posts.co_likers.forget(key)
            if self.state.posts.interest_clusters is not None:
                self.state.posts.interest_clusters.forget(key)

    def _pass_over_deleted(self, poll: Poll) -> None:
        """Drop what deleted users do and what is done to them; who they were is no longer told of others' posts."""
        deleted = self.state.deleted
        if not len(deleted):
            return
        kept = [place for place, event in enumerate(poll.post_events) if not is_of(event, deleted)]
        poll.post_origins = [poll.post_origins[place] for place in kept]
        poll.post_places = [poll.post_places[place] for place in kept]
        poll.post_events = [
            without_names(event, deleted) if isinstance(event, PostCreated) else event
            for event in (poll.post_events[place] for place in kept)
        ]
        poll.graph = [change for change in poll.graph if not deleted.named_by(change[0])]
        followers = zip(poll.followers, poll.follower_places, strict=True)
        left = [(event, place) for event, place in followers if not deleted.named_by(event)]
        poll.followers, poll.follower_places = [event for event, _ in left], [place for _, place in left]
        poll.served = [one for one in poll.served if key_of(one.viewer) not in deleted]
        if poll.everyones is not None:
            gone = deleted.hold(poll.everyones.slot.view(np.uint64))
            if gone.any():
                others = np.flatnonzero(~gone)
                poll.everyones, poll.everyones_places = poll.everyones.take(others), poll.everyones_places[others]
        requests, poll.requests = poll.requests, []
        for request in requests:
            if request.viewer not in deleted:
                poll.requests.append(request)
            elif self._answered is None or self._answered(request) is None:
                poll.dead_letters.append(dead_letter(request.origin, Refused("the viewer was deleted", "$.viewer")))
                self.dead_letters += 1

    def _pass_over_actions(self, poll: Poll) -> None:
        """Drop actions of deleted users, and on their posts."""
        deleted, actions = self.state.deleted, poll.actions
        if actions is None or not len(deleted):
            return
        gone = deleted.hold(actions.slot.view(np.uint64)) | deleted.hold(actions.author)
        if gone.any():
            kept = np.flatnonzero(~gone)
            poll.actions, poll.action_places = actions.take(kept), poll.action_places[kept]
            poll.action_partitions = poll.action_partitions[kept]

    def _created_later(
        self, poll: Poll, posts: Keys, places: npt.NDArray[np.int64], first_new: int
    ) -> npt.NDArray[np.intp]:
        """Return the actions whose post comes only after them in the poll: they must not know more than in another."""
        new = np.flatnonzero(self.state.posts.table.rows_of(posts) >= first_new)
        created = {
            key_of(event.post): place
            for event, place in zip(reversed(poll.post_events), reversed(poll.post_places), strict=True)
            if isinstance(event, PostCreated)
        }
        late = [created.get(int(post), 0) for post in posts[new]] > places[new]
        return new[late]

    def update_viewers(self, poll: Poll) -> Iterable[Query]:
        """Apply a poll's engagements and graph changes; hydrate the requests that are to be answered."""
        self.polls += 1
        requests = [request for request in poll.requests if request.event.at >= self.answer_from_ms]
        if self._answered is not None:
            requests = [request for request in requests if not self._remembered(request, self._answered(request))]
        own = self._own_of(poll.served) if self._counts_events else []
        return self.state.viewers.apply(poll.actions, poll.action_partitions, poll.graph, requests, own)

    def take_served(self, served: list[Served]) -> None:
        """Count what a log says was shown, for who has to look at the state just before it was."""
        known = [one for one in served if key_of(one.viewer) not in self.state.deleted]
        self.state.posts.counting.take(None, known)
        self.state.viewers.show(self._own_of(known))

    def _own_of(self, served: list[Served]) -> list[tuple[Served, int]]:
        """Return what was shown to viewers of this instance, each with its viewer's partition."""
        count = self.ownership.partitions
        partitions = [partition_of(key_of(one.viewer), count) for one in served]
        pairs = zip(served, partitions, strict=True)
        return [(one, partition) for one, partition in pairs if self.ownership.owns(partition)]

    def _remembered(self, request: Request, feed: Feed | None) -> bool:
        """Take what an answered request leaves behind, and return whether it is one: it has a feed."""
        if feed is None:
            return False
        viewers = self.state.viewers
        viewers.remember_seen(request)
        viewers.remember_modules(request, {one.kind for one in feed.modules})
        viewers.remember_served(request, keys_of(feed.shown))
        if feed.error is None and (feed.cursor is not None or request.cursor is not None):
            viewers.remember_page(request, originals_of(feed))
        return True
