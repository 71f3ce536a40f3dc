"""The join: what was served with the engagements that follow it, as examples; what comes too late apart.

    features ────┐
                 ├─▶ by time ─▶ labels ─▶ examples, once nothing has come for `inactivity_s`
    engagements ─┘                └─────▶ late: on an example that is closed, or on nothing served

What has been taken waits until `close` says that nothing of before that time still comes, and goes through in the order
of time. So the outcome does not depend on how the two kinds come in between each other, nor on how they are cut into
batches. The time that decides is one clock's for both: the features' `served_at` and the engagements' own `at`, unless
the caller names others. On Kafka it names the broker's, so that a producer's wrong clock moves no label.
"""

import heapq
import struct
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import xxhash
from msgspec.structs import replace

from flows.learning.messages import labelled
from operators.decode import DWELL_S_KEPT
from schemas.actions import ACTION_INDEX, DWELL_TIME
from schemas.events import Engagement
from schemas.ids import Id, key_of
from schemas.learning import LateEngagement, ServedFeatures, TrainingExample

LATE: Final = "late"
NOT_SERVED: Final = "not_served"
# What makes an engagement the same as another: post, action, its own time, dwell time in seconds.
Act = tuple[int, int, int, float]
# Of features and engagements of one millisecond features come first; the rest makes the order the same every time.
_FEATURES, _ENGAGEMENT = 0, 1


class ServedFeed(msgspec.Struct):
    """A feed that takes labels, or is remembered for those that come too late; then it has no columns any more.

    `asked` names the request that it answers, `place` itself. Times are the join's, in ms. `posts` are the posts' keys
    and `acts` fingerprints of what was done, of eight bytes each: a day of feeds is remembered, and lists would take
    five times the memory.
    """

    place: int
    asked: Id
    opened_ms: int
    last_ms: int
    features: ServedFeatures
    posts: bytes
    actions: list[int]
    dwell_s: list[float]
    acts: bytes = b""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """What a step of the join gave: examples, and engagements that no example took, each with its message's place."""

    examples: list[tuple[int, TrainingExample]] = field(default_factory=list)
    late: list[tuple[int, LateEngagement]] = field(default_factory=list)
    # Of deleted users, of whom nothing is made: features and engagements.
    passed_features: list[int] = field(default_factory=list)
    passed_engagements: list[int] = field(default_factory=list)


@dataclass(slots=True)
class JoinCounts:
    """What came of all that was taken: of features `repeated` came again, `replaced` are of feeds that never went out;
    engagements are `labels`, `late`, on something `not_served`, or `repeated_acts`; `deleted` users made either.
    """

    examples: int = 0
    repeated: int = 0
    replaced: int = 0
    labels: int = 0
    late: int = 0
    not_served: int = 0
    repeated_acts: int = 0
    deleted: int = 0


class Joining:
    """The join of some viewers, all of each viewer's feeds and engagements."""

    def __init__(self, inactivity_s: int, late_s: int) -> None:
        self._inactivity_ms = inactivity_s * 1000
        self._late_ms = late_s * 1000
        # Engagements that no example took, for whoever calls `close` to take away.
        self.late: list[LateEngagement] = []
        self.counts = JoinCounts()
        # A heap: the order of time, the order of coming, place, what it is and what asked for it.
        self._waiting: list[tuple[tuple[Any, ...], int, int, Any, Id]] = []
        self._taken = 0
        self._feeds: dict[int, ServedFeed] = {}
        # Those that take labels, by place, in the order in which they were opened.
        self._open_feeds: dict[int, ServedFeed] = {}
        self._of_viewer: dict[int, list[ServedFeed]] = {}
        # When to look at a feed again, to close or to forget it.
        self._due: list[tuple[int, int]] = []
        self._changed: set[int] = set()
        self._gone: set[int] = set()
        # Keys of viewers who were deleted.
        self._deleted: set[int] = set()

    @property
    def open(self) -> int:
        """How many feeds still take labels."""
        return len(self._open_feeds)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest feed was served that still takes labels, by the join's clock; None where none does."""
        return next((feed.opened_ms for feed in self._open_feeds.values()), None)

    @property
    def waiting(self) -> int:
        """How many of what was taken wait for their time."""
        return len(self._waiting)

    def is_open(self, place: int) -> bool:
        """Return whether the feed of a place still takes labels."""
        return place in self._open_feeds

    def take_features(self, features: Iterable[ServedFeatures]) -> None:
        """Take feeds, at the times they were served; one that comes twice counts once."""
        for one in features:
            self.put_features(one, one.served_at, self._taken, one.request)

    def take_engagements(self, engagements: Iterable[Engagement]) -> None:
        """Take engagements, at their own times; one that comes twice counts once, and an `undo` is none."""
        for one in engagements:
            self.put_engagement(one, one.at, self._taken)

    def put_features(self, features: ServedFeatures, at_ms: int, place: int, asked: Id) -> None:
        """Take a feed at a time of the caller's clock. `asked` names its request: of several features of one request
        the last count, as long as those before them are open.
        """
        order = (at_ms, _FEATURES, str(features.viewer), str(asked))
        self._wait(order, place, features, asked)

    def put_engagement(self, engagement: Engagement, at_ms: int, place: int) -> None:
        """Take an engagement at a time of the caller's clock."""
        if not engagement.undo:
            order = (at_ms, _ENGAGEMENT, key_of(engagement.viewer), *_act(engagement))
            self._wait(order, place, engagement, 0)

    def close(self, until_ms: int) -> list[TrainingExample]:
        """Return the examples that closed before a time, in the order they closed; nothing of before it may still come.

        What does come counts as it would have, but for examples that are closed already.
        """
        joined = self.advance(until_ms)
        self.late += [one for _, one in joined.late]
        return [example for _, example in joined.examples]

    def advance(self, until_ms: int) -> Joined:
        """Return what `close` returns with the places of features, and what came late with those of engagements."""
        joined = Joined()
        while self._waiting and self._waiting[0][0][0] < until_ms:
            (at_ms, kind, *_), _, place, what, asked = heapq.heappop(self._waiting)
            if self._deleted and key_of(what.viewer) in self._deleted:
                (joined.passed_features if kind == _FEATURES else joined.passed_engagements).append(place)
                self.counts.deleted += 1
            elif kind == _FEATURES:
                self._open(what, at_ms, place, asked)
            else:
                self._engage(what, at_ms, place, joined)
        self._look_again(until_ms, joined)
        return joined

    def forget_viewer(self, viewer: int) -> list[int]:
        """Forget a viewer (its key) for good: no example is made of feeds that are open, and nothing later is taken.

        Returns the places of those feeds.
        """
        self._deleted.add(viewer)
        feeds = list(self._of_viewer.get(viewer, ()))
        places = [feed.place for feed in feeds if not feed.closed]
        for feed in feeds:
            self._forget(feed)
        self.counts.deleted += len(places)
        return places

    def _wait(self, order: tuple[Any, ...], place: int, what: ServedFeatures | Engagement, asked: Id) -> None:
        self._taken += 1
        heapq.heappush(self._waiting, (order, self._taken, place, what, asked))

    # -- what is durable

    def take_changed(self) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Return the feeds that changed since the last call, by place, and the places of those that are gone.

        What waits for its time is in neither: it must be taken again.
        """
        puts = [(place, msgspec.msgpack.encode(self._feeds[place])) for place in sorted(self._changed)]
        gone = sorted(self._gone)
        self._changed, self._gone = set(), set()
        return puts, gone

    def restore(self, records: Iterable[bytes]) -> None:
        """Take in feeds as `take_changed` gave them."""
        feeds = [msgspec.msgpack.decode(raw, type=ServedFeed) for raw in records]
        for feed in sorted(feeds, key=_by_opening):
            self._keep(feed)
        self._changed.clear()

    # -- features

    def _open(self, features: ServedFeatures, at_ms: int, place: int, asked: Id) -> None:
        viewer = key_of(features.viewer)
        for feed in self._of_viewer.get(viewer, ()):
            if feed.asked != asked or at_ms > self._forgets_ms(feed):
                continue
            if feed.features == features or not self._takes(feed, at_ms):
                self.counts.repeated += 1
                return
            # The job died before this feed went out, and has answered the request anew.
            self.counts.replaced += 1
            self._forget(feed)
            break
        posts = b"".join(_packed(key_of(post)) for post in features.posts)
        rows = len(features.posts)
        self._keep(ServedFeed(place, asked, at_ms, at_ms, features, posts, [0] * rows, [0.0] * rows))

    def _keep(self, feed: ServedFeed) -> None:
        self._feeds[feed.place] = feed
        if not feed.closed:
            self._open_feeds[feed.place] = feed
        of_viewer = self._of_viewer.setdefault(key_of(feed.features.viewer), [])
        insort(of_viewer, feed, key=_by_opening)
        heapq.heappush(self._due, (self._forgets_ms(feed) if feed.closed else self._closes_ms(feed), feed.place))
        self._changed.add(feed.place)
        self._gone.discard(feed.place)

    def _forget(self, feed: ServedFeed) -> None:
        viewer = key_of(feed.features.viewer)
        self._of_viewer[viewer].remove(feed)
        if not self._of_viewer[viewer]:
            del self._of_viewer[viewer]
        del self._feeds[feed.place]
        self._open_feeds.pop(feed.place, None)
        self._changed.discard(feed.place)
        self._gone.add(feed.place)

    # -- engagements

    def _engage(self, engagement: Engagement, at_ms: int, place: int, joined: Joined) -> None:
        """Enter a label in the latest feed that shows the post and is open, or say why there is none."""
        act = _act(engagement)
        mark = _fingerprint(act)
        showing = [
            feed
            for feed in reversed(self._of_viewer.get(key_of(engagement.viewer), ()))
            if _row_of(feed.posts, act[0]) >= 0 and feed.opened_ms <= at_ms <= self._forgets_ms(feed)
        ]
        if any(_row_of(feed.acts, mark) >= 0 for feed in showing):
            self.counts.repeated_acts += 1
            return
        taking = next((feed for feed in showing if self._takes(feed, at_ms)), None)
        if taking is not None:
            self._label(taking, act, at_ms)
            return
        late = LateEngagement(engagement.at, engagement.viewer, engagement.post, engagement.action, NOT_SERVED)
        if showing:
            feed = showing[0]
            feed.acts += _packed(mark)
            self._changed.add(feed.place)
            late_s = max(0, at_ms - self._closes_ms(feed)) / 1000
            late = replace(late, reason=LATE, request=feed.features.request, late_s=late_s)
        self.counts.late += bool(showing)
        self.counts.not_served += not showing
        joined.late.append((place, late))

    def _label(self, feed: ServedFeed, act: Act, at_ms: int) -> None:
        post, action, _, dwell_s = act
        row = _row_of(feed.posts, post)
        feed.actions[row] |= 1 << action
        if action == DWELL_TIME:
            feed.dwell_s[row] = max(feed.dwell_s[row], dwell_s)
        feed.acts += _packed(_fingerprint(act))
        feed.last_ms = max(feed.last_ms, at_ms)
        self._changed.add(feed.place)
        self.counts.labels += 1

    # -- times

    def _closes_ms(self, feed: ServedFeed) -> int:
        return feed.last_ms + self._inactivity_ms

    def _forgets_ms(self, feed: ServedFeed) -> int:
        return self._closes_ms(feed) + self._late_ms

    def _takes(self, feed: ServedFeed, at_ms: int) -> bool:
        return not feed.closed and at_ms <= self._closes_ms(feed)

    def _look_again(self, until_ms: int, joined: Joined) -> None:
        """Close and forget the feeds whose time has come."""
        closing: list[ServedFeed] = []
        while self._due and self._due[0][0] < until_ms:
            _, place = heapq.heappop(self._due)
            feed = self._feeds.get(place)
            if feed is None:
                continue
            if self._forgets_ms(feed) < until_ms and feed.closed:
                self._forget(feed)
            elif not feed.closed and self._closes_ms(feed) < until_ms:
                feed.closed = True
                del self._open_feeds[place]
                closing.append(feed)
                heapq.heappush(self._due, (self._forgets_ms(feed), place))
            else:
                heapq.heappush(self._due, (self._forgets_ms(feed) if feed.closed else self._closes_ms(feed), place))
        closing.sort(key=lambda feed: (feed.last_ms, *_by_opening(feed)))
        for feed in closing:
            example = labelled(feed.features, self._closes_ms(feed), feed.actions, feed.dwell_s)
            joined.examples.append((feed.place, example))
            # What is late is told by posts and acts alone.
            feed.features = replace(feed.features, columns={}, posts=())
            feed.actions, feed.dwell_s = [], []
            self._changed.add(feed.place)
        self._changed -= self._gone
        self.counts.examples += len(closing)


def _by_opening(feed: ServedFeed) -> tuple[int, str, str]:
    return feed.opened_ms, str(feed.features.viewer), str(feed.asked)


def _act(engagement: Engagement) -> Act:
    action = ACTION_INDEX[engagement.action]
    return key_of(engagement.post), action, engagement.at, min(engagement.dwell_s, float(DWELL_S_KEPT))


def _fingerprint(act: Act) -> int:
    """Return 64 bits that stand for an act: two of one feed are the same by chance once in 2^64."""
    return xxhash.xxh3_64_intdigest(struct.pack("<QBqd", *act))


def _packed(key: int) -> bytes:
    return key.to_bytes(8, "little")


def _row_of(packed: bytes, key: int) -> int:
    """Return the first row of a key among packed ones, -1 where it is not there."""
    raw = _packed(key)
    at = packed.find(raw)
    while at > 0 and at % 8:
        at = packed.find(raw, at + 1)
    return at // 8
