"""The value of a candidate from its probabilities: the weighted sum with its offset, and X's other value models.

x-algorithm.md 1.3 and 1.5. All in float64 and in an order that a reader with pen and paper can follow, so that what an
explanation shows adds up to the score to the last bit.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.parameters import CONTINUOUS_WEIGHTS, Weights
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX, ACTIONS, DWELL_TIME

# The heads in the order of the sum; weights without a head in the model add nothing (a missing probability is 0).
HEADS: Final[tuple[str, ...]] = ACTIONS
# Dwell-regret (1.5): the positive heads whose probabilities are compared with their means, and what regret costs.
REGRET_HEADS: Final = ("favorite", "reply", "retweet", "share", "quote", "profile_click", "follow_author")
REGRET: Final = {"not_interested": -10_000.0, "block_author": -8_000.0, "mute_author": -15_000.0, "report": -60_000.0}
REGRET_TEMPERATURE: Final = 10.0
DWELL_MIN_S: Final = 1.0
MEAN_MIN: Final = 1e-12


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


def contributions_of(query: Query, table: CandidateTable, probabilities: npt.NDArray[np.float32]) -> Scores:
    """Return weight times output of each head for each candidate, [heads, n], from outputs float32[n, heads]."""
    contributions = head_weights(query, table)
    contributions *= probabilities.T
    return contributions


def weighted_sum(contributions: Scores) -> Scores:
    """Return the sum of each candidate's contributions, head by head, float64[n]."""
    total = np.zeros(contributions.shape[1])
    for contribution in contributions:
        total += contribution
    return total


def squeezed(weighted: Scores, weights: Weights, offset: float) -> Scores:
    """Return scores none of which is negative, in unchanged order (x-algorithm.md 1.3).

    With T the sum of all weights' sizes and N that of the negative ones: non-negative sums start at the offset e,
    negative ones are squeezed into [0, N/T x e), and where T is 0 the sum is cut at 0. A sum below -N counts as -N.
    """
    values = [getattr(weights, name) for name in Weights.__struct_fields__ if name not in CONTINUOUS_WEIGHTS]
    negative = sum(-value for value in values if value < 0)
    total = sum(value for value in values if value > 0) + negative
    if total == 0:
        return np.maximum(weighted, 0.0)
    low = (np.maximum(weighted, -negative) + negative) / total * offset
    return np.where(weighted < 0, low, weighted + offset)


def negative_offset(query: Query, _table: CandidateTable, scored: Scored) -> Scores:
    """Lift sums that are not negative by the offset, and squeeze negative ones into what is below it."""
    return squeezed(scored.score, query.parameters.weights, query.parameters.scoring.negative_offset)


def plain_offset(query: Query, _table: CandidateTable, scored: Scored) -> Scores:
    """Add the offset to every sum, negative ones too (2023-generation.md 2)."""
    return scored.score + query.parameters.scoring.negative_offset


def dwell_regret(_query: Query, _table: CandidateTable, scored: Scored) -> Scores:
    """Take expected seconds, up to doubled by actions likelier than the request's mean, cut by expected regret.

    max(dwell, 1 s) x 2 sigmoid(sum of (p / mean - 1) over seven heads / T) x exp(min(regret, 0) / T), T = 10. Which
    seven heads X compares is not published; these are the ones that tell interest in a post or its author.
    """
    p = scored.probabilities.astype(np.float64)
    ahead = np.zeros(len(p))
    for head in REGRET_HEADS:
        mine = p[:, ACTION_INDEX[head]]
        ahead = ahead + (mine / max(float(mine.sum()) / max(len(mine), 1), MEAN_MIN) - 1.0)
    regret = np.zeros(len(p))
    for head, coefficient in REGRET.items():
        regret = regret + coefficient * p[:, ACTION_INDEX[head]]
    seconds = np.maximum(p[:, DWELL_TIME], DWELL_MIN_S)
    likely = 2.0 / (1.0 + np.exp(-ahead / REGRET_TEMPERATURE))
    return seconds * likely * np.exp(np.minimum(regret, 0.0) / REGRET_TEMPERATURE)
