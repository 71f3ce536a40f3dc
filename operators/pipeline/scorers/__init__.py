"""From outputs to scores: a value for each candidate, then scorers in X's order (x-algorithm.md 1.3, 1.5, 1.6)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.runner import row_by_row
from operators.pipeline.scorers.cold_start import author_cold_start
from operators.pipeline.scorers.diversity import author_diversity, dpp
from operators.pipeline.scorers.gate import gated
from operators.pipeline.scorers.network import feedback_fatigue, out_of_network
from operators.pipeline.scorers.reputation import author_reputation, cluster_interest
from operators.pipeline.scorers.steps import OPERATIONS, Scored, Scorer, Scores, Step, Vectors, best_first, head_maxima
from operators.pipeline.scorers.value import (
    HEADS,
    contributions_of,
    dwell_regret,
    negative_offset,
    plain_offset,
    weighted_sum,
)
from operators.viewers.query import Query

__all__ = [
    "HEADS",
    "SCORERS",
    "ScoreTable",
    "Scored",
    "Scorer",
    "Scores",
    "best_first",
    "head_maxima",
    "ranks_of",
    "score",
    "score_alone",
]

OFFSET: Final = Scorer(negative_offset, "is", "1.3", reads=("scoring.negative_offset",))
COLD_START: Final = Scorer(
    author_cold_start,
    "at_least",
    "1.6",
    compares_rows=True,
    switch="cold_start.enabled",
    reads=(
        "cold_start.followers_max",
        "cold_start.views_max",
        "cold_start.rank_share",
        "cold_start.slot",
        "cold_start.age_s",
        "cold_start.thompson",
        "cold_start.thompson_top",
        "cold_start.thompson_likes",
        "cold_start.thompson_others",
    ),
)
DIVERSITY: Final = Scorer(
    author_diversity,
    "times",
    "1.3, 1.5",
    compares_rows=True,
    switch="scoring.author_diversity",
    reads=("scoring.diversity_decay", "scoring.diversity_floor"),
)
NETWORK: Final = Scorer(
    out_of_network,
    "times",
    "1.3, 1.5 item 4",
    switch="scoring.out_of_network",
    reads=(
        "scoring.oon_factor",
        "scoring.topic_oon_factor",
        "scoring.oon_factor_for_replies_and_reposts",
        "scoring.new_viewer_oon_factor",
        "scoring.new_viewer_age_s",
        "scoring.new_viewer_follows_min",
    ),
)
FATIGUE: Final = Scorer(
    feedback_fatigue,
    "times",
    "2023-generation.md 3",
    switch="fatigue.enabled",
    reads=("fatigue.factor", "fatigue.recovery_s"),
)
REPUTATION: Final = Scorer(
    author_reputation,
    "times",
    "2023-generation.md 3",
    switch="reputation.enabled",
    reads=(
        "reputation.verified_mass",
        "reputation.mass",
        "reputation.followings_min",
        "reputation.ratio_max",
        "reputation.ratio_penalty",
    ),
)
INTEREST: Final = Scorer(
    cluster_interest,
    "times",
    "2023-generation.md 4",
    switch="cluster_interest.enabled",
    reads=("cluster_interest.least",),
)
DPP: Final = Scorer(dpp, "times", "1.6", compares_rows=True, switch="dpp.enabled", reads=("dpp.theta", "dpp.pool"))
REGRET: Final = Scorer(dwell_regret, "is", "1.5", compares_rows=True)
PLAIN: Final = Scorer(plain_offset, "is", "2023-generation.md 2", reads=("scoring.negative_offset",))


def _where_positive(scorer: Scorer) -> Scorer:
    """Return a scorer that leaves negative scores alone: a factor below 1 would raise them."""

    def values(query: Query, table: CandidateTable, scored: Scored) -> Scores:
        return np.where(scored.score >= 0, scorer.values(query, table, scored), 1.0)

    values.__name__, values.__doc__ = scorer.name, scorer.values.__doc__
    return replace(scorer, values=values)


FACTORS: Final = (DIVERSITY, NETWORK, FATIGUE, REPUTATION, INTEREST)
# The scorers of each value model, in order (x-algorithm.md 1.5).
SCORERS: Final[dict[str, tuple[Scorer, ...]]] = {
    "weighted": (OFFSET, COLD_START, *FACTORS, DPP),
    "mpn": (*map(_where_positive, FACTORS), OFFSET, COLD_START, DPP),
    "dwell_regret": (REGRET, COLD_START, *FACTORS, DPP),
    "gated": (gated(REGRET, True), gated(OFFSET, False), COLD_START, *FACTORS, DPP),
    "march_2023": (PLAIN, COLD_START, *FACTORS, DPP),
}


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """How each candidate's score came about; `contributions` is [heads, n].

    `score` is `weighted` after the `steps`, in their order.
    """

    contributions: Scores
    weighted: Scores
    steps: tuple[Step, ...]
    score: Scores

    @property
    def value(self) -> Scores:
        """The score before anything but the value model had its say."""
        return next((step.value for step in self.steps if step.operation == "is"), self.weighted)


def score(
    query: Query,
    table: CandidateTable,
    probabilities: npt.NDArray[np.float32],
    vectors: Vectors | None = None,
    chain: Sequence[Scorer] | None = None,
) -> ScoreTable:
    """Return the scores of n candidates from their outputs, float32[n, 19] in the order of the actions.

    `vectors` float32[n, D] are the unit vectors of those that diversity looks at, zeros for the others; `chain` are the
    scorers, those of the value model if left out. A scorer that fails leaves scores as they were, and the feed says so.
    """
    contributions = contributions_of(query, table, probabilities)
    weighted = weighted_sum(contributions)
    scored, steps = Scored(probabilities, contributions, weighted, weighted, vectors), []
    for scorer in SCORERS[query.parameters.scoring.value_model] if chain is None else chain:
        if not scorer.enable(query):
            continue
        # A step that says nothing of a candidate leaves its score as it is.
        silent = np.ones(len(table)) if scorer.operation == "times" else scored.score
        work = partial(_values, scorer, query, table, scored)
        values = row_by_row(query, f"scorer.{scorer.name}", work, silent, table.post, scorer.compares_rows)
        steps.append(Step(scorer.name, scorer.operation, values))
        scored = replace(scored, score=OPERATIONS[scorer.operation](scored.score, values))
    return ScoreTable(contributions, weighted, tuple(steps), scored.score)


def ranks_of(scores: ScoreTable, table: CandidateTable) -> npt.NDArray[np.intp]:
    """Return each candidate's rank by the value model alone, before the factors, from 1."""
    ranks = np.empty(len(table), np.intp)
    ranks[best_first(scores.value, table)] = np.arange(1, len(table) + 1)
    return ranks


def score_alone(query: Query, table: CandidateTable, probabilities: npt.NDArray[np.float32]) -> Scores:
    """Return the weighted sums of candidates times what depends on a candidate alone: near to the final order."""
    weighted = weighted_sum(contributions_of(query, table, probabilities))
    nothing = Scored(probabilities, np.zeros((0, len(table))), weighted, weighted)
    factors = out_of_network(query, table, nothing)
    for scorer in (REPUTATION, INTEREST):
        if scorer.enable(query):
            factors = factors * scorer.values(query, table, nothing)
    return weighted * np.where(weighted > 0, factors, 1.0)


def _values(scorer: Scorer, query: Query, table: CandidateTable, scored: Scored, rows: npt.NDArray[np.intp]) -> Scores:
    if len(rows) == len(table):
        return scorer.values(query, table, scored)
    return scorer.values(query, table.take(rows), scored.take(rows))
