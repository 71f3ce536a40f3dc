"""A simulated world while time passes: its posts so far, who follows and bars whom, and all that has happened."""

import base64
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.looks import Looks
from infra.world.parameters import DAY_MS, HOUR_MS, WorldParameters
from infra.world.people import TOPIC_COUNT, People
from infra.world.phrases import TOPICS
from infra.world.posts import NEVER, POST, PostTable, TextWriter, draw_times
from infra.world.tastes import Tastes
from schemas.events import Event, Follow, PostCreated, PostDeleted, PostLabelled

FIRST_PERSON_ID: Final = 1001
POST_QUALITY_DEVIATION: Final = 0.4
VIDEO_MS_MEDIAN, VIDEO_MS_LIMITS = 25_000, (2_000, 600_000)
SUBSCRIBER_POSTS: Final = 0.4  # of the posts by authors who have subscribers
DELETED_AFTER_H: Final = 6.0  # on average
LABELLED: Final = 0.7  # of the posts by spam and nsfw accounts
LABELLED_AFTER_MS: Final = (60_000, 3_600_000)
LANGUAGE: Final = "en"


class World:
    """Everything that changes while a world is simulated. `events` are complete but not in order of time."""

    def __init__(self, parameters: WorldParameters, people: People, rng: np.random.Generator) -> None:
        self.parameters = parameters
        self.people = people
        self.tastes = Tastes(parameters, people.tastes, people.part_focus)
        self.end_ms = parameters.start_ms + int(parameters.days * DAY_MS)
        self.events: list[Event] = []
        self.has_string_id = rng.random(parameters.people) < parameters.string_id_share
        self.people_ids = [_person_id(row, bool(self.has_string_id[row])) for row in range(parameters.people)]
        # A person's current follows; a dict keeps the order of arrival, so that runs repeat exactly.
        self.follows: list[dict[int, None]] = [{} for _ in range(parameters.people)]
        self.follow_changes: list[tuple[int, int, int, int]] = []
        self.barred: list[set[int]] = [set() for _ in range(parameters.people)]
        self.subscribed: list[set[int]] = [set() for _ in range(parameters.people)]
        self.shown: list[dict[int, None]] = [{} for _ in range(parameters.people)]
        self.sessions: list[list[int]] = []  # person, start, end, focus
        self._rng = rng
        self._writer = TextWriter(rng)
        self._drafts = self._draft_originals()
        self._published = 0
        self.posts = PostTable(2 * self._drafts.size)
        self.posts_of: list[list[int]] = [[] for _ in range(parameters.people)]
        self.heat: list[float] = []  # by row, how much was done with a post
        self.looks = Looks()

    def _draft_originals(self) -> npt.NDArray[np.void]:
        """Return the originals people will write, by time, all but their texts."""
        parameters, people, rng = self.parameters, self.people, self._rng
        expected = people.post_rate * parameters.posts_per_person_day * parameters.days
        author = np.repeat(np.arange(parameters.people), rng.poisson(expected))
        drafts = np.zeros(author.size, POST)
        drafts["author"] = author
        drafts["created"] = draw_times(people.time_zone_h[author], parameters.start_ms, parameters.days, rng)
        drafts = drafts[np.argsort(drafts["created"], kind="stable")]
        author = drafts["author"]
        chances = np.cumsum(people.writes, axis=1)[author]
        for name in ("primary", "secondary"):
            drafts[name] = np.minimum((rng.random((author.size, 1)) > chances).sum(1), TOPIC_COUNT - 1)
        drafts["quality"] = people.quality[author] + rng.normal(0.0, POST_QUALITY_DEVIATION, author.size)
        is_video = rng.random(author.size) < parameters.video_share
        lengths = np.clip(rng.lognormal(np.log(VIDEO_MS_MEDIAN), 0.8, author.size), *VIDEO_MS_LIMITS)
        drafts["video_ms"] = np.where(is_video, lengths, 0)
        drafts["photo"] = ~is_video & (rng.random(author.size) < parameters.photo_share)
        drafts["spam"] = people.spam[author]
        drafts["nsfw"] = people.nsfw[author]
        drafts["subscribers_only"] = people.has_subscribers[author] & (rng.random(author.size) < SUBSCRIBER_POSTS)
        drafts["original"] = drafts["root"] = -1
        self._draw_fates(drafts)
        return drafts

    def _draw_fates(self, drafts: npt.NDArray[np.void]) -> None:
        """Set when each post is deleted or labelled, NEVER for most."""
        rng, created = self._rng, drafts["created"]
        deleted = rng.random(drafts.size) < self.parameters.deleted_share
        after = 1 + (rng.exponential(DELETED_AFTER_H * HOUR_MS, drafts.size)).astype(np.int64)
        drafts["deleted_at"] = np.where(deleted, created + after, NEVER)
        labelled = (drafts["spam"] | drafts["nsfw"]) & (rng.random(drafts.size) < LABELLED)
        drafts["labelled_at"] = np.where(labelled, created + rng.integers(*LABELLED_AFTER_MS, drafts.size), NEVER)

    def publish_until(self, at: int) -> None:
        """Publish the originals drafted for times up to `at`."""
        while self._published < self._drafts.size and self._drafts["created"][self._published] <= at:
            draft = self._drafts[self._published]
            self._published += 1
            topic = int(draft["primary"])
            text = self._writer.spam(topic) if draft["spam"] else self._writer.post(topic, bool(draft["photo"]))
            self.publish(draft, text)

    def publish(
        self, draft: npt.NDArray[np.void], text: str, reply_to: int = -1, repost_of: int = -1, quote_of: int = -1
    ) -> int:
        """Publish a post (one element of POST), log what becomes of it, and return its row."""
        author = int(draft["author"])
        row = self.posts.add(draft, text, bool(self.has_string_id[author]))
        self.posts_of[author].append(row)
        self.heat.append(0.0)
        topics = dict.fromkeys(TOPICS[int(draft[name])].name for name in ("primary", "secondary"))
        ids, authors = self.posts.ids, self.posts.rows["author"]

        def id_of(other: int) -> int | str | None:
            return ids[other] if other >= 0 else None

        def author_of(other: int) -> int | str | None:
            return self.people_ids[authors[other]] if other >= 0 else None

        post, writer = ids[row], self.people_ids[author]
        self.events.append(
            PostCreated(
                at=int(draft["created"]),
                post=post,
                author=writer,
                text=text,
                language=LANGUAGE,
                topics=tuple(topics),
                video_ms=int(draft["video_ms"]),
                subscribers_only=bool(draft["subscribers_only"]),
                reply_to=id_of(reply_to),
                reply_to_author=author_of(reply_to),
                conversation=ids[self.posts.rows["root"][row]],
                repost_of=id_of(repost_of),
                repost_of_author=author_of(repost_of),
                quote_of=id_of(quote_of),
                quote_of_author=author_of(quote_of),
            )
        )
        if draft["labelled_at"] < self.end_ms:
            label = "spam" if draft["spam"] else "nsfw"
            self.events.append(PostLabelled(int(draft["labelled_at"]), post, writer, (label,)))
        if draft["deleted_at"] < self.end_ms:
            self.events.append(PostDeleted(int(draft["deleted_at"]), post, writer))
        return row

    def respond(self, person: int, at: int, row: int, kind: str) -> None:
        """Let a person repost, answer ("reply") or quote the post in `row`."""
        draft = self.posts.rows[row : row + 1].copy()
        draft["created"], draft["author"] = at, person
        draft["original"] = row if kind == "retweet" else -1
        draft["root"] = draft["root"] if kind == "reply" else -1
        draft["quote"] = kind == "quote"
        draft["deleted_at"] = draft["labelled_at"] = NEVER
        if kind == "retweet":
            self.publish(draft[0], self.posts.texts[row], repost_of=row)
            return
        draft["video_ms"], draft["photo"], draft["subscribers_only"] = 0, False, False
        draft["spam"], draft["nsfw"] = self.people.spam[person], self.people.nsfw[person]
        draft["quality"] = self.people.quality[person] + self._rng.normal(0.0, POST_QUALITY_DEVIATION)
        self._draw_fates(draft)
        topic = int(draft["primary"][0])
        if kind == "reply":
            self.publish(draft[0], self._writer.reply(topic), reply_to=row)
        else:
            self.publish(draft[0], self._writer.quote(topic), quote_of=row)

    def follow(self, person: int, author: int, at: int, undo: bool = False) -> None:
        """Let a person follow an author, or no longer."""
        if undo:
            self.follows[person].pop(author, None)
        else:
            self.follows[person][author] = None
        self.follow_changes.append((person, author, at, int(not undo)))
        self.events.append(Follow(at, self.people_ids[person], self.people_ids[author], undo))


def _person_id(row: int, string_id: bool) -> int | str:
    number = FIRST_PERSON_ID + row
    return f"did:sim:{base64.b32encode(number.to_bytes(5, 'big')).decode().lower()}" if string_id else number
