"""Action sequences: each viewer's last groups of actions, in columns, ready for the ranker (x-algorithm.md 1.5, 3.1).

Raw actions on one post within five minutes of the group's last one form a group; a group is one token of history. Of
several dwell times the longest counts, so that an event delivered twice changes nothing. Times are whole seconds. One
row of a slab holds one viewer's groups as a ring: 30 bytes a group, 3,840 bytes a viewer at 128 groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.inputs import History
from operators.interner import Interner
from operators.keys import Keys
from operators.viewers.tallies import NO_TALLY, Tallies, without_acts

Slots = npt.NDArray[np.int64]

SURFACE_SHIFT = 24  # the 19 action bits leave the top byte of the word free for the surface (0 to 15)
ACTION_BITS = (1 << SURFACE_SHIFT) - 1
NO_TERMS = 4
SLOTS_FIRST = 64
# Up to so many actions are taken one by one: the sixty column operations of a batch cost as much as about these.
ONE_BY_ONE = 8
# A group as it is stored, 34 bytes: authors by their keys, since handles mean nothing to another process.
GROUP: Final = np.dtype(
    [("post", "<u8"), ("author", "<u8"), ("terms", "<u2", 4), ("actions", "<u4"), ("at_s", "<u4"), ("dwell_s", "<f2")]
)
# The columns of a group that are stored as they are; authors are interned.
_PLAIN: Final = ("post", "terms", "actions", "at_s", "dwell_s")
# Viewers whose groups are brought into the form of the store at once: 1 MB, which stays in the processor's cache.
_AT_ONCE: Final = 256


class Actions(NamedTuple):
    """Raw actions as columns of one length, in the order they came; `terms` are those of the post, uint16[n, 4]."""

    slot: Slots
    post: Keys
    author: Keys
    terms: npt.NDArray[np.uint16]
    action: npt.NDArray[np.uint8]
    undo: npt.NDArray[np.bool_]
    dwell_s: npt.NDArray[np.float32]
    surface: npt.NDArray[np.uint8]
    at_ms: npt.NDArray[np.int64]

    def take(self, index: npt.NDArray[np.intp] | slice) -> "Actions":
        """Return these rows of every column."""
        return Actions._make(column[index] for column in self)


@dataclass(frozen=True, slots=True)
class Groups:
    """One viewer's groups as the ring holds them: `rows` of GROUP[min(count, groups_max)], and the tally as stored."""

    count: int
    groups_max: int
    rows: npt.NDArray[np.void]
    tally: bytes = b""

    @classmethod
    def of_bytes(cls, count: int, groups_max: int, raw: bytes, tally: bytes) -> "Groups":
        """Return groups from what `rows.tobytes()` gave."""
        return cls(count, groups_max, np.frombuffer(raw, GROUP), tally)

    def fitted(self, groups_max: int) -> "Groups":
        """Return the newest groups in a ring of another size."""
        if groups_max == self.groups_max:
            return self
        order = self.order()
        rows = self.rows[order[max(0, len(order) - groups_max) :]]
        return Groups(len(rows), groups_max, rows, self.tally)

    def order(self) -> npt.NDArray[np.int64]:
        """Return the places of the rows, int64[n], oldest first."""
        return np.arange(self.count - len(self.rows), self.count) % self.groups_max

    def chosen(self, kept: npt.NDArray[np.bool_]) -> "Groups":
        """Return the groups of some rows, as if there had never been others."""
        order = self.order()
        rows = self.rows[order[kept[order]]]
        return Groups(len(rows), self.groups_max, rows, without_acts(self.tally, self.rows["actions"][~kept]))


def _places(rows: Slots, kept: npt.NDArray[np.int64], groups_max: int) -> npt.NDArray[np.int64]:
    """Return where the kept groups of rows stand in flat columns, int64[sum of kept]."""
    starts = np.cumsum(kept) - kept
    return np.repeat(rows * groups_max - starts, kept) + np.arange(int(kept.sum()))


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows of viewers as they were at one moment: `columns` [n, groups_max], of which `counts` are in use.

    Whole rows are copied five times faster than groups in the form of the store: the flow waits for the first alone.
    """

    counts: npt.NDArray[np.int64]
    groups_max: int
    columns: dict[str, npt.NDArray[Any]]
    authors: Interner
    tallies: npt.NDArray[np.void]

    def groups(self) -> Iterator[Groups]:
        """Yield the groups of each viewer."""
        for first in range(0, len(self.counts), _AT_ONCE):
            counts = self.counts[first : first + _AT_ONCE]
            kept = np.minimum(counts, self.groups_max)
            places = _places(np.arange(first, first + len(counts)), kept, self.groups_max)
            rows = np.empty(len(places), GROUP)
            for name in _PLAIN:
                rows[name] = _flat(self.columns[name]).take(places, axis=0)
            rows["author"] = self.authors.keys(_flat(self.columns["author"]).take(places))
            tallies = (one.tobytes() for one in self.tallies[first : first + _AT_ONCE])
            ends = np.cumsum(kept).tolist()
            for count, many, end, tally in zip(counts.tolist(), kept.tolist(), ends, tallies, strict=True):
                yield Groups(count, self.groups_max, rows[end - many : end], b"" if tally == NO_TALLY else tally)


def _flat(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return column.reshape(-1, *column.shape[2:])


class ActionSequences:
    """The last `groups_max` groups of every viewer, and a tally of all; authors are interned, 4 bytes in place of 8."""

    def __init__(self, groups_max: int, window_s: int) -> None:
        self.groups_max = groups_max
        self.window_s = window_s
        self._authors = Interner()
        self.tallies = Tallies(SLOTS_FIRST)
        self._post = np.zeros((SLOTS_FIRST, groups_max), np.uint64)
        self._author = np.zeros((SLOTS_FIRST, groups_max), np.int32)
        self._terms = np.zeros((SLOTS_FIRST, groups_max, NO_TERMS), np.uint16)
        self._actions = np.zeros((SLOTS_FIRST, groups_max), np.uint32)
        self._dwell_s = np.zeros((SLOTS_FIRST, groups_max), np.float16)
        self._at_s = np.zeros((SLOTS_FIRST, groups_max), np.uint32)
        self._count = np.zeros(SLOTS_FIRST, np.int64)

    def memory_bytes(self) -> int:
        """Return the bytes of all columns."""
        columns = sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))
        return columns + self.tallies.memory_bytes()

    def append(self, actions: Actions) -> None:
        """Take actions in their order: into a recent group of the same post, or as new groups.

        How they are cut into calls makes no difference, unless a viewer begins more groups in one call than are kept.
        """
        if not len(actions.slot):
            return
        self.reserve(int(actions.slot.max()) + 1)
        if len(actions.slot) <= ONE_BY_ONE:
            for row in zip(*actions, strict=True):
                self._append_one(*row)
            return
        edges = np.flatnonzero(np.diff(actions.undo)) + 1
        for first, last in zip([0, *edges], [*edges, len(actions.slot)], strict=True):
            run = actions.take(slice(first, last))
            if run.undo[0]:
                self._undo(run)
            else:
                self._add(run)

    def of(self, slot: int) -> History:
        """Return a viewer's history, oldest first, without groups whose every action was undone."""
        count = int(self._count[slot])
        kept = min(count, self.groups_max)
        order = np.arange(count - kept, count) % self.groups_max
        order = order[(self._actions[slot, order] & ACTION_BITS) != 0]
        actions = self._actions[slot, order]
        return History(
            post=self._post[slot, order],
            author=self._authors.keys(self._author[slot, order]),
            terms=self._terms[slot, order],
            actions=actions & np.uint32(ACTION_BITS),
            dwell_s=self._dwell_s[slot, order].astype(np.float32),
            surface=(actions >> np.uint32(SURFACE_SHIFT)).astype(np.uint8),
            at_ms=self._at_s[slot, order].astype(np.int64) * 1000,
        )

    def copy(self, slots: Slots) -> "Copy":
        """Return a copy of some viewers' rows, to be read as groups later."""
        columns = {name: getattr(self, f"_{name}").take(slots, axis=0) for name in (*_PLAIN, "author")}
        return Copy(self._count[slots], self.groups_max, columns, self._authors, self.tallies.copy(slots))

    def groups(self, slots: Slots) -> list[Groups]:
        """Return copies of the groups of some viewers."""
        return list(self.copy(slots).groups())

    def put(self, slots: Slots, viewers: Sequence[Groups]) -> None:
        """Let empty slots, for which there is room, hold the groups of a viewer each."""
        if not len(slots):
            return
        fitted = [groups.fitted(self.groups_max) for groups in viewers]
        rows = np.frombuffer(b"".join(groups.rows.data for groups in fitted), GROUP)
        places = _places(slots, np.array([len(groups.rows) for groups in fitted]), self.groups_max)
        for name in _PLAIN:
            _flat(getattr(self, f"_{name}"))[places] = rows[name]
        _flat(self._author)[places] = self._authors.handles(np.ascontiguousarray(rows["author"]))
        self._count[slots] = [groups.count for groups in fitted]
        self.tallies.put(slots, [groups.tally for groups in fitted])

    def clear(self, slots: Slots) -> None:
        """Empty slots for other viewers."""
        self._count[slots] = 0
        self._actions[slots] = 0  # a place without actions holds nothing
        self.tallies.clear(slots)

    def reserve(self, slots: int) -> None:
        """Make room for `slots` viewers, by half as much again; pages of zeros take no memory until they are used."""
        have = len(self._count)
        if slots <= have:
            return
        room = max(slots, have + have // 2)
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                wider = np.zeros((room, *column.shape[1:]), column.dtype)
                wider[:have] = column
                setattr(self, name, wider)
        self.tallies.reserve(room)

    def _append_one(
        self,
        slot: np.int64,
        post: np.uint64,
        author: np.uint64,
        terms: npt.NDArray[np.uint16],
        action: np.uint8,
        undo: np.bool_,
        dwell_s: np.float32,
        surface: np.uint8,
        at_ms: np.int64,
    ) -> None:
        """Take one action: the same as `_undo` and `_add` for one row, without what columns cost before their first."""
        bit, at_s = 1 << int(action), int(at_ms) // 1000
        mine = np.flatnonzero((self._post[slot] == post) & (self._actions[slot] != 0))
        if undo:
            self._take_back(slot, mine, int(action))
            return
        word = np.uint32(bit | int(surface) << SURFACE_SHIFT)
        if len(mine):
            newest = mine[np.argmax(self._at_s[slot, mine])]
            if abs(int(self._at_s[slot, newest]) - at_s) <= self.window_s:
                self.tallies.act_one(slot, int(action), 0 if self._actions[slot, newest] & np.uint32(bit) else 1)
                self._actions[slot, newest] = (self._actions[slot, newest] & np.uint32(ACTION_BITS)) | word
                self._dwell_s[slot, newest] = max(self._dwell_s[slot, newest], np.float16(dwell_s))
                self._at_s[slot, newest] = max(int(self._at_s[slot, newest]), at_s)
                return
        self.tallies.act_one(slot, int(action), 1)
        place = int(self._count[slot]) % self.groups_max
        self._count[slot] += 1
        self._post[slot, place] = post
        known = self._authors.handle_of(int(author))
        self._author[slot, place] = known or self._authors.handles(np.array([author], np.uint64))[0]
        self._terms[slot, place] = terms
        self._actions[slot, place] = word
        self._dwell_s[slot, place] = np.float16(dwell_s)
        self._at_s[slot, place] = at_s

    def _undo(self, run: Actions) -> None:
        """Take single actions back from every group of their post that is still kept."""
        for slot, post, action in zip(run.slot.tolist(), run.post, run.action.tolist(), strict=True):
            self._take_back(slot, np.flatnonzero(self._post[slot] == post), action)

    def _take_back(self, slot: int | np.int64, places: npt.NDArray[np.intp], action: int) -> None:
        words, bit = self._actions[slot, places], np.uint32(1 << action)
        self.tallies.act_one(slot, action, -int(((words & bit) != 0).sum()))
        self._actions[slot, places] = words & ~bit

    def _add(self, arrived: Actions) -> None:
        order = np.lexsort((np.arange(len(arrived.slot)), arrived.post, arrived.slot))
        run = arrived.take(order)
        at_s = run.at_ms // 1000
        same = (run.slot[1:] == run.slot[:-1]) & (run.post[1:] == run.post[:-1])
        near = np.abs(np.diff(at_s)) <= self.window_s
        first = np.flatnonzero(np.concatenate([[True], ~(same & near)]))
        group = run.take(first)
        bits = np.bitwise_or.reduceat(np.uint32(1) << run.action.astype(np.uint32), first)
        dwell_s = np.maximum.reduceat(run.dwell_s, first)
        last = np.concatenate([first[1:], [len(order)]]) - 1
        words = bits | (run.surface[last].astype(np.uint32) << np.uint32(SURFACE_SHIFT))
        latest_s = np.maximum.reduceat(at_s, first)

        joins, newest_s = self._newest_group(group)
        joined = (joins >= 0) & (np.abs(newest_s - at_s[first]) <= self.window_s)
        back = run.slot[1:][same & (np.diff(at_s) < 0)]
        late = group.slot[newest_s > at_s[first]]
        if len(back) or len(late):
            self._add_disordered(arrived, np.concatenate([back, late]))
            return
        # Only the first group of a (viewer, post) in this batch can join: later ones are farther than the window.
        where = (group.slot[joined], joins[joined])
        old = self._actions[where]
        fresh = bits.copy()
        fresh[joined] &= ~old
        self.tallies.act(group.slot, fresh)
        self._actions[where] = (old & np.uint32(ACTION_BITS)) | words[joined]
        self._dwell_s[where] = np.maximum(self._dwell_s[where], dwell_s[joined].astype(np.float16))
        self._at_s[where] = np.maximum(self._at_s[where], latest_s[joined].astype(np.uint32))
        self._push(group, order[first], words, dwell_s, latest_s, ~joined)

    def _add_disordered(self, arrived: Actions, slots: Slots) -> None:
        """Take actions among which some viewers' times on a post go back: those viewers' one by one, as they came.

        What an action joins is the group's latest time; only where times do not go back is that the action before.
        """
        apart = np.isin(arrived.slot, slots)
        if not apart.all():
            self._add(arrived.take(np.flatnonzero(~apart)))
        for row in zip(*arrived.take(np.flatnonzero(apart)), strict=True):
            self._append_one(*row)

    def _newest_group(self, group: Actions) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each group the position and the second of its post's newest kept group; -1 where there is none."""
        match = (self._post[group.slot] == group.post[:, None]) & (self._actions[group.slot] != 0)
        newest, newest_s = np.full((2, len(group.slot)), -1, np.int64)
        for index in np.flatnonzero(match.any(axis=1)).tolist():
            positions = np.flatnonzero(match[index])
            seconds = self._at_s[int(group.slot[index]), positions]
            newest[index], newest_s[index] = positions[np.argmax(seconds)], seconds.max()
        return newest, newest_s

    def _push(
        self,
        group: Actions,
        arrival: npt.NDArray[np.intp],
        words: npt.NDArray[np.uint32],
        dwell_s: npt.NDArray[np.float32],
        latest_s: npt.NDArray[np.int64],
        new: npt.NDArray[np.bool_],
    ) -> None:
        """Write the new groups at their viewers' ring heads, in the order their first actions came."""
        index = np.flatnonzero(new)
        if not len(index):
            return
        index = index[np.lexsort((arrival[index], group.slot[index]))]
        slot = group.slot[index]
        starts = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]))
        sizes = np.diff(np.concatenate([starts, [len(slot)]]))
        rank = np.arange(len(slot)) - np.repeat(starts, sizes)
        position = self._count[slot] + rank
        self._count[slot[starts]] += sizes
        # A batch may bring more groups than are kept: only the last ones count.
        kept = position >= self._count[slot] - self.groups_max
        index, where = index[kept], (slot[kept], position[kept] % self.groups_max)
        self._post[where] = group.post[index]
        self._author[where] = self._authors.handles(group.author[index])
        self._terms[where] = group.terms[index]
        self._actions[where] = words[index]
        self._dwell_s[where] = dwell_s[index].astype(np.float16)
        self._at_s[where] = latest_s[index].astype(np.uint32)
