"""Diversity: fewer posts of one author, and a selection of posts that are unlike each other."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores, best_first, earlier_of_author
from operators.viewers.query import Query

# Below this, what is left of a post beside those chosen is nothing (x-algorithm.md 1.6).
VARIANCE_MIN: Final = 1e-6
SCORE_MIN: Final = 1e-6
# A post without a vector is unlike all others, which would favour it: it counts for half (x-algorithm.md 8, item 6).
MISSING_FACTOR: Final = 0.5


def author_diversity(query: Query, table: CandidateTable, scored: Scored) -> Scores:
    """Lower the k-th further post of an author to (1 - floor) x decay^k + floor (1.3)."""
    scoring = query.parameters.scoring
    earlier = earlier_of_author(scored.score, table).astype(np.float64)
    return np.asarray((1 - scoring.diversity_floor) * scoring.diversity_decay**earlier + scoring.diversity_floor)


def dpp(query: Query, table: CandidateTable, scored: Scored) -> Scores:
    """Keep of the best `dpp.pool` posts as many as are selected, good and unlike each other; others score 0 (1.6).

    A determinantal point process, greedily: what is kept keeps its score, so the order inside stays by score.
    """
    parameters, count = query.parameters.dpp, query.selected_max
    pool = best_first(scored.score, table, max(parameters.pool, count))
    keep = np.zeros(len(table))
    if scored.vectors is None:
        raise LookupError("no vectors of posts were made")
    chosen = diverse(scored.score[pool], np.asarray(scored.vectors[pool]), parameters.theta, count)
    keep[pool[chosen]] = 1.0
    return keep


def diverse(scores: Scores, vectors: npt.NDArray[np.float32], theta: float, count: int) -> npt.NDArray[np.intp]:
    """Return the rows that a greedy DPP chooses, in the order of choice.

    `scores` [n], `vectors` [n, D] unit or zero where missing. Kernel: exp(a q_i) exp(a q_j) cos(i, j), where q is the
    score over the best one and a = theta / (2 (1 - theta)); the diagonal has no cosine. Stops where the variance that
    is left falls to 1e-6.
    """
    quality = scores / max(float(scores.max(initial=0.0)), SCORE_MIN)
    missing = ~vectors.any(axis=1)
    weight = np.exp(theta / (2.0 * (1.0 - theta)) * quality) * np.where(missing, MISSING_FACTOR, 1.0)
    cosines = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(cosines, 1.0)
    kernel = weight[:, None] * weight[None, :] * cosines
    variance = np.diag(kernel).copy()
    chosen: list[int] = []
    # Row k holds what post k of the choice takes of everybody's variance (incremental Cholesky).
    taken = np.zeros((min(count, len(scores)), len(scores)))
    for step in range(len(taken)):
        best = int(variance.argmax())
        left = float(variance[best])
        if left <= VARIANCE_MIN:
            break
        before, row = taken[:step], taken[step]
        np.subtract(kernel[best], before[:, best] @ before, out=row)
        row /= math.sqrt(left)
        variance -= row * row
        variance[best] = -math.inf
        chosen.append(best)
    return np.array(chosen, np.intp)
