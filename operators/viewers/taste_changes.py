"""A change of taste: from where on a viewer's history speaks of what the viewer likes now.

Two readings of the newest groups are weighed against each other, for each of NEWEST numbers of them: that every topic
(the first term of a post) is liked as often as in the groups before, or that tastes are new and any topic may be liked
as often as topics usually are. Chances are those of a Beta prior and what it has seen so far, group by group. Nothing
is stored: a viewer whose newest groups fit the old ones again has all of the history back. Ours: x-algorithm.md has no
such thing. docs/decisions/0034-a-change-of-taste.md has what the numbers below were found by.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from models.affinities import liked
from models.inputs import History

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

NEWEST: Final = np.array([8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512])
# Groups before the newest, at least, and at least half as many as those: there must be something to change from.
OLDER_MIN: Final = 32
# A topic known from more groups than these counts as known from these: people are not as regular as coins.
KNOWN_MAX: Final = 64.0
# Groups that what is usual counts for, of a topic that nothing is known of.
USUAL: Final = 4.0
# Of a topic's rate, before it was met: one in ten of five groups.
MADE_UP: Final = (0.5, 5.0)


def taste_changed_at(history: History, odds: float) -> int:
    """Return the number of the group with which the viewer's taste changed, 0 where it did not.

    It did where new tastes explain the newest groups `odds` times better than the old ones do; never with odds of 0.
    """
    count = len(history)
    newest = NEWEST[NEWEST + np.maximum(OLDER_MIN, NEWEST // 2) <= count]
    if odds <= 0 or not len(newest):
        return 0
    is_told = history.terms[:, 0] != 0
    _, topic = np.unique(history.terms[:, 0], return_inverse=True)
    found = _evidence(topic, liked(history.actions), is_told, count - newest)
    best = int(np.argmax(found))
    return int(count - newest[best]) if found[best] > math.log(odds) else 0


def _evidence(
    topic: npt.NDArray[np.intp], likes: npt.NDArray[np.bool_], is_told: npt.NDArray[np.bool_], cuts: I64
) -> F64:
    """Return for each cut the logarithm of how much better new tastes explain the groups from there on."""
    topics = int(topic.max()) + 1
    met = np.stack([np.bincount(topic[:cut], minlength=topics) for cut in cuts.tolist()])
    liked_then = np.stack([np.bincount(topic[:cut][likes[:cut]], minlength=topics) for cut in cuts.tolist()])
    tail = slice(int(cuts.min()), None)
    seen, taken = (of[tail] for of in _before(topic, likes))
    of_topic = topic[tail]
    # Between a cut and a group: how often its topic was met, and liked.
    since, likes_since = (np.maximum(of - before[:, of_topic], 0) for of, before in ((seen, met), (taken, liked_then)))
    rates = (liked_then + MADE_UP[0]) / (met + MADE_UP[1])
    usual: F64 = USUAL * rates.sum(axis=1, where=met > 0) / np.count_nonzero(met, axis=1)
    known: F64 = np.minimum(1.0, KNOWN_MAX / np.maximum(met, 1))
    start, weight = usual[:, None] + known * liked_then, USUAL + known * met
    new = _chances(usual[:, None], USUAL, since, likes_since, likes[tail])
    old = _chances(start[:, of_topic], weight[:, of_topic], since, likes_since, likes[tail])
    counts = is_told[tail] & (np.arange(len(of_topic)) + tail.start >= cuts[:, None])
    evidence: F64 = np.where(counts, np.log(np.where(counts, new / old, 1.0)), 0.0).sum(axis=1)
    return evidence


def _before(topic: npt.NDArray[np.intp], likes: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
    """Return for each group how often its topic was met before it, and liked."""
    order = np.argsort(topic, kind="stable")
    starts = np.searchsorted(topic[order], topic[order])
    taken: I64 = np.cumsum(likes[order], dtype=np.int64) - likes[order]
    met, liked_before = np.empty(len(topic), np.int64), np.empty(len(topic), np.int64)
    met[order] = np.arange(len(topic)) - starts
    liked_before[order] = taken - taken[starts]
    return met, liked_before


def _chances(start: F64, weight: F64 | float, met: I64, taken: I64, likes: npt.NDArray[np.bool_]) -> F64:
    """Return the chance of each group to be as it was, after `taken` of `met` of its topic on top of a prior."""
    rate = (start + taken) / (weight + met)
    chances: F64 = np.where(likes, rate, 1.0 - rate)
    return chances
