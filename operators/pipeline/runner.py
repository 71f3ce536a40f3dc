"""How a stage is run: accounted for, explained where asked, and passed over where it fails (x-algorithm.md 1.1)."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.filters import Filter
from operators.viewers.query import Query
from schemas.feeds import StageCount

log = logging.getLogger(__name__)
T = TypeVar("T")
N = TypeVar("N", np.bool_, np.float64)
Rows = npt.NDArray[np.intp]


@dataclass(slots=True)
class Accounting:
    """What each stage was given, kept and took; with `explain`, the posts each removed as well (stage, rule, posts)."""

    explain: bool
    stages: list[StageCount] = field(default_factory=list)
    dropped: list[tuple[str, str, Keys]] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)

    def count(self, stage: str, given: int, kept: int) -> None:
        """Account for a stage."""
        self.stages.append(StageCount(stage, given, kept))

    def drop(self, stage: str, rule: str, posts: Keys) -> None:
        """Remember what a stage removed, where the request asks to explain."""
        if self.explain and len(posts):
            self.dropped.append((stage, rule, posts))

    def timed(self, stage: str, duration_s: float) -> None:
        """Note how long a stage took, in seconds."""
        self.durations_s[stage] = duration_s

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Time what is done inside."""
        start_s = time.perf_counter()
        yield
        self.timed(stage, time.perf_counter() - start_s)


def attempt(query: Query, component: str, work: Callable[[], T], fallback: T) -> T:
    """Return what a component makes of it; if it fails, say so in the feed and go on with the fallback."""
    try:
        return work()
    except Exception:  # a component may fail in any way; the feed still goes out
        log.exception("component %s failed for request %s", component, query.request.event.request)
        query.degraded.append(component)
        return fallback


def row_by_row(
    query: Query,
    component: str,
    work: Callable[[Rows], npt.NDArray[N]],
    default: npt.NDArray[N],
    posts: Keys,
    compares_rows: bool,
) -> npt.NDArray[N]:
    """Return what a component makes of each candidate; those on which it fails keep the default, and the feed says so.

    `work` is given row numbers, of `posts`; the query remembers on which of them it failed, for their explanations. A
    component that compares rows fails as a whole (x-algorithm.md 1.1).
    """
    out, waiting = default, [np.arange(len(default))]
    failed = False
    while waiting:
        rows = waiting.pop()
        try:
            values = work(rows)
            if values.shape != rows.shape:
                raise ValueError(f"{component} returned shape {values.shape} for {len(rows)} candidates")
            if len(rows) == len(out) and values.dtype == out.dtype:
                return values  # all at once, as almost always
            out = out.copy() if out is default else out
            out[rows] = values
        except Exception:  # a component may fail in any way; the feed still goes out
            if not failed:
                log.exception("component %s failed for request %s", component, query.request.event.request)
                query.degraded.append(component)
                failed = True
            if len(rows) > 1 and not compares_rows:
                waiting += np.array_split(rows, 2)
            else:
                query.failed.append((component, posts[rows]))
    return out


def run_filters(
    filters: Iterable[Filter], query: Query, table: CandidateTable, accounting: Accounting
) -> tuple[CandidateTable, Mask]:
    """Run filters in their order; return the rows kept and the mask over the rows given.

    A mask is computed over the whole table and counted over the rows still alive. Rows are taken out before a filter
    that compares rows with each other, and at the end: taking out costs more than most rules do.
    """
    given = len(table)
    survivors = np.arange(given)
    alive = np.ones(given, np.bool_)
    for one in filters:
        if not one.enable(query):
            continue
        if one.compares_rows and not alive.all():
            table, survivors = table.take(alive), survivors[alive]
            alive = np.ones(len(table), np.bool_)
        work, everything = partial(_mask, one, query, table), np.ones_like(alive)
        keep = row_by_row(query, f"filter.{one.name}", work, everything, table.post, one.compares_rows)
        before = int(np.count_nonzero(alive))
        if accounting.explain:
            accounting.drop(one.name, one.rule, table.post[alive & ~keep])
        alive &= keep
        accounting.count(one.name, before, int(np.count_nonzero(alive)))
    kept = np.zeros(given, np.bool_)
    kept[survivors[alive]] = True
    return table.take(alive), kept


def _mask(one: Filter, query: Query, table: CandidateTable, rows: Rows) -> Mask:
    return one.keeps(query, table if len(rows) == len(table) else table.take(rows))
