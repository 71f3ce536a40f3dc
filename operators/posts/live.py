"""The live posts of an instance: the table, Thunder over it and the candidate index beside it."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from models.inputs import F32, U16
from operators.keys import Keys
from operators.posts.columns import DELETED
from operators.posts.index import CandidateIndex
from operators.posts.records import Refusal
from operators.posts.table import PostTable
from operators.posts.thunder import Thunder
from schemas.events import PostEvent

# Posts are dropped so long after they expire, as X's trim does at most (x-algorithm.md 2.2): a request that is older
# than the newest event, by whatever was read in one go, still sees the posts of its own time.
TRIM_LAG_MS: Final = 120_000
# New posts are embedded at the latest when so many wait: one call of the candidate tower takes as many.
EMBEDDED_AT_ONCE: Final = 256

# Posts, authors and terms to unit vectors, float32[n, d].
Embed = Callable[[Keys, Keys, U16], F32]


class LivePosts:
    """One object for the step that owns the posts; with an `index`, `embed` gives the vectors that go into it."""

    def __init__(self, table: PostTable, index: CandidateIndex | None = None, embed: Embed | None = None) -> None:
        self.table = table
        self.thunder = Thunder(table)
        self.index = index
        self._embed = embed
        self._embedded = table.base  # rows before this one are in the index, or were never meant for it

    def apply(self, events: Sequence[PostEvent], now_ms: int | None = None) -> list[Refusal]:
        """Apply events in their order; return those refused. Deleted posts leave the index, expired ones everything.

        `now_ms` bounds the table's clock (`PostTable.apply`); what expired `TRIM_LAG_MS` before the clock is dropped.
        """
        refused = self.table.apply(events, now_ms)
        cutoff_ms = self.table.clock_ms - TRIM_LAG_MS
        # Every original goes through the index, those that expire at once as well: what the index holds follows from
        # the log alone, not from when somebody asked for it.
        if self.table.end - self._embedded >= EMBEDDED_AT_ONCE or self._expires_before_it_is_embedded(cutoff_ms):
            self.refresh_index()
        self.table.trim(cutoff_ms)
        self.thunder.sync()
        removed = self.table.take_removed()
        if self.index is not None:
            if len(removed):
                self.index.remove(removed)
            self.index.expire(cutoff_ms - self.table.retention_ms)
        return refused

    def refresh_index(self) -> None:
        """Embed the originals added since the last time and put them into the index, without those deleted again."""
        added = self.table.take_added()
        self._embedded = self.table.end
        if self.index is None or self._embed is None or not len(added):
            return
        new = self.table.gather(added)
        self.index.add(added, new.created_ms, self._embed(new.key, new.author, new.terms))
        self.index.remove(added[new.flags & DELETED != 0])

    def _expires_before_it_is_embedded(self, cutoff_ms: int) -> bool:
        if self._embedded >= self.table.end:
            return False
        first = self.table.gather(np.array([self._embedded]))
        return int(first.created_ms[0]) < cutoff_ms - self.table.retention_ms

    def memory_bytes(self) -> int:
        """Return the bytes of the posts without their vectors."""
        return self.table.memory_bytes() + self.thunder.memory_bytes()
