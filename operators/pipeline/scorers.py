"""From probabilities to scores, in X's order: weighted sum and offset, author diversity, out-of-network factor.

x-algorithm.md 1.3 and 1.5. All in float64 and in an order that a reader with pen and paper can follow, so that what an
explanation shows adds up to the score to the last bit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Mask
from operators.parameters import CONTINUOUS_WEIGHTS, Parameters, Weights
from operators.pipeline.candidates import CandidateTable
from operators.viewers.query import Query
from schemas.actions import ACTIONS

Scores = npt.NDArray[np.float64]

# The heads in the order of the sum; weights without a head in the model add nothing (a missing probability is 0).
HEADS: Final[tuple[str, ...]] = ACTIONS


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """How each candidate's score came about, float64[n] each; `contributions` is [heads, n].

    `score` = `offset_score` x `diversity` x `oon`, multiplied in that order.
    """

    contributions: Scores
    weighted: Scores
    offset_score: Scores
    diversity: Scores
    oon: Scores
    score: Scores


def head_weights(query: Query, table: CandidateTable) -> Scores:
    """Return the weight of each head for each candidate, [heads, n], with the rules that switch or raise one.

    vqv counts only for videos strictly longer than `video_ms_min`, and not for viewers with `video_followers_max`
    followers; reply gains `reply_mutual_follow_boost` on an original by somebody who follows back (1.5).
    """
    parameters = query.parameters
    weights = np.empty((len(HEADS), len(table)))
    for index, head in enumerate(HEADS):
        weights[index] = getattr(parameters.weights, head)
    counts = table.video_ms > parameters.scoring.video_ms_min
    if query.relations.followers >= parameters.scoring.video_followers_max:
        counts = np.zeros_like(counts)
    weights[HEADS.index("vqv")] *= counts
    boosted = table.mutual_follow & ~table.is_reply & ~table.is_repost
    weights[HEADS.index("reply")] += parameters.scoring.reply_mutual_follow_boost * boosted
    return weights


def weighted_sum(contributions: Scores) -> Scores:
    """Return the sum of each candidate's contributions, head by head, float64[n]."""
    total = np.zeros(contributions.shape[1])
    for contribution in contributions:
        total = total + contribution
    return total


def negative_offset(weighted: Scores, weights: Weights, offset: float) -> Scores:
    """Return scores none of which is negative, in unchanged order (x-algorithm.md 1.3).

    With T the sum of all weights' sizes and N that of the negative ones: non-negative sums start at the offset e,
    negative ones are squeezed into [0, N/T x e), and where T is 0 the sum is cut at 0. A sum below -N counts as -N.
    """
    values = [getattr(weights, name) for name in Weights.__struct_fields__ if name not in CONTINUOUS_WEIGHTS]
    negative = sum(-value for value in values if value < 0)
    total = sum(value for value in values if value > 0) + negative
    if total == 0:
        return np.maximum(weighted, 0.0)
    squeezed = (np.maximum(weighted, -negative) + negative) / total * offset
    return np.where(weighted < 0, squeezed, weighted + offset)


def author_diversity(scores: Scores, table: CandidateTable, parameters: Parameters) -> Scores:
    """Return each candidate's factor (1 - floor) x decay^k + floor, k being its author's better posts (1.3)."""
    order = best_first(scores, table)
    author = table.author[order]
    by_author = np.argsort(author, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], author[by_author][1:] != author[by_author][:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(author)]]))
    earlier = np.empty(len(author), np.int64)
    earlier[order[by_author]] = np.arange(len(author)) - np.repeat(starts, sizes)
    floor, decay = parameters.scoring.diversity_floor, parameters.scoring.diversity_decay
    return np.asarray((1 - floor) * decay ** earlier.astype(np.float64) + floor)


def oon_factor(query: Query, table: CandidateTable) -> Scores:
    """Return `oon_factor` for out-of-network posts, since August in-network replies and reposts too; else 1 (1.5)."""
    scoring = query.parameters.scoring
    value = scoring.new_viewer_oon_factor if query.is_new_viewer else scoring.oon_factor
    lowered: Mask = ~table.in_network
    factors = np.where(lowered, value, 1.0)
    if scoring.oon_factor_for_replies_and_reposts:
        secondary = table.in_network & (table.is_reply | table.is_repost)
        factors = np.where(secondary, scoring.oon_factor, factors)
    return factors


def best_first(scores: Scores, table: CandidateTable) -> npt.NDArray[np.intp]:
    """Return the order by score, highest first; ties by newest, then by highest key, so that it is always the same."""
    return np.lexsort((~table.post, -table.created_ms, -scores))


def score(query: Query, table: CandidateTable, probabilities: npt.NDArray[np.float32]) -> ScoreTable:
    """Return the scores of n candidates from their probabilities, float32[n, 19] in the order of the actions."""
    contributions = head_weights(query, table) * probabilities.T.astype(np.float64)
    weighted = weighted_sum(contributions)
    parameters = query.parameters
    offset_score = negative_offset(weighted, parameters.weights, parameters.scoring.negative_offset)
    diversity = author_diversity(offset_score, table, parameters)
    oon = oon_factor(query, table)
    return ScoreTable(contributions, weighted, offset_score, diversity, oon, offset_score * diversity * oon)
