"""The live posts of an instance: the table, Thunder over it and the candidate index beside it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

import numpy as np

from models.inputs import F32, U16
from operators.keys import Keys
from operators.posts.author_followers import AuthorFollowers
from operators.posts.co_likers import CoLikers
from operators.posts.columns import DELETED, Rows
from operators.posts.counts import Counting, CountTable
from operators.posts.index import CandidateIndex
from operators.posts.interest_clusters import InterestClusters
from operators.posts.records import Posts, Refusal
from operators.posts.table import PostTable
from operators.posts.thunder import Thunder
from schemas.events import PostDeleted, PostEvent

# Posts are dropped so long after they expire, as X's trim does at most (x-algorithm.md 2.2): a request that is older
# than the newest event, by whatever was read in one go, still sees the posts of its own time.
TRIM_LAG_MS: Final = 120_000
# New posts are embedded at the latest when so many wait: one call of the candidate tower takes as many.
EMBEDDED_AT_ONCE: Final = 256

# Batches that may wait for the index while it is kept aside; each is at least EMBEDDED_AT_ONCE posts.
WAITING_MAX: Final = 64

# Counts of posts that are gone are looked for when there are so many more than live posts.
SPARE_COUNTS: Final = 10_000

# Posts, authors and terms to unit vectors, float32[n, d].
Embed = Callable[[Keys, Keys, U16], F32]


class LivePosts:
    """One object for the step that owns the posts; with an `index`, `embed` gives the vectors that go into it.

    `co_likers` are there where somebody asks them: to keep them up costs a tenth of a millisecond a poll. So are
    `interest_clusters`.
    """

    def __init__(
        self,
        table: PostTable,
        index: CandidateIndex | None = None,
        embed: Embed | None = None,
        co_likers: CoLikers | None = None,
        interest_clusters: InterestClusters | None = None,
    ) -> None:
        self.table = table
        self.co_likers = co_likers
        self.interest_clusters = interest_clusters
        self.thunder = Thunder(table)
        self.counts = CountTable()
        self.followers = AuthorFollowers()
        self.counting = Counting(self.counts)
        self._forget_counts_at = SPARE_COUNTS
        self.index = index
        self._embed = embed
        self._do: Callable[[Callable[[], None]], object] = _at_once
        self._embedded = table.base  # rows before this one are in the index, or were never meant for it

    def apply(self, events: Sequence[PostEvent], now_ms: int | Sequence[int] | None = None) -> list[Refusal]:
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
            self._do(partial(_forget, self.index, removed, cutoff_ms - self.table.retention_ms))
        return refused

    @contextmanager
    def index_aside(self) -> Iterator[None]:
        """Keep the index in a thread of its own, in the same order, until the end of the block: for loading many posts.

        Meanwhile the index lags behind the table and is not to be searched.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="index") as thread:
            waiting: deque[Future[None]] = deque()

            def aside(work: Callable[[], None]) -> None:
                waiting.append(thread.submit(work))
                while len(waiting) > WAITING_MAX or (waiting and waiting[0].done()):
                    waiting.popleft().result()

            self._do = aside
            try:
                yield
                self.refresh_index()
                for work in waiting:
                    work.result()
            finally:
                self._do = _at_once

    def refresh_index(self) -> None:
        """Embed the originals added since the last time and put them into the index, without those deleted again."""
        added = self.table.take_added()
        self._embedded = self.table.end
        if self.index is None or self._embed is None or not len(added):
            return
        new = self.table.gather(added)
        self._do(partial(_add, self.index, self._embed, added, new))

    def delete_author(self, author: int) -> None:
        """Delete all posts of an author, as if each were deleted now; posts of others no longer tell the name."""
        table = self.table
        ids = (table.original_id(key) for key in table.gather(table.rows_by(author)).key.tolist())
        self.apply([PostDeleted(table.clock_ms, post, 0) for post in ids if post is not None])
        table.forget_author(author)

    def _expires_before_it_is_embedded(self, cutoff_ms: int) -> bool:
        if self._embedded >= self.table.end:
            return False
        first = self.table.gather(np.array([self._embedded]))
        return int(first.created_ms[0]) < cutoff_ms - self.table.retention_ms

    def forget_counts(self) -> None:
        """Forget the counts of posts that are not live, once there are many."""
        if len(self.counts) > self._forget_counts_at:
            self.counts.keep(self.table.rows_of(self.counts.keys()) >= 0)
            self._forget_counts_at = 2 * len(self.counts) + SPARE_COUNTS

    def memory_bytes(self) -> int:
        """Return the bytes of the posts without their vectors."""
        asked = [one for one in (self.co_likers, self.interest_clusters) if one is not None]
        parts = (self.table, self.thunder, self.counts, self.followers, *asked)
        return sum(part.memory_bytes() for part in parts)


def _at_once(work: Callable[[], None]) -> None:
    work()


def _add(index: CandidateIndex, embed: Embed, rows: Rows, new: Posts) -> None:
    """Embed posts and put them into the index, without those deleted already."""
    index.add(rows, new.created_ms, embed(new.key, new.author, new.terms))
    index.remove(rows[new.flags & DELETED != 0])


def _forget(index: CandidateIndex, removed: Rows, before_ms: int) -> None:
    """Take deleted posts and expired ones out of the index."""
    if len(removed):
        index.remove(removed)
    index.expire(before_ms)
