"""What a person does with a post, as stated probabilities: the simulator draws from them and the truth states them.

Base rates and gate are those X published with its synthetic world (x-algorithm.md 3.4): favorite .14, click .10, video
.08, repost .045, reply .035, quote .015, share .012, gate sigmoid(14 (affinity - .10)), dwell log-normal, dwelled if at
least 10 s. The rates of the other actions are this project's own choice.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from schemas.actions import ACTION_INDEX, ACTIONS, DWELL_TIME

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GATE_SLOPE: Final = 14.0
GATE_MIDDLE: Final = 0.10
DWELLED_S: Final = 10.0
DWELL_S_MAX: Final = 300.0
DWELL_SIGMA: Final = 0.9
VIDEO_MS_MIN: Final = 10_000  # a quality view needs a video longer than this, x-algorithm.md 1.5
PROBABILITY_MAX: Final = 0.95

BASE_RATES: Final[dict[str, float]] = {
    "favorite": 0.14,
    "reply": 0.035,
    "retweet": 0.045,
    "photo_expand": 0.12,  # of posts with a photo
    "click": 0.10,
    "profile_click": 0.02,
    "vqv": 0.08,  # of posts with a video long enough
    "share": 0.012,
    "share_via_dm": 0.006,
    "share_via_copy_link": 0.004,
    "quote": 0.015,
    "quoted_click": 0.08,  # of quotes
    "follow_author": 0.006,  # of posts by authors not yet followed
    "not_interested": 0.02,  # these four: of posts wholly disliked
    "block_author": 0.001,
    "mute_author": 0.002,
    "report": 0.001,
}
# How strongly a post's quality (mean 0, deviation about 0.6) moves an action: rate x exp(strength x quality).
QUALITY: Final = 0.6
DWELL_QUALITY: Final = 0.3  # the same of the mean of ln(dwell seconds)
# A followed author's post is liked and answered more often.
FOLLOWED: Final[dict[str, float]] = {"favorite": 1.3, "reply": 1.6, "retweet": 1.2}
# Somebody who looked at an author's profile follows that much more often.
INTENT: Final = 10.0
# Spam is disliked whatever its topic.
SPAM_AFFINITY: Final = -0.3
SPAM_REPORT: Final = 8.0
# Negative actions are rate x (1 - gate)^4: what merely fails to interest (gate .2) gets 40 % of what is disliked.
NEGATIVE_POWER: Final = 4
# Streaks: rate x exp(strength x momentum), momentum from -1 (scrolled past some thirty posts) to 1 (acted on four in
# a row): what is liked is liked up to 1.4 times as often, or .7 times.
MOMENTUM: Final = 0.35

NEGATIVE: Final = ("not_interested", "block_author", "mute_author", "report")
_POSITIVE: Final = tuple(name for name in BASE_RATES if name not in NEGATIVE)
_POSITIVE_INDEX: Final = [ACTION_INDEX[name] for name in _POSITIVE]
_NEGATIVE_INDEX: Final = [ACTION_INDEX[name] for name in NEGATIVE]
_POSITIVE_RATES: Final = np.array([BASE_RATES[name] for name in _POSITIVE])
_NEGATIVE_RATES: Final = np.array([BASE_RATES[name] for name in NEGATIVE])
_FOLLOWED_FACTORS: Final = np.array([FOLLOWED.get(name, 1.0) for name in _POSITIVE])
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Shown(Struct, frozen=True):
    """What decides about n posts shown to people; every field is [n]."""

    affinity: Floats
    quality: Floats
    followed: Bools
    video_ms: npt.NDArray[np.int64]
    photo: Bools
    quote: Bools
    spam: Bools


def gate(affinity: Floats) -> Floats:
    """Return sigmoid(14 (affinity - .10)), x-algorithm.md 3.4."""
    result: Floats = 1.0 / (1.0 + np.exp(-GATE_SLOPE * (affinity - GATE_MIDDLE)))
    return result


def dwell_mu(shown: Shown) -> Floats:
    """Return the mean of ln(dwell seconds): about 4 s for what doesn't interest, 10 s for what does."""
    is_video = shown.video_ms > 0
    return math.log(3.5) + 1.1 * gate(_felt(shown)) + DWELL_QUALITY * shown.quality + 0.4 * is_video


def action_probabilities(shown: Shown) -> Floats:
    """Return [n, 19] in the order of schemas.actions: probabilities, and expected seconds in the column dwell_time.

    They are those of a post that is looked at, in the middle between two streaks (momentum 0).
    """
    felt = _felt(shown)
    opened = gate(felt)
    result = np.zeros((felt.size, len(ACTIONS)))
    positive = opened[:, None] * np.exp(QUALITY * shown.quality)[:, None] * _POSITIVE_RATES
    positive *= np.where(shown.followed[:, None], _FOLLOWED_FACTORS, 1.0)
    result[:, _POSITIVE_INDEX] = positive
    negative = ((1.0 - opened) ** NEGATIVE_POWER)[:, None] * _NEGATIVE_RATES
    result[:, _NEGATIVE_INDEX] = negative
    result[:, ACTION_INDEX["report"]] *= np.where(shown.spam, SPAM_REPORT, 1.0)
    result[:, ACTION_INDEX["photo_expand"]] *= shown.photo
    result[:, ACTION_INDEX["vqv"]] *= shown.video_ms > VIDEO_MS_MIN
    result[:, ACTION_INDEX["quoted_click"]] *= shown.quote
    follow = result[:, ACTION_INDEX["follow_author"]]
    follow *= ~shown.followed * (1.0 + (INTENT - 1.0) * result[:, ACTION_INDEX["profile_click"]])
    np.minimum(result, PROBABILITY_MAX, out=result)
    mu = dwell_mu(shown)
    z = (math.log(DWELLED_S) - mu) / DWELL_SIGMA
    result[:, ACTION_INDEX["dwell"]] = 0.5 * (1.0 - _erf(z / math.sqrt(2.0)))
    result[:, DWELL_TIME] = np.minimum(np.exp(mu + DWELL_SIGMA**2 / 2.0), DWELL_S_MAX)
    return result


def _felt(shown: Shown) -> Floats:
    """Return the affinity as felt: that of spam is low whatever its topic."""
    return np.where(shown.spam, SPAM_AFFINITY, shown.affinity)


def affinity(tastes: Floats, mixes: Floats, focus: Floats, pull: float) -> Floats:
    """Return [n]: (1 - pull) taste . mix + pull focus . mix, for tastes, topic mixes and focus [n, topics].

    `focus` is what the session is about: one topic, or the chances of each where no session is known.
    """
    felt: Floats = np.einsum("nt,nt->n", (1.0 - pull) * tastes + pull * focus, mixes)
    return felt


def tired(affinity: Floats, shown_before: npt.NDArray[np.int64], fatigue: float) -> Floats:
    """Return affinities [n] after so many posts of the same topic in the session: a liking x (1 - fatigue)^shown."""
    result: Floats = np.where(affinity > 0.0, affinity * (1.0 - fatigue) ** shown_before, affinity)
    return result
