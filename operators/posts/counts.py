"""How often each post was shown and acted on so far: counted here, or told by the flow of post counts."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, keys_of
from operators.posts.key_index import KeyIndex
from operators.recent import RecentEvents, event_hashes
from operators.viewers.sequences import Actions
from schemas.actions import ACTION_INDEX, ACTIONS, COUNTED, COUNTS, Action
from schemas.events import Served
from schemas.feeds import PostCounts
from schemas.ids import key_of

U32 = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

COUNTS_FIRST: Final = 1024
# The actions in their order, then impressions.
SHOWN: Final = len(ACTIONS)
COLUMNS: Final = SHOWN + 1
# Counts take two bytes; those of so many and more, which few posts reach, lie apart.
LARGE: Final = np.iinfo(np.uint16).max
COUNT_MAX: Final = np.iinfo(np.uint32).max
# Up to so many are counted one by one: what columns cost before their first.
ONE_BY_ONE: Final = 8
# From the columns of a post to its kinds: their columns in a row, and where each kind begins.
_KIND_COLUMNS: Final = np.array([SHOWN, *(ACTION_INDEX[name] for names in COUNTED.values() for name in names)])
_KIND_STARTS: Final = np.cumsum([0, 1, *(len(names) for names in COUNTED.values())])[:-1]


class Changed(NamedTuple):
    """What some counts were before they changed: posts, columns and counts, one row each; no row comes twice."""

    keys: Keys
    columns: Places
    before: U32


class CountTable:
    """Counts of posts by key: of each of ACTIONS, and of impressions.

    With `changes` every change leaves there what was before it, oldest first.
    """

    def __init__(self) -> None:
        self._clear(COUNTS_FIRST)
        self.changes: deque[Changed] | None = None

    def _clear(self, room: int) -> None:
        self._index = KeyIndex(room)
        self._counts: npt.NDArray[np.uint16] = np.zeros((room, COLUMNS), np.uint16)
        self._large: dict[int, int] = {}  # by place in the flat columns

    def __len__(self) -> int:
        return len(self._index)

    def memory_bytes(self) -> int:
        """Return the bytes of counts and index; the few large counts are left out."""
        return self._counts.nbytes + self._index.memory_bytes()

    def put(self, told: Sequence[PostCounts]) -> None:
        """Take in counts; each replaces what was known of its post."""
        counts = np.zeros((len(told), COLUMNS), np.int64)
        for row, one in enumerate(told):
            counts[row, SHOWN] = min(one.shown, COUNT_MAX)
            for action, count in one.counts.items():
                counts[row, ACTION_INDEX[action]] = min(count, COUNT_MAX)
        slots, last = np.unique(self._slots_of(keys_of([one.post for one in told]))[::-1], return_index=True)
        counts = counts[::-1][last]
        for row, column in np.argwhere((self._counts[slots] == LARGE) | (counts >= LARGE)).tolist():
            self._write(int(slots[row]) * COLUMNS + column, int(counts[row, column]))
        self._counts[slots] = np.minimum(counts, LARGE)

    def add(self, keys: Keys, columns: Places, amounts: npt.NDArray[np.int64]) -> None:
        """Count n times: `amounts` int64[n] of columns of posts; no count falls below 0, however they are cut."""
        if not len(keys):
            return
        if len(keys) <= ONE_BY_ONE:
            slots = np.array([self._slot_of(key) for key in keys.tolist()], np.int64)
        else:
            slots = self._slots_of(keys)
        places = slots * COLUMNS + columns
        if self.changes is not None:
            once, first = np.unique(places, return_index=True)
            self.changes.append(Changed(keys[first], columns[first], self._read(once)))
        if len(keys) <= ONE_BY_ONE:
            self._add_one_by_one(places, amounts)
            return
        # Where something is taken back, the order decides what would fall below 0.
        apart = np.isin(places, places[amounts < 0]) if (amounts < 0).any() else np.zeros(len(places), np.bool_)
        self._add_one_by_one(places[apart], amounts[apart])
        once, at = np.unique(places[~apart], return_inverse=True)
        totals = self._read(once).astype(np.int64) + np.bincount(at, amounts[~apart], len(once)).astype(np.int64)
        small = totals < LARGE
        self._counts.reshape(-1)[once[small]] = totals[small]
        for place, total in zip(once[~small].tolist(), totals[~small].tolist(), strict=True):
            self._write(place, total)

    def _add_one_by_one(self, places: Places, amounts: npt.NDArray[np.int64]) -> None:
        flat = self._counts.reshape(-1)
        for place, amount in zip(places.tolist(), amounts.tolist(), strict=True):
            count = int(flat[place])
            self._write(place, max(0, (self._large[place] if count == LARGE else count) + amount))

    def _write(self, place: int, count: int) -> None:
        flat = self._counts.reshape(-1)
        if flat[place] == LARGE:
            del self._large[place]
        flat[place] = min(count, LARGE)
        if count >= LARGE:
            self._large[place] = min(count, COUNT_MAX)

    def _read(self, places: Places) -> U32:
        """Return the counts at places, uint32 of their shape."""
        counts = self._counts.reshape(-1)[places].astype(np.uint32)
        if self._large:
            large = counts == LARGE
            counts[large] = [self._large[place] for place in places[large].tolist()]
        return counts

    def kinds(self, keys: Keys) -> U32:
        """Return the counts of posts by `schemas.actions.COUNT_NAMES`, uint32[n, COUNTS]; 0 where nothing is known."""
        kinds: U32 = np.zeros((len(keys), COUNTS), np.uint32)
        slots = self._index.find(keys)
        known = np.flatnonzero(slots >= 0)
        kinds[known] = kinds_of(self._rows(slots[known]))
        return kinds

    def columns(self, keys: Keys) -> U32:
        """Return the counts of posts, uint32[n, COLUMNS]; 0 where nothing is known."""
        slots = self._index.find(keys)
        counts = self._rows(np.maximum(slots, 0))
        counts[slots < 0] = 0
        return counts

    def _rows(self, slots: Places) -> U32:
        """Return the counts of slots, uint32[n, COLUMNS]."""
        counts = self._counts.take(slots, axis=0).astype(np.uint32)
        if self._large:
            rows, columns = np.nonzero(counts == LARGE)
            places = slots[rows] * COLUMNS + columns
            counts[rows, columns] = [self._large[place] for place in places.tolist()]
        return counts

    def of(self, key: int) -> dict[Action, int]:
        """Return the counts of a post that are not 0, by action."""
        counts = self.columns(np.array([key], np.uint64))[0].tolist()
        return {action: count for action, count in zip(ACTIONS, counts, strict=False) if count}

    def keys(self) -> Keys:
        """Return the posts that have counts, in the order they came."""
        keys, slots = self._index.items()
        return keys[np.argsort(slots)]

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Forget all posts but those marked, in the order of `keys`."""
        places = np.flatnonzero(kept)
        keys, counts, large = self.keys()[places], self._counts[places], self._large
        self._clear(max(COUNTS_FIRST, 2 * len(keys)))
        self._counts[: len(keys)] = counts
        self._index.insert(keys, np.arange(len(keys)))
        if large:
            moved = dict(zip(places.tolist(), range(len(places)), strict=True))
            for place, count in large.items():
                slot, column = divmod(place, COLUMNS)
                if slot in moved:
                    self._large[moved[slot] * COLUMNS + column] = count

    def _slot_of(self, key: int) -> int:
        slot = self._index.find_one(key)
        return slot if slot >= 0 else int(self._give(np.array([key], np.uint64))[0])

    def _slots_of(self, keys: Keys) -> Places:
        slots = self._index.find(keys)
        missing = np.unique(keys[slots < 0])
        if len(missing):
            self._give(missing)
            slots = self._index.find(keys)
        return slots

    def _give(self, keys: Keys) -> Places:
        """Return slots for posts that have none."""
        slots = np.arange(len(self._index), len(self._index) + len(keys))
        while len(self._index) + len(keys) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._index.insert(keys, slots)
        return slots


def kinds_of(columns: U32) -> U32:
    """Return counts [..., COLUMNS] by `schemas.actions.COUNT_NAMES`, uint32[..., COUNTS]."""
    kinds: U32 = np.add.reduceat(columns[..., _KIND_COLUMNS], _KIND_STARTS, axis=-1)
    return kinds


class Counting:
    """The rule by which events count, for whoever counts: the intake of a log, and the flow of post counts.

    An action counts one, undone it counts one less; a post that a feed showed counts as shown once. What comes again
    within a short time (`RecentEvents`) does not count again.
    """

    def __init__(self, table: CountTable) -> None:
        self._table = table
        self._recent = RecentEvents()

    def take(self, actions: Actions | None, served: Sequence[Served]) -> None:
        """Count actions, whose column `slot` holds viewer keys, and what was served."""
        if actions is not None and len(actions.post):
            undo = actions.undo.astype(np.int64)
            what = actions.action + (undo << 8)
            new = self._recent.new(event_hashes(actions.slot, actions.post, what, actions.at_ms))
            columns = actions.action.astype(np.int64)
            amounts = 1 - 2 * undo
            if not new.all():
                self._table.add(actions.post[new], columns[new], amounts[new])
            else:
                self._table.add(actions.post, columns, amounts)
        for one in served:
            about = (np.array([value], np.uint64) for value in (key_of(one.viewer), key_of(one.request), one.at))
            if self._recent.new(event_hashes(*about))[0]:
                posts = np.unique(keys_of(one.posts))
                self._table.add(posts, np.full(len(posts), SHOWN), np.ones(len(posts), np.int64))
