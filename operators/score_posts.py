"""Scores of the posts that a request names, each as if it were alone: nothing is dropped, ordered or remembered."""

from dataclasses import replace
from functools import partial

import numpy as np

from operators.keys import Keys
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.explanation import explain, maxima_of, why
from operators.pipeline.runner import Accounting, attempt, run_filters
from operators.pipeline.scorers import ranks_of, score
from operators.pipeline.surfaces import Surface, surface_of
from operators.ranked import Ranked
from operators.viewers.query import Query
from operators.viewers.viewers import Viewers
from schemas.events import FeedRequest
from schemas.feeds import Dropped, Feed, FeedItem
from schemas.ids import Id, key_of


def would_drop(surface: Surface, query: Query, table: CandidateTable, accounting: Accounting) -> None:
    """Account for what the filters of a surface would drop, and for each what it would drop of all posts."""
    for one in surface.filters:
        told = Accounting(explain=True)
        run_filters((one,), query, table, told)
        accounting.stages += told.stages
        accounting.dropped += told.dropped


def score_posts(ranked: Ranked, viewers: Viewers) -> Feed:
    """Return every post asked for that is live, in the order asked, with its score and what would drop it."""
    query, table, accounting = ranked.query, ranked.table, ranked.accounting
    event, surface = query.request.event, surface_of(query)
    query = replace(query, served=viewers.served(query.request))
    would_drop(replace(surface, filters=surface.at_the_slate), query, table, accounting)
    scoreless = np.zeros(len(table))
    for last in surface.post_selection:
        if last.enable(query):
            everything = np.arange(len(table))
            kept = attempt(query, f"filter.{last.name}", partial(last.keeps, query, table, scoreless), everything)
            accounting.count(last.name, len(table), len(kept))
            gone = table.take(np.delete(everything, kept))
            accounting.dropped += [(last.name, rule, posts) for rule, posts in last.explained(query, gone)]
    probabilities, scores = ranked.probabilities, None
    if probabilities is not None:
        chain = surface.scorers(query.parameters)
        scores = attempt(query, "scorers", partial(score, query, table, probabilities, None, chain), None)
    ranks = None if scores is None else ranks_of(scores, table)
    maxima = maxima_of(probabilities)
    asked, drops = _asked(event), _first_drops(accounting)
    items = []
    for row, reason in enumerate(why(table, scores, np.arange(len(table)))):
        key, author = int(table.post[row]), ranked.names.original_id(int(table.author[row]))
        if author is None:
            continue  # nobody could look it up: it is told among the unknown
        explanation = None
        if scores is not None and probabilities is not None and ranks is not None:
            explanation = explain(
                scores, probabilities, ranks, maxima, row, query.failed_on(key) if query.failed else ()
            )
        items.append(
            FeedItem(
                post=asked.pop(key),
                author=author,
                score=0.0 if scores is None else float(scores.score[row]),
                source="requested",
                in_network=bool(table.in_network[row]),
                why=reason,
                repost_of=ranked.names.original_id(int(table.repost_of[row])) if table.is_repost[row] else None,
                interstitial=query.visibility.reason(min(int(table.verdict[row]), 0)),
                explanation=explanation,
                dropped_by=drops.get(key, ""),
            )
        )
    return Feed(
        at=event.at,
        request=event.request,
        viewer=event.viewer,
        model=ranked.model,
        items=tuple(items),
        stages=tuple(accounting.stages),
        experiments=dict(query.request.exposures),
        degraded=tuple(query.degraded),
        dropped=_told(event, accounting.dropped),
        feed=event.feed,
        unknown=tuple(asked.values()),
    )


def _asked(event: FeedRequest) -> dict[int, Id]:
    """Return the posts asked for by key, in their order."""
    return {key_of(one): one for one in event.posts}


def _first_drops(accounting: Accounting) -> dict[int, str]:
    """Return for each post that would be dropped the first stage that would do it."""
    first: dict[int, str] = {}
    for stage, _, posts in accounting.dropped:
        for key in posts.tolist():
            first.setdefault(key, stage)
    return first


def _told(event: FeedRequest, dropped: list[tuple[str, str, Keys]]) -> tuple[Dropped, ...]:
    asked = _asked(event)
    some = (one for one in dropped if len(one[2]))
    return tuple(Dropped(stage, rule, tuple(asked[key] for key in posts.tolist())) for stage, rule, posts in some)
