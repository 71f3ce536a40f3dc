"""The topic files of a log as one stream in order of time; late lines stay where they stand."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from infra.logs.files import LineBlock

# A line this far ahead of the one before it is believed only if the lines after it agree: one line with a wrong clock
# would otherwise hold back the rest of its file until all others have ended.
JUMP_MS: Final = 86_400_000
# How many lines after a jump are asked.
WITNESSES: Final = 8

_NEVER: Final = -1  # the time of a line that states none


class _At(Struct, gc=False):
    at: Annotated[int, Meta(ge=0, le=2**53)]


_peek = msgspec.json.Decoder(_At).decode


class Columns:
    """Lines of a log in order: the raw line, its source's index and line number in it, and errors by position."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.sources: list[int] = []
        self.offsets: list[int] = []
        self.errors: dict[int, str] = {}

    def extend(self, raw: list[bytes], sources: list[int], offsets: Sequence[int], errors: dict[int, str]) -> None:
        """Append lines; `errors` are by position in `raw`."""
        if errors:
            here = len(self.raw)
            self.errors.update({here + position: reason for position, reason in errors.items()})
        self.raw += raw
        self.sources += sources
        self.offsets += offsets

    def take(self, count: int) -> "Columns":
        """Remove and return the first `count` lines."""
        head = Columns()
        head.raw, self.raw = self.raw[:count], self.raw[count:]
        head.sources, self.sources = self.sources[:count], self.sources[count:]
        head.offsets, self.offsets = self.offsets[:count], self.offsets[count:]
        if self.errors:
            head.errors = {at: reason for at, reason in self.errors.items() if at < count}
            self.errors = {at - count: reason for at, reason in self.errors.items() if at >= count}
        return head


def peek_times(lines: list[bytes]) -> list[int]:
    """Return each line's `at` in milliseconds, -1 where it can't be read."""
    try:
        return [_peek(line).at for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_peek_or_never(line) for line in lines]


def _peek_or_never(line: bytes) -> int:
    try:
        return _peek(line).at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NEVER


def order_keys(times: list[int], floor: int, count: int) -> npt.NDArray[np.int64]:
    """Return the non-decreasing keys, [count] milliseconds, by which the first `count` lines are merged.

    A key is the latest time so far (`floor` before the first line), so a late line follows its predecessor. A time
    more than JUMP_MS beyond it counts only if at least half of the next WITNESSES lines are not that far behind it.
    """
    at = np.asarray(times, np.int64)
    while True:
        keys: npt.NDArray[np.int64] = np.maximum.accumulate(np.concatenate(([floor], at[:count])))
        jumps = np.flatnonzero(np.diff(keys) > JUMP_MS)
        wrong = next((jump for jump in jumps.tolist() if not _confirmed(at, jump)), None)
        if wrong is None:
            return keys[1:]
        at[wrong] = _NEVER


def _confirmed(at: npt.NDArray[np.int64], jump: int) -> bool:
    """Tell whether the lines after a jump ahead in time agree with it; true when there are none."""
    after = at[jump + 1 : jump + 1 + WITNESSES]
    after = after[after != _NEVER]
    return bool(np.count_nonzero(after >= at[jump] - JUMP_MS) * 2 >= after.size)


class TopicFile:
    """One file's lines waiting to be merged, with their keys."""

    def __init__(self, order: int, blocks: Iterator[LineBlock]) -> None:
        self.order = order
        self.ended = False
        self.keys: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.raw: list[bytes] = []
        self.errors: dict[int, str] = {}
        self._blocks = blocks
        self._held: list[bytes] = []  # read, but not yet followed by the WITNESSES lines that decide their key
        self._held_errors: dict[int, str] = {}
        self._held_times: list[int] = []
        self._floor = _NEVER
        self._taken = 0

    def refill(self) -> None:
        """Read on until lines are waiting or the file has ended."""
        while not self.raw and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                self._held += block.lines
                self._held_times += peek_times(block.lines)
                if block.error:
                    self._held_errors[len(self._held) - 1] = block.error
            self._release(len(self._held) - (0 if self.ended else WITNESSES))

    def _release(self, count: int) -> None:
        if count <= 0:
            return
        self.keys = order_keys(self._held_times, self._floor, count)
        self._floor = int(self.keys[-1])
        self.raw, self._held = self._held[:count], self._held[count:]
        self._held_times = self._held_times[count:]
        errors, self._held_errors = self._held_errors, {}
        self.errors = {at: reason for at, reason in errors.items() if at < count}
        self._held_errors = {at - count: reason for at, reason in errors.items() if at >= count}

    def take(self, count: int) -> tuple[npt.NDArray[np.int64], list[bytes], range, dict[int, str]]:
        """Remove and return the first `count` lines: keys, raw lines, line numbers from 1, errors by position."""
        keys, self.keys = self.keys[:count], self.keys[count:]
        raw, self.raw = self.raw[:count], self.raw[count:]
        offsets = range(self._taken + 1, self._taken + 1 + count)
        self._taken += count
        errors = {at: reason for at, reason in self.errors.items() if at < count}
        self.errors = {at - count: reason for at, reason in self.errors.items() if at >= count}
        return keys, raw, offsets, errors


def merge(files: list[TopicFile]) -> Iterator[Columns]:
    """Yield the files' lines by key, ties in the order of the files, lines of a file in their own order."""
    while True:
        for file in files:
            file.refill()
        open_files = [file for file in files if not file.ended]
        waiting = [file for file in files if file.raw]
        if not waiting:
            return
        if open_files:
            # Nothing still unread comes before this: the earliest last key, the earliest file of those that share it.
            last_key, last_order = min((int(file.keys[-1]), file.order) for file in open_files)
            counts = [
                int(np.searchsorted(f.keys, last_key, "right" if f.order <= last_order else "left")) for f in waiting
            ]
        else:
            counts = [len(file.raw) for file in waiting]
        yield _interleave([(f.order, *f.take(count)) for f, count in zip(waiting, counts, strict=True) if count])


_Part = tuple[int, npt.NDArray[np.int64], list[bytes], range, dict[int, str]]


def _interleave(parts: list[_Part]) -> Columns:
    """Return the parts' lines in stable order of their keys."""
    columns = Columns()
    for order, _, raw, offsets, errors in parts:
        columns.extend(raw, [order] * len(raw), offsets, errors)
    if len(parts) > 1:
        places = np.argsort(np.concatenate([part[1] for part in parts]), kind="stable").tolist()
        columns.raw = [columns.raw[place] for place in places]
        columns.sources = [columns.sources[place] for place in places]
        columns.offsets = [columns.offsets[place] for place in places]
        if columns.errors:
            columns.errors = {new: columns.errors[old] for new, old in enumerate(places) if old in columns.errors}
    return columns
