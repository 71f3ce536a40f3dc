"""The live posts of an instance: the table, Thunder over it and the candidate index beside it."""

from collections.abc import Sequence
from typing import Final

from operators.posts.index import CandidateIndex
from operators.posts.records import Refusal
from operators.posts.table import PostTable
from operators.posts.thunder import Thunder
from schemas.events import PostEvent

# Posts are dropped so long after they expire, as X's trim does at most (x-algorithm.md 2.2): a request that is older
# than the newest event, by whatever was read in one go, still sees the posts of its own time.
TRIM_LAG_MS: Final = 120_000


class LivePosts:
    """One object for the step that owns the posts. `index` is filled by whoever has the vectors of new posts."""

    def __init__(self, table: PostTable, index: CandidateIndex | None = None) -> None:
        self.table = table
        self.thunder = Thunder(table)
        self.index = index

    def apply(self, events: Sequence[PostEvent], now_ms: int | None = None) -> list[Refusal]:
        """Apply events in their order; return those refused. Deleted posts leave the index, expired ones everything.

        `now_ms` bounds the table's clock (`PostTable.apply`); what expired `TRIM_LAG_MS` before the clock is dropped.
        """
        refused = self.table.apply(events, now_ms)
        cutoff_ms = self.table.clock_ms - TRIM_LAG_MS
        self.table.trim(cutoff_ms)
        self.thunder.sync()
        removed = self.table.take_removed()
        if self.index is None:
            self.table.take_added()
        else:
            if len(removed):
                self.index.remove(removed)
            self.index.expire(cutoff_ms - self.table.retention_ms)
        return refused

    def memory_bytes(self) -> int:
        """Return the bytes of the posts without their vectors."""
        return self.table.memory_bytes() + self.thunder.memory_bytes()
