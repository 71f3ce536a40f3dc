"""How well predictions fit what happened: AUC, average precision, log loss and calibration, in NumPy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

# Keeps a wrong certainty from being infinitely bad: the step of f32 below 1.
PROBABILITY_MIN = 6e-8


def auc(happened: Flags, scores: Floats) -> float | None:
    """Return the chance that something that happened scored above something that did not, ties counting one half.

    `happened` bool[n] and `scores` [n]. None where one of the two sides is empty: there is nothing to compare.
    """
    positives = int(happened.sum())
    negatives = len(happened) - positives
    if positives == 0 or negatives == 0:
        return None
    ranks_of_positives = float(average_ranks(scores)[happened].sum())
    return (ranks_of_positives - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(happened: Flags, scores: Floats) -> float | None:
    """Return the area under precision over recall as a step function, equal scores being one step.

    `happened` bool[n] and `scores` [n]. None where nothing happened: recall has no meaning. Chance gives the share
    that happened.
    """
    positives = int(happened.sum())
    if positives == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    # A threshold can only fall between different scores.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    found = np.cumsum(happened[order])[ends]
    return float(np.sum(np.diff(found, prepend=0) / positives * found / (ends + 1)))


def average_ranks(scores: Floats) -> NDArray[np.float64]:
    """Return the rank of each score, 1 the lowest; equal scores share the average of their ranks."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    averages: NDArray[np.float64] = last - (sizes - 1) / 2
    return averages[group]


def log_loss(happened: Flags, probabilities: Floats) -> float:
    """Return the mean of -log(probability given to what came about), in nats; 0 for no rows."""
    if len(happened) == 0:
        return 0.0
    p = np.clip(probabilities.astype(np.float64), PROBABILITY_MIN, 1 - PROBABILITY_MIN)
    return float(-np.where(happened, np.log(p), np.log1p(-p)).mean())


def relative_cross_entropy(happened: Flags, probabilities: Floats) -> float | None:
    """Return the log loss over that of giving every row the share that happened; below 1 is better than that.

    None where all rows are alike: the share then loses nothing.
    """
    share = float(happened.mean()) if len(happened) else 0.0
    if share in (0.0, 1.0):
        return None
    return log_loss(happened, probabilities) / log_loss(happened, np.full(len(happened), share))


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows of like probability: how many, the mean probability given, the share that happened."""

    rows: int
    predicted: float
    observed: float


def calibration(happened: Flags, probabilities: Floats, bins: int = 10) -> list[CalibrationBin]:
    """Return at most `bins` bins of equally many rows, from the lowest probability to the highest.

    Rows of one probability that a border between bins parts count as what happened to all of them on the average.
    """
    _, group, sizes = np.unique(probabilities, return_inverse=True, return_counts=True)
    shares = (np.bincount(group, happened) / sizes)[group]
    order = np.argsort(probabilities, kind="stable")
    return [
        CalibrationBin(len(rows), float(probabilities[rows].mean()), float(shares[rows].mean()))
        for rows in np.array_split(order, bins)
        if len(rows)
    ]


def calibration_error(happened: Flags, probabilities: Floats, bins: int = 10) -> float:
    """Return the expected calibration error: |predicted - observed| over bins of equally many rows, by their rows."""
    found = calibration(happened, probabilities, bins)
    rows = sum(one.rows for one in found)
    return sum(one.rows * abs(one.predicted - one.observed) for one in found) / rows if rows else 0.0


def by_group(groups: NDArray[np.uint64], happened: Flags, scores: Floats) -> float | None:
    """Return the mean AUC within groups (viewers, say), weighted by their rows; None if no group has both sides."""
    if len(groups) == 0:
        return None
    order = np.lexsort((scores, groups))
    group, score, hits = groups[order], scores[order], happened[order].astype(np.float64)
    of_group = np.concatenate([[True], group[1:] != group[:-1]])
    of_tie = of_group | np.concatenate([[True], score[1:] != score[:-1]])
    first, tie_first = np.flatnonzero(of_group), np.flatnonzero(of_tie)
    number = np.cumsum(of_group) - 1
    # Ranks from 1 within the group; equal scores share the average of theirs.
    middle = (tie_first + np.append(tie_first[1:], len(order)) - 1) / 2
    rank = middle[np.cumsum(of_tie) - 1] - first[number] + 1
    rows, positives = np.bincount(number), np.bincount(number, hits)
    both = (positives > 0) & (positives < rows)
    if not both.any():
        return None
    above = np.bincount(number, rank * hits) - positives * (positives + 1) / 2
    within = above[both] / (positives * (rows - positives))[both]
    return float(np.average(within, weights=rows[both]))
