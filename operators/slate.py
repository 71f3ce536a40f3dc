"""The slate: from ranked candidates to the feed of one viewer, and what serving it leaves behind."""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace as replace_fields

from operators.blending import blended, suggestions
from operators.cursors import issue
from operators.keys import Keys, keys_of
from operators.pipeline.candidates import SOURCES, CandidateTable
from operators.pipeline.explanation import explain, maxima_of, why
from operators.pipeline.filters import visible_first
from operators.pipeline.runner import Accounting, attempt, run_filters
from operators.pipeline.scorers import ScoreTable, best_first, ranks_of, score
from operators.pipeline.surfaces import Surface, surface_of
from operators.ranked import Ranked
from operators.score_posts import score_posts
from operators.viewers.query import Query
from operators.viewers.viewers import Viewers
from schemas.events import Served
from schemas.feeds import Dropped, Feed, FeedItem, ScoreExplanation

__all__ = ["Ranked", "make_feed", "originals_of", "refused_feed"]


def make_feed(ranked: Ranked, viewers: Viewers) -> tuple[Feed, Served | None]:
    """Score, select and order the candidates; remember and report what is served (x-algorithm.md 1.2, 1.5).

    A page of a session that is over has no posts, and serves none.
    """
    query, accounting, surface = ranked.query, ranked.accounting, surface_of(ranked.query)
    if surface.each_alone:
        return score_posts(ranked, viewers), None
    query = replace(query, served=viewers.served(query.request))
    if query.request.cursor is not None:
        shown = viewers.shown(query.request)
        if shown is None:
            return refused_feed(ranked, EXPIRED)
        query = replace(query, shown=shown)
    table, kept = run_filters(surface.at_the_slate, query, ranked.table, accounting)
    probabilities = None if ranked.probabilities is None else ranked.probabilities[kept]
    vectors = None if ranked.vectors is None else ranked.vectors[kept]
    scores = None
    if probabilities is not None:
        chain = surface.scorers(query.parameters)
        scores = attempt(query, "scorers", partial(score, query, table, probabilities, vectors, chain), None)
    # No word from the model: newest first, without scores to pretend otherwise (x-algorithm.md 8, item 7).
    if scores is None:
        best = np.argsort(-table.created_ms, kind="stable")[: query.selected_max]
    else:
        best = best_first(scores.score, table, query.selected_max)
    chosen = _select(surface, query, table, scores, best, accounting)
    feed = _feed(ranked, query, table, scores, chosen, probabilities)
    event = query.request.event
    if surface.modules:
        whom = () if scores is None else suggestions(query, table, scores, ranked.names)
        feed = blended(feed, query, whom, viewers.modules_ms(query.request))
        viewers.remember_modules(query.request, {one.kind for one in feed.modules})
    viewers.remember_served(query.request, keys_of(feed.shown))
    left = visible_first(query, table)
    left[chosen] = False
    feed = replace_fields(feed, cursor=_next_page(query, feed, bool(left.any()), viewers))
    return feed, Served(event.at, event.request, event.viewer, feed.shown, event.surface, ranked.model)


EXPIRED = "expired: the session of this cursor is over; ask without a cursor for a new feed"
SHED = "shed: there are more requests than can be answered, and this one has waited longest; ask again later"


def refused_feed(ranked: Ranked, error: str) -> tuple[Feed, None]:
    """Return the answer to a request that gets none: no posts, and why. Nothing counts as served."""
    event = ranked.query.request.event
    return Feed(
        event.at, event.request, event.viewer, ranked.model, items=(), stages=(), error=error, feed=event.feed
    ), None


def originals_of(feed: Feed) -> Keys:
    """Return what a feed shows, reposts as what they repeat."""
    pinned = feed.shown[: len(feed.shown) - len(feed.items)]
    return keys_of([*pinned, *(item.post if item.repost_of is None else item.repost_of for item in feed.items)])


def _next_page(query: Query, feed: Feed, more: bool, viewers: Viewers) -> str | None:
    """Return the cursor of the next page where there is more to show, and remember what this one shows."""
    request, pagination = query.request, query.parameters.pagination
    more &= pagination.enabled
    if more or request.cursor is not None:
        more &= viewers.remember_page(request, originals_of(feed)) <= pagination.shown_max
    return issue(request.page.next, request.viewer, request.event.feed) if more else None


def _select(
    surface: Surface,
    query: Query,
    table: CandidateTable,
    scores: ScoreTable | None,
    chosen: npt.NDArray[np.intp],
    accounting: Accounting,
) -> npt.NDArray[np.intp]:
    """Return the rows of the feed: of the best `top_k` what the last filters keep, cut to the asked length."""
    size, view = query.feed_size, table.take(chosen)
    accounting.count("top_k", len(table), len(chosen))
    for last in surface.post_selection:
        if not last.enable(query):
            continue
        values = np.zeros(len(chosen)) if scores is None else scores.score[chosen]
        everything = np.arange(len(chosen))
        keep = attempt(query, f"filter.{last.name}", partial(last.keeps, query, view, values), everything)
        if accounting.explain:
            for rule, posts in last.explained(query, view.take(np.delete(everything, keep))):
                accounting.drop(last.name, rule, posts)
        accounting.count(last.name, len(chosen), len(keep))
        if not np.array_equal(keep, everything):
            chosen, view = chosen[keep], view.take(keep)
    accounting.count("truncate", len(chosen), len(chosen[:size]))
    return chosen[:size]


def _feed(
    ranked: Ranked,
    query: Query,
    table: CandidateTable,
    scores: ScoreTable | None,
    chosen: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float32] | None,
) -> Feed:
    event, spell = query.request.event, ranked.names.original_id
    explained = event.explain and scores is not None and probabilities is not None
    ranks = ranks_of(scores, table) if explained and scores is not None else None
    reasons = why(_as_brought(query, table), scores, chosen, surface_of(query).ranked)

    maxima = maxima_of(probabilities) if explained else {}

    def told(row: int) -> ScoreExplanation:
        failed = query.failed_on(int(table.post[row])) if query.failed else ()
        return explain(scores, probabilities, ranks, maxima, row, failed)  # type: ignore[arg-type]

    items = []
    for place, row in enumerate(chosen.tolist()):
        post, author = spell(int(table.post[row])), spell(int(table.author[row]))
        if post is None or author is None:
            continue  # nobody could look it up
        items.append(
            FeedItem(
                post=post,
                author=author,
                score=0.0 if scores is None else float(scores.score[row]),
                source=SOURCES[table.source[row]],
                in_network=bool(table.in_network[row]),
                why=reasons[place],
                repost_of=spell(int(table.repost_of[row])) if table.is_repost[row] else None,
                interstitial=query.visibility.reason(min(int(table.verdict[row]), 0)),
                explanation=told(row) if explained else None,
            )
        )
    return Feed(
        at=event.at,
        request=event.request,
        viewer=event.viewer,
        model=ranked.model,
        items=tuple(items),
        stages=tuple(ranked.accounting.stages),
        experiments=dict(query.request.exposures),
        degraded=tuple(query.degraded),
        dropped=tuple(
            Dropped(stage, rule, tuple(spelled for key in posts.tolist() if (spelled := spell(key)) is not None))
            for stage, rule, posts in ranked.accounting.dropped
        ),
        feed=event.feed,
    )


def _as_brought(query: Query, table: CandidateTable) -> CandidateTable:
    """Return candidates with the sources that brought them, those of a cached slate when it was made."""
    slate = query.slate
    return table if slate is None else replace(table, source=slate.sources[slate.places(table.post)])
