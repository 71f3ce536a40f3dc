"""Each author's posts as runs of one array: two lists an author, originals and secondary (x-algorithm.md 2.1)."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.keys import Mask
from operators.posts.columns import LISTS, Rows

Low = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.signedinteger[Any]]

# A list that moves gets room for a quarter more: it is copied about four times in its life, and a quarter is empty.
_ROOM: Final = 1.25
_POOL_GROWTH: Final = 1.125  # of the array all lists share: what is not yet given out counts as memory too
_POOL_MIN: Final = 1 << 12
_CLASSES: Final = 32
_STEP: Final = 1.5  # times the rows expected of a list are read of it first
_DEPTH_MAX: Final = 1 << 30  # no list is longer


class AuthorLists:
    """Rows by author, in the order of arrival, in places of 2, 4, 8 ... rows from one pool; 4 bytes a row.

    Rows that the table has dropped stay until their list moves; readers ask for rows from a given one on.
    """

    def __init__(self) -> None:
        self.length: npt.NDArray[np.int32] = np.zeros(2048, np.int32)
        self._start: npt.NDArray[np.int32] = np.full(2048, -1, np.int32)
        self._class: npt.NDArray[np.uint8] = np.zeros(2048, np.uint8)  # log2 of the room
        self._pool: Low = np.zeros(_POOL_MIN, np.uint32)
        self._used = 0
        self._free: list[list[int]] = [[] for _ in range(_CLASSES)]
        self._end = 0  # of the table: rows are kept by their low 32 bits and counted back from here

    def memory_bytes(self) -> int:
        """Return the bytes of pool, list heads and free places."""
        free = sum(8 * len(places) for places in self._free)
        return self._pool.nbytes + self.length.nbytes + self._start.nbytes + self._class.nbytes + free

    # -- changes

    def append(self, lists: Rows, rows: Rows, base: int) -> None:
        """Append increasing `rows` to their `lists`, int64[n] both; rows before `base` may be forgotten."""
        self._end = int(rows[-1]) + 1
        self._widen(int(lists.max()) + 1)
        order = np.argsort(lists, kind="stable")
        ordered = lists[order]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        touched = ordered[first]
        counts = np.diff(first, append=len(ordered))
        room = np.where(self._start[touched] >= 0, 1 << self._class[touched].astype(np.int64), 0)
        tight = self.length[touched] + counts > room
        if tight.any():
            self._move(touched[tight], counts[tight], base)
        rank = np.arange(len(ordered)) - np.repeat(first, counts)
        self._pool[self._start[ordered] + self.length[ordered] + rank] = rows[order].astype(np.uint32)
        self.length[touched] += counts.astype(np.int32)

    def release(self, handles: Rows) -> None:
        """Free the lists of authors without posts."""
        lists = np.concatenate([LISTS * handles, LISTS * handles + 1])
        lists = lists[lists < len(self._start)]
        lists = lists[self._start[lists] >= 0]
        for size, start in zip(self._class[lists].tolist(), self._start[lists].tolist(), strict=True):
            self._free[size].append(start)
        self._start[lists] = -1
        self.length[lists] = 0
        self._class[lists] = 0

    def _widen(self, lists: int) -> None:
        """Make room for list numbers below `lists`."""
        while lists > len(self._start):
            self.length = np.concatenate([self.length, np.zeros_like(self.length)])
            self._start = np.concatenate([self._start, np.full_like(self._start, -1)])
            self._class = np.concatenate([self._class, np.zeros_like(self._class)])

    def _move(self, lists: Rows, extra: Rows, base: int) -> None:
        """Give lists a place with room for `extra` more rows, without the rows before `base`."""
        used = np.where(self._start[lists] >= 0, self._class[lists], _CLASSES)
        for old in np.unique(used).tolist():
            some = lists[used == old]
            more = extra[used == old]
            if old == _CLASSES:
                self._start[some], self._class[some] = self._places(_classes(more))
                continue
            rows = self._pool[self._start[some][:, None] + np.arange(1 << old)]
            length = self.length[some]
            filled = np.arange(1 << old) < length[:, None]
            gone = np.count_nonzero(filled & (self._rows(rows) < base), axis=1)
            wanted = _classes(length - gone + more)
            # Places are given out before the old ones are free: nothing is overwritten while it is copied.
            starts, classes = self._places(wanted)
            self._free[old] += self._start[some].tolist()
            live = filled & (np.arange(1 << old) >= gone[:, None])
            which, column = np.nonzero(live)
            self._pool[starts[which] + column - gone[which]] = rows[which, column]
            self._start[some], self._class[some] = starts, classes
            self.length[some] = length - gone

    def _places(self, classes: Rows) -> tuple[Rows, Rows]:
        """Return a free place for each class of size, and the classes."""
        starts = np.empty(len(classes), np.int64)
        for size in np.unique(classes).tolist():
            which = np.flatnonzero(classes == size)
            free = self._free[size]
            reused = min(len(free), len(which))
            if reused:
                starts[which[:reused]] = free[-reused:]
                del free[-reused:]
            fresh = len(which) - reused
            starts[which[reused:]] = self._used + (np.arange(fresh) << size)
            self._used += fresh << size
        if self._used > len(self._pool):
            wider = np.zeros(max(int(len(self._pool) * _POOL_GROWTH), self._used), np.uint32)
            wider[: len(self._pool)] = self._pool
            self._pool = wider
        return starts, classes

    # -- reading

    def _rows(self, low: Low) -> Rows:
        """Return the rows with these low bits, the latest before the table's end."""
        if self._end <= 1 << 32:
            return low.astype(np.int64)
        back = np.uint32((self._end - 1) & 0xFFFFFFFF) - low
        rows: Rows = (self._end - 1) - back.astype(np.int64)
        return rows

    def since(self, lists: Rows, first: int, share: float, depth: int) -> tuple[Rows, Rows, Rows]:
        """Return the rows from `first` on, at most the `depth` last ones of each of the lists.

        `share` is the part of each list that is expected to be asked for. Returns rows in no order, then the lists
        that were cut at `depth` and the first row kept of each.
        """
        start = self._start.take(lists)
        last = start + self.length.take(lists)  # of an empty list -1
        newest = self._rows(self._pool.take(last - 1, mode="clip"))
        lists, start, last = _chosen((newest >= first) & (last > 0), lists, start, last)
        lowest = np.maximum(start, last - min(depth, _DEPTH_MAX))
        step = last - start
        if share < 1:
            step = (step * (_STEP * share)).astype(np.int32) + 1
        found, cut, cut_rows = [], [], []
        while len(lists):
            begin = np.maximum(last - step, lowest)
            found.append(self._runs(begin, last))
            lists, start, lowest, last, step = _chosen(begin > start, lists, start, lowest, begin, step)
            oldest = self._rows(self._pool.take(last))
            lists, start, lowest, last, step, oldest = _chosen(
                oldest >= first, lists, start, lowest, last, step, oldest
            )
            at_depth = last == lowest
            if at_depth.any():
                cut.append(lists[at_depth])
                cut_rows.append(oldest[at_depth])
                lists, start, lowest, last, step = _chosen(~at_depth, lists, start, lowest, last, step)
            step = step * 4
        rows = _joined(found)
        return rows[rows >= first], _joined(cut), _joined(cut_rows)

    def _runs(self, begin: Ints, end: Ints) -> Rows:
        """Return the rows at all places from each `begin` to before its `end`."""
        count = end - begin
        ends = np.add.accumulate(count)
        index = (begin + count - ends).repeat(count)
        index += np.arange(len(index), dtype=index.dtype)
        return self._rows(self._pool.take(index))


class RowLog:
    """Increasing rows, appended at the end and forgotten at the front, 8 to 16 bytes each."""

    def __init__(self) -> None:
        self._buffer: Rows = np.empty(1024, np.int64)
        self._begin = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def memory_bytes(self) -> int:
        """Return the bytes this takes."""
        return self._buffer.nbytes

    def append(self, rows: Rows, base: int) -> None:
        """Append rows above all before; those before `base` may be forgotten."""
        if self._end + len(rows) > len(self._buffer):
            live = self.since(base)
            if 2 * (len(live) + len(rows)) > len(self._buffer):
                self._buffer = np.empty(2 * (len(live) + len(rows)), np.int64)
            self._buffer[: len(live)] = live
            self._begin, self._end = 0, len(live)
        self._buffer[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def since(self, first: int) -> Rows:
        """Return the rows from `first` on."""
        rows = self._buffer[self._begin : self._end]
        return rows[np.searchsorted(rows, first) :]


def _classes(counts: Rows) -> Rows:
    """Return log2 of the room that lists of so many rows get."""
    classes: Rows = np.ceil(np.log2(np.maximum(np.ceil(counts * _ROOM), 2))).astype(np.int64)
    return classes


def _chosen(which: Mask, *columns: Ints) -> tuple[Ints, ...]:
    """Return the chosen elements of each column."""
    places = which.nonzero()[0]
    return tuple(column.take(places) for column in columns)


def _joined(parts: list[Ints]) -> Rows:
    """Return arrays as one."""
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
