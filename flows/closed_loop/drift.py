"""A viewer of two interests over weeks: what multiplying by a profile of engagement does, and Phoenix does not.

The loop of 2023-generation.md 4 is profile, candidates, multiplied scores, feed, engagement, profile. Nothing is drawn
here: shares are expectations, and the same numbers come out every time.
"""

import math
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from flows.feed_worth import Floats

START: Final = 0.6  # the share of the larger interest
RATE: Final = 0.008  # a week, the lower end of the stated .008 to .025: with it the stated 70/30 and 76/24 come out
POSTS: Final = 1000  # of each interest a week; qualities are the quantiles of a log-normal, as dwell times are
SPREAD: Final = 1.0  # of the logarithm of quality
SHOWN: Final = 0.1  # of all posts
KEPT: Final = 0.95  # of a profile after a week; likes decay with a half-life of 100 days: 2^(-7/100)

Learned = Literal["counts", "chances"]


def stated(weeks: int, start: float = START, rate: float = RATE) -> Floats:
    """Return the larger interest's share by week, float64[weeks + 1], after the stated formula.

    new = old + rate x (major / minor) x (1 - .5 x imbalance). What the imbalance is isn't stated; counted in doublings,
    log2(major / minor), drift ends at 80/20 as stated, and the stated shares after 12 and 24 weeks come out.
    """
    shares = [start]
    for _ in range(weeks):
        ratio = shares[-1] / (1.0 - shares[-1])
        shares.append(shares[-1] + rate * ratio * (1.0 - 0.5 * math.log2(ratio)))
    return np.array(shares)


def looped(weeks: int, learned: Learned, start: float = START) -> Floats:
    """Return the share of a feed that the larger interest gets, by week, float64[weeks + 1].

    A post's score is its quality times what is believed of its interest; the best tenth is shown, and engaged with at
    chances in proportion to the true interests, which never change. `counts`: believed is a profile, the share of past
    engagement, fading with the weeks; more of an interest shown is more engagement is more belief. `chances`: believed
    is the chance of engagement of a post that is shown, which showing more of them does not change: what Phoenix
    predicts.
    """
    normal = NormalDist()
    quality = np.exp([SPREAD * normal.inv_cdf((place + 0.5) / POSTS) for place in range(POSTS)])
    interests = np.array([start, 1.0 - start])
    believed, feeds = interests, []
    for _ in range(weeks + 1):
        scores = quality[:, None] * believed
        threshold = np.partition(scores.ravel(), -round(SHOWN * scores.size))[-round(SHOWN * scores.size)]
        shown = (scores >= threshold).sum(0)
        feeds.append(shown[0] / shown.sum())
        if learned == "counts":
            engaged = shown * interests
            believed = KEPT * believed + (1.0 - KEPT) * engaged / engaged.sum()
    return np.array(feeds)
