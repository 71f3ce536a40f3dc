"""Factors from how viewer and author stand to each other."""

import numpy as np

from operators.keys import Mask
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores, where
from operators.viewers.query import Query


def out_of_network(query: Query, table: CandidateTable, _scored: Scored) -> Scores:
    """Lower out-of-network posts by `oon_factor`, and since August in-network replies and reposts too (1.5)."""
    scoring = query.parameters.scoring
    lowered: Mask = ~table.in_network
    factors = where(lowered, scoring.new_viewer_oon_factor if query.is_new_viewer else scoring.oon_factor)
    if scoring.oon_factor_for_replies_and_reposts:
        secondary = table.in_network & (table.is_reply | table.is_repost)
        factors = np.where(secondary, scoring.oon_factor, factors)
    return factors
