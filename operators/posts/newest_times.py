"""How new the posts before a row can be: what lets a backward scan of arrivals stop."""

from typing import Final

import numpy as np

from operators.posts.columns import Rows

BLOCK: Final = 1024  # rows with one bound
# A post dated further ahead of the clock is kept apart: one of them would bound nothing for as long as it lives.
AHEAD_MS: Final = 60_000


class NewestTimes:
    """The latest creation time among all rows up to the end of each block, and the rows that lie ahead of time."""

    def __init__(self) -> None:
        self.ahead: Rows = np.empty(0, np.int64)  # increasing
        self._latest: list[int] = []
        self._first_block = 0

    def memory_bytes(self) -> int:
        """Return the bytes this takes."""
        return self.ahead.nbytes + 40 * len(self._latest)

    def append(self, rows: Rows, created_ms: Rows, clock_ms: int, base: int) -> None:
        """Add consecutive rows that arrived by the time `clock_ms`; forget what concerns rows before `base` alone."""
        early = created_ms > clock_ms + AHEAD_MS
        if early.any() or len(self.ahead):
            self.ahead = np.concatenate([self.ahead[self.ahead >= base], rows[early]])
        created_ms = np.where(early, 0, created_ms)
        if not self._latest:
            self._first_block = int(rows[0]) // BLOCK
        starts = np.flatnonzero(rows % BLOCK == 0)
        if not len(starts) or starts[0]:
            starts = np.concatenate([[0], starts])
        for block, latest in zip(
            (rows[starts] // BLOCK).tolist(), np.maximum.reduceat(created_ms, starts).tolist(), strict=True
        ):
            place = block - self._first_block
            before = self._latest[-1] if self._latest else 0
            self._latest += [before] * (place + 1 - len(self._latest))
            self._latest[place] = max(before, latest)
        gone = base // BLOCK - self._first_block - 1
        if gone > BLOCK:
            del self._latest[:gone]
            self._first_block += gone

    def through(self, rows: Rows) -> Rows:
        """Return a time that no row before the given ones, those ahead of time left aside, was created after."""
        return np.array([self._latest[row // BLOCK - self._first_block] for row in rows.tolist()], np.int64)

    def before(self, row: int) -> int:
        """Return the same for one row at the start of a block, by the blocks before it."""
        place = row // BLOCK - self._first_block - 1
        return self._latest[place] if place >= 0 else 0
