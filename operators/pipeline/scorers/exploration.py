"""Exploration: a few places below the top for topics of which the viewer has met least."""

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores, best_first
from operators.viewers.query import Query
from schemas.ids import key_of


def exploration(query: Query, table: CandidateTable, scored: Scored) -> Scores:
    """Raise the best posts on the topics that the viewer's history has met least to places from `slot` on.

    One post a topic, `posts` in all, `every` so many places; what ranks higher by itself stays there. A topic is the
    first term of a post, the best of a topic is that of the highest weighted sum, and among topics met equally often
    the request's id draws, so that a replay draws the same. Ours: feeds that show only what is known to be liked bring
    nothing to learn from (docs/decisions/0035-exploration.md).
    """
    explored = query.parameters.exploration
    values = scored.score.copy()
    places = explored.slot + explored.every * np.arange(explored.posts)
    places = places[places < len(values)]
    chosen = _best_of_topics(table, scored.weighted, _least_met(query, table, len(places)))
    if len(chosen):
        values[chosen] = -np.sort(-scored.score)[places[: len(chosen)]]
    return values


def _least_met(query: Query, table: CandidateTable, count: int) -> npt.NDArray[np.uint16]:
    """Return so many topics of candidates, those that the fewest groups of the history are on first."""
    topics = np.unique(table.rank_terms[:, 0])
    topics = topics[topics != 0]
    met = np.bincount(query.context.history.terms[:, 0], minlength=int(topics.max(initial=0)) + 1)[topics]
    drawn = np.random.default_rng(key_of(query.request.event.request)).random(len(topics))
    found: npt.NDArray[np.uint16] = topics[np.lexsort((drawn, met))[:count]]
    return found


def _best_of_topics(table: CandidateTable, weighted: Scores, topics: npt.NDArray[np.uint16]) -> npt.NDArray[np.intp]:
    """Return the best row of each topic."""
    rows = [best_first(weighted, table, 1, np.flatnonzero(table.rank_terms[:, 0] == topic)) for topic in topics]
    return np.concatenate(rows) if rows else np.zeros(0, np.intp)
