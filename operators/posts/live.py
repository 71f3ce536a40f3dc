"""The live posts of an instance: the table, Thunder over it and the candidate index beside it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

import numpy as np

from operators.posts.author_followers import AuthorFollowers
from operators.posts.co_likers import CoLikers
from operators.posts.counts import Counting, CountTable
from operators.posts.index import CandidateIndex
from operators.posts.interest_clusters import InterestClusters
from operators.posts.records import Refusal
from operators.posts.renewal import Embed, Renewal, Work, add, at_once, forget
from operators.posts.table import PostTable
from operators.posts.thunder import Thunder
from schemas.events import PostDeleted, PostEvent

# Posts are dropped so long after they expire, as X's trim does at most (x-algorithm.md 2.2): a request that is older
# than the newest event, by whatever was read in one go, still sees the posts of its own time.
TRIM_LAG_MS: Final = 120_000
NO_ROWS: Final = np.empty(0, np.int64)
# New posts are embedded at the latest when so many wait: one call of the candidate tower takes as many.
EMBEDDED_AT_ONCE: Final = 256

# Batches that may wait for the index while it is kept aside; each is at least EMBEDDED_AT_ONCE posts.
WAITING_MAX: Final = 64

# Counts of posts that are gone are looked for when there are so many more than live posts.
SPARE_COUNTS: Final = 10_000


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
        self._renewal: Renewal | None = None
        self._do: Callable[[Work], object] = at_once
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
            self._do(partial(forget, self.index, removed, cutoff_ms - self.table.retention_ms))
        if self._renewal is not None:
            self._renewal.forget(removed, cutoff_ms - self.table.retention_ms)
        return refused

    @contextmanager
    def index_aside(self) -> Iterator[None]:
        """Keep the index in a thread of its own, in the same order, until the end of the block: for loading many posts.

        Meanwhile the index lags behind the table and is not to be searched.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="index") as thread:
            waiting: deque[Future[None]] = deque()

            def aside(work: Work) -> None:
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
                self._do = at_once

    def refresh_index(self) -> None:
        """Embed the originals added since the last time and put them into the index, without those deleted again."""
        added = self.table.take_added()
        self._embedded = self.table.end
        if self.index is None or self._embed is None or not len(added):
            return
        new = self.table.gather(added)
        self._do(partial(add, self.index, self._embed, added, new))

    def renew(self, dimensions: int, embed: Embed, do: Callable[[Work], object] = at_once) -> Renewal:
        """Begin an index of another model's vectors, which is told of what is deleted and expires from here on.

        Whoever begins it calls `advance` until nothing is left, then `adopt`. One that was begun before is given up.
        """
        if self.index is None:
            raise LookupError("there is no candidate index")
        renewal = self._renewal = Renewal(self.table, CandidateIndex(dimensions, self.index.settings), embed, do)
        renewal.forget(NO_ROWS, self.table.clock_ms - TRIM_LAG_MS - self.table.retention_ms)
        return renewal

    def give_up(self) -> None:
        """Go on without the index that was begun, if one was."""
        self._renewal = None

    def adopt(self, renewal: Renewal) -> None:
        """Search a renewed index from now on, once all work on it is done. Raises ValueError while any row is left."""
        if renewal is not self._renewal or renewal.left:
            raise ValueError(f"this index is not ready: {renewal.left} rows are left, or another was begun since")
        self.table.take_added()  # they are in the new index, and the old one needs them no more
        self._embedded = self.table.end
        self.index, self._embed, self._renewal = renewal.index, renewal.embed, None

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
