"""Factors from how viewer and author stand to each other."""

from typing import Final

import numpy as np

from operators.keys import Mask
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores, where
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX


def out_of_network(query: Query, table: CandidateTable, _scored: Scored) -> Scores:
    """Lower out-of-network posts by `oon_factor`, and since August in-network replies and reposts too (1.5).

    Where topics are asked for it is `topic_oon_factor`, for an eligible new viewer's other requests
    `new_viewer_oon_factor`; X does not say which of these two goes first.
    """
    scoring = query.parameters.scoring
    usual = scoring.topic_oon_factor if query.request.event.topics else scoring.oon_factor
    lowered: Mask = ~table.in_network
    as_new = query.is_new_viewer and not query.request.event.topics
    factors = where(lowered, scoring.new_viewer_oon_factor if as_new else usual)
    if scoring.oon_factor_for_replies_and_reposts:
        secondary = table.in_network & (table.is_reply | table.is_repost)
        factors = np.where(secondary, usual, factors)
    return factors


NOT_INTERESTED: Final = np.uint32(1 << ACTION_INDEX["not_interested"])


def feedback_fatigue(query: Query, table: CandidateTable, _scored: Scored) -> Scores:
    """Lower posts of authors the viewer was not interested in, less and less over `fatigue.recovery_s` (2023, 3).

    From `fatigue.factor` at once to 1 in a line; the latest time counts, as far back as the action sequence goes.
    """
    history, fatigue = query.history, query.parameters.fatigue
    disliked = np.flatnonzero(history.actions & NOT_INTERESTED)
    factors = np.ones(len(table))
    # Oldest first, so that the latest word on an author is the last.
    for author, at_ms in zip(history.author[disliked], history.at_ms[disliked].tolist(), strict=True):
        passed = min(max((query.at_ms - at_ms) / 1000 / fatigue.recovery_s, 0.0), 1.0)
        factors[table.rank_author == author] = fatigue.factor + (1 - fatigue.factor) * passed
    return factors
