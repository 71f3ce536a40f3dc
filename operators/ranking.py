"""Phoenix on threads: the model never holds up the event loop, and feeds leave in the order requests came."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bytewax.operators import StatefulBatchLogic

from models.phoenix import Phoenix
from operators.clusters import Clusters, Compared, Comparison, Shadows, is_shadowed
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.reranking import kept
from operators.pipeline.runner import Accounting, attempt
from operators.pipeline.scorers import best_first, score_alone
from operators.pipeline.scorers.cold_start import eligible
from operators.pipeline.scorers.steps import LikelyVectors
from operators.pipeline.surfaces import surface_of
from operators.posts.names import Names
from operators.ranked import Ranked
from operators.viewers.query import Query
from schemas.ids import STRING_KEY_BIT, Id

# Posts that diversity may choose from: its pool of 150 and as many again for what is dropped after the model, in one
# call of the tower.
VECTORS_MAX: Final = 256
# Of them so many that cold start may raise to where diversity looks, most of which are among the others anyhow.
COLD_STARTS: Final = 16
# How often finished work is looked for: a millisecond of latency at most, 0.02 of a core (measured).
DRAIN_EVERY: Final = timedelta(milliseconds=1)


class Spelled:
    """The ids of one request's posts and authors, as they were when it was handed in.

    The log goes on while the model is at work, and live posts that expire meanwhile take the text of their ids along.
    Integer ids are their own keys and cost nothing; 2,000 posts with text for ids take 5 ms.
    """

    def __init__(self, table: CandidateTable, accounting: Accounting, names: Names) -> None:
        columns = [table.post, table.author, table.repost_of, *(posts for _, _, posts in accounting.dropped)]
        keys = np.concatenate(columns)
        text = np.unique(keys[keys >= np.uint64(STRING_KEY_BIT)])
        self._ids = {key: names.original_id(key) for key in text.tolist()}

    def original_id(self, key: int) -> Id | None:
        """Return the id of a post or author of the request; None for text that was not known then."""
        return self._ids.get(key) if key & STRING_KEY_BIT else key


class Ranker:
    """Rank on a few threads. `in_work` counts the requests handed in and not yet out again.

    JAX releases the interpreter lock, and two threads with a request each are twice as fast as one batch of two, so
    there are as many threads as cores to spend. Where there are `shadows`, comparisons go there once requests are out.
    Each request brings the models that it is ranked by: those that its candidates were found with.
    """

    def __init__(self, threads: int, in_work_max: int, shadows: Shadows | None = None) -> None:
        self._shadows = shadows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="phoenix")
        self._in_work_max = in_work_max
        self._pending: deque[Future[Ranked]] = deque()

    def room(self) -> int:
        """Return how many more requests may come: sources ask before they poll."""
        if self._shadows is not None and not self._shadows.room():
            return 0
        return max(0, self._in_work_max - len(self._pending))

    def ready(self) -> bool:
        """Return whether any more requests may come."""
        return self.room() > 0

    @property
    def in_work(self) -> int:
        """The requests handed in and not yet out again."""
        return len(self._pending)

    def submit(
        self, query: Query, table: CandidateTable, accounting: Accounting, names: Names, clusters: Clusters
    ) -> None:
        """Hand in a request; `names` is asked here and now. A feed without the model only keeps its place."""
        spelled = Spelled(table, accounting, names)
        if not surface_of(query).ranked:
            self.pass_by(Ranked(query, table, None, accounting, spelled, ""))
            return
        self._pending.append(self._pool.submit(self._rank, query, table, accounting, spelled, clusters))

    def pass_by(self, ranked: Ranked) -> None:
        """Hand in a request that needs no ranking; it keeps its place in the order."""
        done: Future[Ranked] = Future()
        done.set_result(ranked)
        self._pending.append(done)

    def finished(self, wait: bool = False) -> list[Ranked]:
        """Return what is done, in the order it was handed in; with `wait`, everything."""
        done = []
        while self._pending and (wait or self._pending[0].done()):
            done.append(self._pending.popleft().result())
        if self._shadows is not None:
            # Here, not where they were ranked: requests leave in their order, and so do comparisons.
            for ranked in done:
                if ranked.comparison is not None:
                    self._shadows.submit(ranked.comparison)
                    ranked.comparison = None
        return done

    def compared(self, wait: bool = False) -> list[Compared]:
        """Return the comparisons that are done, in the order of their requests; with `wait`, all."""
        return [] if self._shadows is None else self._shadows.finished(wait)

    def busy(self) -> bool:
        """Return whether anything is in work."""
        return bool(self._pending) or (self._shadows is not None and self._shadows.busy())

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        if self._shadows is not None:
            self._shadows.close()

    def _rank(
        self, query: Query, table: CandidateTable, accounting: Accounting, names: Names, clusters: Clusters
    ) -> Ranked:
        try:
            return self._ranked(query, table, accounting, names, clusters)
        finally:
            if query.keep is not None:
                query.keep.end()  # whoever waits for a slate that isn't there asks the sources

    def _ranked(
        self, query: Query, table: CandidateTable, accounting: Accounting, names: Names, clusters: Clusters
    ) -> Ranked:
        start_s = time.perf_counter()
        surface = surface_of(query)
        limit = len(table) if surface.each_alone else query.parameters.selection.candidates_max
        ranked = table.take(slice(0, limit))
        accounting.count("candidates_max", len(table), len(ranked))
        probabilities = vectors = comparison = None
        model = clusters.version(query.parameters.models.cluster)
        slate = query.slate
        if slate is not None:
            probabilities, model = slate.outputs[slate.places(ranked.post)], slate.model
        elif not query.late:
            columns = ranked.rank_columns()
            outputs = clusters.rank(query, columns)
            probabilities, model = outputs.probabilities, outputs.model
            if self._shadows is not None and is_shadowed(query):
                comparison = Comparison(clusters, query, columns, ranked.post, outputs, names)
        if probabilities is not None and query.keep is not None:
            query.keep.end(attempt(query, "keep_slate", partial(kept, query, ranked, probabilities, model), None))
        if probabilities is not None and surface.has("dpp", query.parameters):
            vectors = attempt(query, "vectors", partial(vectors_of, clusters.prod, query, ranked, probabilities), None)
        accounting.timed("rank", time.perf_counter() - start_s)
        return Ranked(query, ranked, probabilities, accounting, names, model, vectors, comparison)


def vectors_of(
    phoenix: Phoenix, query: Query, table: CandidateTable, probabilities: npt.NDArray[np.float32]
) -> LikelyVectors:
    """Return the unit vectors of the candidates that may be selected, zeros for the others."""
    alone = score_alone(query, table, probabilities)
    likely = best_first(alone, table, VECTORS_MAX)
    if query.parameters.cold_start.enabled:
        # Cold start may raise one that ranks low: the best it can choose from are among them.
        small = best_first(alone, table, COLD_STARTS, np.flatnonzero(eligible(query, table)))
        likely = np.concatenate([likely[: VECTORS_MAX - len(small)], small])
    vectors = phoenix.embed_posts(table.rank_post[likely], table.rank_author[likely], table.rank_terms[likely])
    return LikelyVectors.of(len(table), likely, vectors)


class RankLogic(StatefulBatchLogic[Any, Ranked | Compared, None]):
    """The step around `Ranker`: hands in what comes, drains by a timer, and empties itself at the end of the log."""

    def __init__(self, ranker: Ranker, submit: Callable[[Any], None]) -> None:
        self._ranker = ranker
        self._submit = submit

    def on_batch(self, values: list[Any]) -> tuple[list[Ranked | Compared], bool]:
        """Hand in requests; return what is finished."""
        for value in values:
            self._submit(value)
        return self._finished(), self.RETAIN

    def on_notify(self) -> tuple[list[Ranked | Compared], bool]:
        """Return what is finished."""
        return self._finished(), self.RETAIN

    def on_eof(self) -> tuple[list[Ranked | Compared], bool]:
        """Return all the rest."""
        return self._finished(wait=True), self.RETAIN

    def notify_at(self) -> datetime | None:
        """Return when to look again, while anything is in work."""
        return datetime.now(UTC) + DRAIN_EVERY if self._ranker.busy() else None

    def snapshot(self) -> None:
        """Return nothing: requests in work are read again after a restart."""
        return

    def _finished(self, wait: bool = False) -> list[Ranked | Compared]:
        return [*self._ranker.finished(wait), *self._ranker.compared(wait)]
