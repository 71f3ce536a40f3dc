"""People who liked what you liked: the latest actions of everybody, and what they say of a viewer's candidates.

Actions stand in a ring of columns, chained twice: each knows the one before it of the same post and the one before it
of the same viewer. So a post that nobody touches takes next to nothing, and a popular one costs a bounded walk.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.inputs import CO_LIKED, IDLE_UNKNOWN_S, U32, untouched
from operators.keys import Keys, contains, keys_of
from operators.posts.key_index import KeyIndex
from operators.viewers.sequences import Actions
from schemas.actions import ACTION_INDEX, Action
from schemas.events import PostCreated, PostEvent

Sequence = npt.NDArray[np.int64]  # numbers of actions, counted from the first ever
Slots = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]
Column = TypeVar("Column", bound=npt.NDArray[np.generic])

NONE: Final = -1
NOBODY: Final = 0  # the slot of viewers who were forgotten: it has no chain
SLOTS_FIRST: Final = 1024
BLOCKS: Final = 16
HOUR_MS: Final = 3_600_000
# The half-lives of the two rates: what is hot, and what was talked of today.
HALF_LIVES_MS: Final = (HOUR_MS, 12 * HOUR_MS)
# Rates are told in eighths of an action, so that one that fades isn't nothing at once.
RATE_UNITS: Final = 8
# A viewer who likes, opens and shares a post does it within this many actions: it counts once.
AGAIN_WITHIN: Final = 8

# To like, here, is to stand up for a post before others; opening or looking at one isn't.
LIKES: Final[tuple[Action, ...]] = (
    "favorite", "reply", "retweet", "quote", "share", "share_via_dm", "share_via_copy_link"
)  # fmt: skip
_LIKED: Final = np.isin(np.arange(len(ACTION_INDEX)), [ACTION_INDEX[name] for name in LIKES])


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a walk goes: bounds what one request costs. Where there are more, the newest count.

    Of a viewer `posts_max` posts are looked at, of each of them `engagers_max` people; of these the `alike_max` that
    have most in common with the viewer, and of each `recent_max` actions within `window_ms`.
    """

    posts_max: int = 64
    engagers_max: int = 128
    alike_max: int = 512
    recent_max: int = 32
    window_ms: int = 24 * HOUR_MS


class Circle(NamedTuple):
    """The posts that people like a viewer acted on, as slots in ascending order, and the affinity to each, int64[n]."""

    posts: Slots
    affinity: npt.NDArray[np.int64]


class _Chains:
    """Slots by key, and the newest action of each; a slot without actions goes to another key."""

    def __init__(self) -> None:
        self._index = KeyIndex(SLOTS_FIRST)
        self._free: list[int] = []
        self._end = NOBODY + 1
        self.keys: Keys = np.zeros(SLOTS_FIRST, np.uint64)
        self.newest: Sequence = np.full(SLOTS_FIRST, NONE, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def room(self) -> int:
        """How many slots there are."""
        return len(self.keys)

    def find(self, keys: Keys) -> Slots:
        """Return the slot of each key, NONE where it has none."""
        return self._index.find(keys)

    def give(self, keys: Keys) -> Slots:
        """Return the slot of each key; keys without one get one."""
        slots = self._index.find(keys)
        missing = np.unique(keys[slots == NONE])
        if len(missing):
            again = [self._free.pop() for _ in range(min(len(missing), len(self._free)))]
            first, self._end = self._end, self._end + len(missing) - len(again)
            new = np.array([*again, *range(first, self._end)], np.int64)
            while self._end > self.room:
                self.keys, self.newest = _doubled(self.keys), _doubled(self.newest)
            self.keys[new], self.newest[new] = missing, NONE
            self._index.insert(missing, new)
            slots = self._index.find(keys)
        return slots

    def link(self, slots: Slots, numbers: Sequence) -> Sequence:
        """Put actions at the end of their chains; return the action before each, NONE where it is the first."""
        order = np.argsort(slots, kind="stable")
        sorted_slots, sorted_numbers = slots[order], numbers[order]
        same = sorted_slots[1:] == sorted_slots[:-1]
        before = self.newest[sorted_slots]
        before[1:][same] = sorted_numbers[:-1][same]
        last = np.append(~same, True)
        self.newest[sorted_slots[last]] = sorted_numbers[last]
        out = np.empty_like(before)
        out[order] = before
        return out

    def release(self, slots: Slots, numbers: Sequence) -> Slots:
        """Take back the slots whose newest action is the one given for them; return them."""
        gone = np.unique(slots[self.newest[slots] == numbers])
        if len(gone):
            self._index.remove(self.keys[gone])
            self.keys[gone], self.newest[gone] = 0, NONE
            self._free += gone.tolist()
        return gone

    def memory_bytes(self) -> int:
        """Return the bytes of index and columns."""
        return self._index.memory_bytes() + self.keys.nbytes + self.newest.nbytes + 8 * len(self._free)


class CoLikers:
    """The latest positive actions of everybody: up to `capacity`, a power of two, the oldest sixteenth going at once.

    Deterministic: what it tells follows from the actions and their order alone. All affinities are whole numbers.
    """

    def __init__(self, capacity: int = 2**18, reach: Reach | None = None) -> None:
        if capacity & (capacity - 1):
            raise ValueError(f"a ring of {capacity} actions: the number must be a power of two")
        self._reach = reach or Reach()
        self._mask = capacity - 1
        self._block = max(capacity // BLOCKS, 1)
        self._begin = self.end = 0  # numbers of the first action there is, and of the next to come
        self._posts, self._viewers = _Chains(), _Chains()
        self._post: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self._viewer: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self._at_ms: Times = np.zeros(capacity, np.int64)
        self._before_of_post: Sequence = np.full(capacity, NONE, np.int64)
        self._before_of_viewer: Sequence = np.full(capacity, NONE, np.int64)
        self._rates: tuple[Rates, Rates] = (np.zeros(SLOTS_FIRST), np.zeros(SLOTS_FIRST))
        self._rated_ms: Times = np.zeros(SLOTS_FIRST, np.int64)

    def __len__(self) -> int:
        return self.end - self._begin

    def memory_bytes(self) -> int:
        """Return the bytes of all columns."""
        columns = (self._post, self._viewer, self._at_ms, self._before_of_post, self._before_of_viewer)
        chains = self._posts.memory_bytes() + self._viewers.memory_bytes()
        return chains + sum(one.nbytes for one in (*columns, *self._rates, self._rated_ms))

    # -- taking in

    def take_events(self, created: Iterable[PostEvent], actions: Actions | None) -> None:
        """Take a poll: who wrote a post is the first who likes it, then come all viewers' actions, in their order."""
        originals = [one for one in created if isinstance(one, PostCreated) and one.repost_of is None]
        if originals:
            at_ms = np.array([one.at for one in originals], np.int64)
            self.take(keys_of([one.author for one in originals]), keys_of([one.post for one in originals]), at_ms)
        if actions is not None:
            likes = np.flatnonzero(_LIKED[actions.action] & ~actions.undo)
            self.take(actions.slot[likes].view(np.uint64), actions.post[likes], actions.at_ms[likes])

    def take(self, viewer: Keys, post: Keys, at_ms: Times) -> None:
        """Take actions in their order; a post that is among a viewer's latest few already is passed over."""
        new = self._first_times(viewer, post)
        viewer, post, at_ms = viewer[new], post[new], at_ms[new]
        start = 0
        while start < len(viewer):
            # Cut where a block of the ring begins, so that what is forgotten when doesn't depend on how actions come.
            stop = start + self._block - self.end % self._block
            self._append(viewer[start:stop], post[start:stop], at_ms[start:stop])
            start = stop

    def _append(self, viewer: Keys, post: Keys, at_ms: Times) -> None:
        if self.end % self._block == 0 and self.end > self._mask:
            self._drop(np.arange(self._begin, self._begin + self._block))
        numbers = np.arange(self.end, self.end + len(viewer))
        posts, viewers, places = self._posts.give(post), self._viewers.give(viewer), numbers & self._mask
        self._post[places], self._viewer[places], self._at_ms[places] = posts, viewers, at_ms
        self._before_of_post[places] = self._posts.link(posts, numbers)
        self._before_of_viewer[places] = self._viewers.link(viewers, numbers)
        self._rate(posts, at_ms)
        self.end += len(viewer)

    def _first_times(self, viewer: Keys, post: Keys) -> npt.NDArray[np.intp]:
        """Return which actions are on posts that aren't among the viewer's latest, in their order."""
        viewers = np.unique(viewer)
        owners, numbers = self._walk(self._viewers, self._viewers.find(viewers), AGAIN_WITHIN)
        latest: dict[int, list[int]] = {key: [] for key in viewers.tolist()}
        posts = self._posts.keys[self._post[numbers & self._mask]]
        for key, one in zip(viewers[owners].tolist(), posts.tolist(), strict=True):
            latest[key].append(one)  # the newest comes first
        kept = []
        for place, (key, one) in enumerate(zip(viewer.tolist(), post.tolist(), strict=True)):
            before = latest[key]
            if one not in before:
                kept.append(place)
                before.insert(0, one)
                del before[AGAIN_WITHIN:]
        return np.array(kept, np.intp)

    def _drop(self, numbers: Sequence) -> None:
        """Forget the oldest actions: viewers and posts that nothing newer tells of give back their slots."""
        self._begin += len(numbers)
        places = numbers & self._mask
        self._viewers.release(self._viewer[places].astype(np.int64), numbers)
        posts = self._posts.release(self._post[places].astype(np.int64), numbers)
        for rate in self._rates:
            rate[posts] = 0.0
        self._rated_ms[posts] = 0

    def _rate(self, posts: Slots, at_ms: Times) -> None:
        while len(self._rated_ms) < self._posts.room:
            self._rates = (_doubled(self._rates[0]), _doubled(self._rates[1]))
            self._rated_ms = _doubled(self._rated_ms)
        some = np.unique(posts)
        before_ms = self._rated_ms[some]
        np.maximum.at(self._rated_ms, posts, at_ms)
        for rate, half_life_ms in zip(self._rates, HALF_LIVES_MS, strict=True):
            rate[some] *= _faded(self._rated_ms[some] - before_ms, half_life_ms)
            np.add.at(rate, posts, _faded(self._rated_ms[posts] - at_ms, half_life_ms))

    def forget(self, viewer: int) -> None:
        """Forget who did what a viewer did; it still counts for the posts, as done by nobody."""
        slots = self._viewers.find(np.array([viewer], np.uint64))
        _, numbers = self._walk(self._viewers, slots, self._mask + 1)
        if len(numbers):
            self._viewer[numbers & self._mask] = NOBODY
            self._viewers.release(slots, numbers[:1])

    # -- asking

    def circle(self, viewer: int, at_ms: int) -> Circle:
        """Return the posts that people like a viewer acted on within the window before `at_ms`."""
        reach, mask = self._reach, self._mask
        me = self._viewers.find(np.array([viewer], np.uint64))
        _, mine = self._walk(self._viewers, me, reach.posts_max)
        _, theirs = self._walk(self._posts, self._post[mine & mask].astype(np.int64), reach.engagers_max)
        people, common = np.unique(self._viewer[theirs & mask], return_counts=True)
        others = (people != me[0]) & (people != NOBODY)
        people, common = people[others], common[others]
        if len(people) > reach.alike_max:
            # Of those who have as much in common, the ones whose last action is the newest.
            newest = self._viewers.newest[people]
            chosen = np.lexsort((newest, common))[-reach.alike_max :]
            people, common = people[chosen], common[chosen]
        owners, numbers = self._walk(self._viewers, people.astype(np.int64), reach.recent_max)
        places = numbers & mask
        times = self._at_ms[places]
        recent = (times > at_ms - reach.window_ms) & (times <= at_ms)
        posts, group = np.unique(self._post[places[recent]], return_inverse=True)
        affinity = np.bincount(group, weights=common[owners[recent]], minlength=len(posts))
        return Circle(posts.astype(np.int64), affinity.astype(np.int64))

    def columns(self, circle: Circle, posts: Keys, at_ms: int) -> U32:
        """Return what is told of posts to the viewer of a circle, u32[n, CO_LIKED] by models.inputs.CO_LIKED_NAMES."""
        out = untouched(len(posts))
        slots = self._posts.find(posts)
        known = np.flatnonzero(slots != NONE)
        slots = slots[known]
        if len(circle.posts):
            held = np.flatnonzero(contains(circle.posts.view(np.uint64), slots.view(np.uint64)))
            out[known[held], 0] = circle.affinity[np.searchsorted(circle.posts, slots[held])]
        since_ms = np.maximum(at_ms - self._rated_ms[slots], 0)
        for column, (rate, half_life_ms) in enumerate(zip(self._rates, HALF_LIVES_MS, strict=True), 1):
            out[known, column] = RATE_UNITS * rate[slots] * _faded(since_ms, half_life_ms)
        out[known, CO_LIKED - 1] = np.minimum(since_ms // 1000, IDLE_UNKNOWN_S)
        return out

    def active(self, since_ms: int) -> Keys:
        """Return the posts that somebody acted on since a time, in no order that means anything."""
        active: Keys = self._posts.keys[(self._posts.newest != NONE) & (self._rated_ms >= since_ms)]
        return active

    def latest(self, viewer: int, count: int) -> Keys:
        """Return the latest posts that a viewer acted on, newest first, as far back as the ring goes."""
        _, numbers = self._walk(self._viewers, self._viewers.find(np.array([viewer], np.uint64)), count)
        posts: Keys = self._posts.keys[self._post[numbers & self._mask]]
        return posts

    def candidates(self, circle: Circle, count: int) -> Keys:
        """Return the `count` posts of a circle with the highest affinity, of equals those acted on last."""
        newest = self._posts.newest[circle.posts]
        return self._posts.keys[circle.posts[np.lexsort((-newest, -circle.affinity))[:count]]]

    def _walk(self, chains: _Chains, slots: Slots, steps: int) -> tuple[npt.NDArray[np.intp], Sequence]:
        """Return the newest `steps` actions of each slot: which slot they are of, and their numbers."""
        before = self._before_of_post if chains is self._posts else self._before_of_viewer
        owners = np.flatnonzero(slots != NONE)
        numbers = chains.newest[slots[owners]]
        all_owners, all_numbers = [], []
        for _ in range(steps):
            there = numbers >= self._begin
            # A tenth of the time of there.all(), for the few that are left after some steps.
            count = np.count_nonzero(there)
            if not count:
                break
            if count < len(there):
                owners, numbers = owners[there], numbers[there]
            all_owners.append(owners)
            all_numbers.append(numbers)
            numbers = before[numbers & self._mask]
        if not all_owners:
            return np.empty(0, np.intp), np.empty(0, np.int64)
        return np.concatenate(all_owners), np.concatenate(all_numbers)


def _doubled(column: Column) -> Column:
    return np.concatenate([column, np.zeros_like(column)])  # type: ignore[return-value]


def _faded(age_ms: Times, half_life_ms: int) -> Rates:
    faded: Rates = np.exp2(-age_ms / half_life_ms)
    return faded
