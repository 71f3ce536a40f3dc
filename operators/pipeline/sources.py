"""The sources of candidates, each a rule in a sentence (x-algorithm.md 1.2, 1.5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from models.phoenix import Phoenix
from operators.keys import first_of_each, keys_of
from operators.pipeline.candidates import (
    CACHED_SLATE,
    CO_LIKERS,
    FRESH,
    POPULAR,
    REQUESTED,
    RETRIEVAL,
    SIMCLUSTERS,
    SOURCES,
    THUNDER,
    TOPICS,
    CandidateTable,
)
from operators.pipeline.filters import on_one_of
from operators.pipeline.hydration import hydrate
from operators.pipeline.runner import Accounting, attempt
from operators.posts.co_likers import Circle
from operators.posts.columns import Rows
from operators.posts.live import LivePosts
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX

LIKED: Final = np.uint32(1 << ACTION_INDEX["favorite"])
NO_ROWS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Asked:
    """What sources bring from: the query, the posts, the model, and what people like the viewer acted on of late."""

    query: Query
    posts: LivePosts
    phoenix: Phoenix
    accounting: Accounting
    circle: Circle | None


def thunder(asked: Asked) -> Rows:
    """Bring the newest posts of the authors the viewer follows."""
    query = asked.query
    relations, viewer = query.relations, query.request.viewer
    return asked.posts.thunder.newest(relations.followed, viewer, query.at_ms, query.seen, query.parameters.thunder)


def simclusters(asked: Asked) -> Rows:
    """Bring, in turn, the posts nearest to each of the viewer's newest likes by who liked them.

    Nearest are those liked by people with the interests of who liked the other. Where interest clusters are kept, that
    is of recorded logs: on Kafka an instance sees only its own viewers' likes.
    """
    clusters, query, table = asked.posts.interest_clusters, asked.query, asked.posts.table
    if clusters is None or not len(clusters.index):
        return NO_ROWS
    parameters, history = query.parameters.simclusters, query.context.history
    liked = history.post[history.actions & LIKED != 0][::-1]
    signals = liked[np.sort(np.unique(liked, return_index=True)[1])][: parameters.signals_max]
    rows = table.rows_of(signals)
    known = rows >= 0
    originals = table.reposted(rows[known])
    signals[known] = np.where(originals != 0, originals, signals[known])
    near = [found for post in signals.tolist() if len(found := clusters.near(post, parameters))]
    if not near:
        return NO_ROWS
    posts = np.concatenate(near)
    turns = np.concatenate([np.arange(len(one)) for one in near])
    posts = posts[np.argsort(turns, kind="stable")]
    rows = table.rows_of(posts[np.sort(np.unique(posts, return_index=True)[1])])
    rows = rows[table.visible(rows, query.at_ms)]
    young = table.gather(rows).created_ms >= query.at_ms - parameters.age_s * 1000
    return rows[young][: parameters.posts_max]


def phoenix_retrieval(asked: Asked) -> Rows:
    """Bring the posts whose vectors are nearest to the viewer's; what has just arrived is among them."""
    query, posts = asked.query, asked.posts
    index = posts.index
    if index is None:
        raise LookupError("there is no candidate index")
    posts.refresh_index()
    with asked.accounting.timing("embed_viewer"):
        vector = asked.phoenix.embed_viewer(query.context)
    oldest_ms = query.at_ms - query.parameters.posts.retention_s * 1000
    with asked.accounting.timing("search"):
        rows, _ = index.search(vector, query.parameters.retrieval.posts_max, query.at_ms, oldest_ms)
    return rows


def co_likers(asked: Asked) -> Rows:
    """Bring the posts that people who liked what the viewer liked have acted on within a day, by what they share."""
    kept, circle = asked.posts.co_likers, asked.circle
    if kept is None or circle is None:
        return NO_ROWS
    rows = asked.posts.table.rows_of(kept.candidates(circle, asked.query.parameters.co_likers.posts_max))
    return rows[asked.posts.table.visible(rows, asked.query.at_ms)]


def topics(asked: Asked) -> Rows:
    """Bring the newest originals on the topics asked for, of the newest `scan_max` posts; others may be too few."""
    limits = asked.query.parameters.topics
    rows = _newest_originals(asked, limits.scan_max, limits.scan_max)
    found = asked.posts.table.gather(rows)
    chosen: Rows = rows[on_one_of(asked.query.request.event.topics, found.terms, found.topics)]
    return chosen[: limits.posts_max]


def popular(asked: Asked) -> Rows:
    """Bring the originals that were acted on most, of the newest `scan_max` posts."""
    fallback = asked.query.parameters.fallback
    rows = _newest_originals(asked, fallback.scan_max, fallback.scan_max)
    counts = asked.posts.counts.kinds(asked.posts.table.keys(rows))
    acted = counts[:, 1:].sum(axis=1, dtype=np.int64)
    best = np.argsort(-acted, kind="stable")[: fallback.popular_max]
    chosen: Rows = rows[best[acted[best] > 0]]
    return chosen


def fresh(asked: Asked) -> Rows:
    """Bring the newest originals, of the newest `scan_max` posts."""
    fallback = asked.query.parameters.fallback
    return _newest_originals(asked, fallback.fresh_max, fallback.scan_max)


def requested(asked: Asked) -> Rows:
    """Bring the posts that the request names, in its order, as far as they are live."""
    query, table = asked.query, asked.posts.table
    rows = table.rows_of(keys_of(query.request.event.posts))
    rows = rows[(rows >= 0) & first_of_each(rows.view(np.uint64))]
    return rows[table.visible(rows, query.at_ms)]


def cached_slate(asked: Asked) -> Rows:
    """Bring the viewer's best candidates of a moment ago, ranked again, in place of other sources and the model."""
    slate, table = asked.query.slate, asked.posts.table
    if slate is None:
        return NO_ROWS
    rows = table.rows_of(slate.posts)
    return rows[table.visible(rows, asked.query.at_ms)]


def _newest_originals(asked: Asked, count: int, scan_max: int) -> Rows:
    """Return the rows of the newest posts that are neither replies nor reposts, newest first.

    Of the newest `scan_max` posts: where nothing can be shown, all 200,000 took 15 ms.
    """
    table = asked.posts.table
    first, end, found = max(table.base, table.end - scan_max), table.end, [NO_ROWS]
    while end > first and sum(map(len, found)) < count:
        start = max(first, end - 2 * count)
        rows = np.arange(start, end)[::-1]
        rows = rows[table.originals(rows)]
        found.append(rows[table.visible(rows, asked.query.at_ms)])
        end = start
    return np.concatenate(found)[:count]


def _always(_query: Query, _found: int) -> bool:
    return True


def _for_strangers(query: Query, _found: int) -> bool:
    return not query.request.event.in_network_only


def _where_cached(query: Query, _found: int) -> bool:
    return query.slate is not None


def _where_topics(query: Query, found: int) -> bool:
    return _for_strangers(query, found) and bool(query.request.event.topics)


def _where_few(query: Query, found: int) -> bool:
    return _for_strangers(query, found) and found < query.parameters.fallback.below


@dataclass(frozen=True, slots=True)
class Source:
    """A component of the pipeline: the rows it brings, and for which queries, given how many there are already.

    `cheap` sources are asked for late requests too. `origin`, `switch` and `reads` as for filters and scorers.
    """

    brings: Callable[[Asked], Rows]
    code: int
    origin: str
    switch: str
    reads: tuple[str, ...]
    wanted: Callable[[Query, int], bool] = _for_strangers
    cheap: bool = False

    @property
    def name(self) -> str:
        """The name in feeds, parameters and metrics."""
        return SOURCES[self.code]

    @property
    def rule(self) -> str:
        """The rule in one sentence, the first line of the docstring."""
        return (self.brings.__doc__ or "").partition("\n")[0]


THUNDER_POSTS: Final = Source(
    thunder,
    THUNDER,
    "1.5, 2",
    "thunder.enabled",
    (
        "thunder.posts_max",
        "thunder.followees_max",
        "thunder.excluded_max",
        "thunder.originals_per_author",
        "thunder.secondary_per_author",
        "thunder.scan_per_author",
    ),
    wanted=_always,
    cheap=True,
)
REQUESTED_POSTS: Final = Source(requested, REQUESTED, "1.5 other surfaces", "", (), wanted=_always, cheap=True)
IN_ORDER: Final[tuple[Source, ...]] = (
    THUNDER_POSTS,
    Source(
        simclusters,
        SIMCLUSTERS,
        "1.5; 2023-generation.md 4",
        "simclusters.enabled",
        (
            "simclusters.posts_max",
            "simclusters.signals_max",
            "simclusters.per_signal_max",
            "simclusters.score_min",
            "simclusters.age_s",
            "simclusters.clusters_scanned",
            "simclusters.posts_per_cluster",
            "simclusters.engagements_min",
            "simclusters.refresh_s",
            "simclusters.refit_s",
            "simclusters.followers_min",
            "simclusters.interests_max",
            "simclusters.follow_weight",
            "simclusters.like_weight",
            "simclusters.like_half_life_s",
        ),
    ),
    Source(phoenix_retrieval, RETRIEVAL, "1.5, 3.2", "retrieval.enabled", ("retrieval.posts_max",)),
    Source(
        topics, TOPICS, "1.5 sources", "topics.enabled", ("topics.posts_max", "topics.scan_max"), wanted=_where_topics
    ),
    Source(co_likers, CO_LIKERS, "not X's", "co_likers.enabled", ("co_likers.posts_max",)),
    Source(
        popular,
        POPULAR,
        "not X's",
        "fallback.enabled",
        ("fallback.below", "fallback.popular_max", "fallback.scan_max"),
        wanted=_where_few,
    ),
    Source(
        fresh,
        FRESH,
        "not X's",
        "fallback.enabled",
        ("fallback.below", "fallback.fresh_max", "fallback.scan_max"),
        wanted=_where_few,
    ),
    Source(
        cached_slate,
        CACHED_SLATE,
        "1.5 cached-slate fast path",
        "cached_slate.enabled",
        ("cached_slate.candidates_min", "cached_slate.kept_max", "cached_slate.ttl_s", "cached_slate.viewers_max"),
        wanted=_where_cached,
        cheap=True,
    ),
)


def gather(
    query: Query,
    posts: LivePosts,
    phoenix: Phoenix,
    accounting: Accounting,
    sources: Sequence[Source] = IN_ORDER,
) -> CandidateTable:
    """Return the candidates of every source, hydrated, in the order of the sources; of duplicates the first wins later.

    A source that fails brings nothing, and the feed says so. A late request gets what costs least; one that is shed
    gets nothing.
    """
    nothing = partial(hydrate, query, posts, NO_ROWS, np.empty(0, np.uint8))
    if query.request.shed:
        return nothing()
    rows, codes = [NO_ROWS], [np.empty(0, np.uint8)]
    fast = query.slate is not None
    circle = None if fast else attempt(query, "co_likers", partial(_circle, query, posts, accounting), None)
    asked = Asked(query, posts, phoenix, accounting, circle)
    for source in sources:
        runs = query.parameters.says(source.switch) and (source.cheap or not query.late)
        runs = runs and fast == (source.code == CACHED_SLATE)
        if runs and source.wanted(query, sum(map(len, rows))):
            found = attempt(query, f"source.{source.name}", partial(source.brings, asked), NO_ROWS)
            accounting.count(f"source.{source.name}", len(found), len(found))
            rows.append(found)
            codes.append(np.full(len(found), source.code, np.uint8))
    everything, source_codes = np.concatenate(rows), np.concatenate(codes)
    read = circle if phoenix.config.co_likers else None  # columns that nobody reads cost a sixth of hydration
    hydrated = attempt(query, "hydrate", partial(hydrate, query, posts, everything, source_codes, read), None)
    return nothing() if hydrated is None else hydrated


def _circle(query: Query, posts: LivePosts, accounting: Accounting) -> Circle | None:
    """Return what people like the viewer acted on of late; None where nobody keeps that."""
    if posts.co_likers is None:
        return None
    with accounting.timing("co_likers"):
        return posts.co_likers.circle(query.request.viewer, query.at_ms)
