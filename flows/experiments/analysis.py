"""Arms beside each other: means with intervals, differences that may be looked at as often as one likes, a decision.

A viewer is the unit: what one viewer does in many feeds is not many observations. A metric is a ratio of two sums over
viewers, as favorites over feeds; its variance is by the delta method: with R = sum y / sum n and e = y - R n of each of
k viewers, V = k / (k - 1) x sum e^2 / (sum n)^2.

Differences are by a mixture sequential probability ratio test (Robbins 1970; Johari, Koomen, Pekelis and Walsh, "Always
Valid Inference", arXiv 1512.04922). For a difference D of variance V, and effects expected to be normal about 0 with
deviation t:

    likelihood ratio  L = sqrt(V / (V + t^2)) x exp(D^2 t^2 / (2 V (V + t^2))),  p = min(1, 1 / L)
    interval          D -+ sqrt(V (V + t^2) / t^2 x (2 ln(1 / alpha) + ln((V + t^2) / V)))

Over all looks together the interval misses the true difference with probability alpha at most, in the limit of many
viewers: with D a mean of what viewers do, 1 / V is its information, and D moves as a Brownian motion in it, whether new
viewers come or those there are do more. An interval for one look, looked at 50 times, misses in one of four to seven
experiments (tests/flows/experiments/test_analysis.py has such simulations).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Values = npt.NDArray[np.float64]
Decision = Literal["treatment better", "control better", "no practical difference", "go on"]

# Beyond e to this, a ratio of likelihoods is as good as infinite.
_EXPONENT_MAX: Final = 700.0


@dataclass(frozen=True, slots=True)
class Sums:
    """What each viewer of an arm did, float64[k], and over how much of what it was done, float64[k], as feeds."""

    values: Values
    counts: Values

    def __post_init__(self) -> None:
        """Raises ValueError where the columns differ in length, or a count is negative."""
        if self.values.shape != self.counts.shape or (self.counts < 0).any():
            raise ValueError("an arm needs a value and a count, not negative, of each viewer")

    @classmethod
    def of(cls, viewers: Mapping[int, tuple[float, float]] | Sequence[tuple[float, float]]) -> "Sums":
        """Return the sums of viewers, value and count of each."""
        pairs = list(viewers.values() if isinstance(viewers, Mapping) else viewers)
        columns = np.array(pairs, np.float64).reshape(-1, 2)
        return cls(columns[:, 0], columns[:, 1])


class Rules(Struct, frozen=True):
    """How arms are compared.

    `alpha` is how often intervals may miss, of all comparisons with control together; `margin` the difference that does
    not matter, as a share of the control's mean; `effect` the size, likewise a share, about which the test is most
    sensitive, to be chosen beforehand. No decision before each arm has `viewers_min`: intervals are for many.
    """

    alpha: float = 0.05
    margin: float = 0.01
    effect: float = 0.1
    viewers_min: int = 50
    lower_is_better: bool = False


USUAL: Final = Rules()


class ArmResult(Struct, frozen=True):
    """An arm: its mean, of `viewers` and of `count` in all, with an interval at 1 - alpha that is right at one look.

    With fewer than two viewers an interval has no ends.
    """

    name: str
    viewers: int
    count: float
    mean: float
    low: float | None
    high: float | None


class Contrast(Struct, frozen=True):
    """An arm against control: the difference with its always-valid interval, p, and what to do.

    `share` is the difference over the control's mean, None where that is 0. With little known an interval has no ends.
    """

    name: str
    difference: float
    low: float | None
    high: float | None
    share: float | None
    p_value: float
    decision: Decision


class Comparison(Struct, frozen=True):
    """All arms, the control first, and the others against it."""

    arms: list[ArmResult]
    contrasts: list[Contrast]

    @property
    def decided(self) -> bool:
        """Whether there is a decision on every arm."""
        return all(one.decision != "go on" for one in self.contrasts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and the variance of it, infinite where it is not known."""

    mean: float
    variance: float


def compare(arms: Mapping[str, Sums], rules: Rules = USUAL) -> Comparison:
    """Return arms of different viewers beside each other; the first is the control. Raises ValueError for one alone.

    It may be called after every interval of a running experiment, and the experiment ended at the first decision.
    """
    found = {name: estimate(sums) for name, sums in arms.items()}
    variances = {name: one.variance + found[next(iter(arms))].variance for name, one in found.items()}
    return _beside(arms, found, variances, rules)


def compare_paired(arms: Mapping[str, Sums], rules: Rules = USUAL) -> Comparison:
    """Return arms beside each other that all had the same viewers, in the same order, as models that score alike.

    Differences vary less than those of different viewers. Raises ValueError for one arm alone, or other viewers.
    """
    if len({len(sums.values) for sums in arms.values()}) > 1:
        raise ValueError("paired arms need the same viewers")
    found = {name: estimate(sums) for name, sums in arms.items()}
    moves = {name: _influences(sums) for name, sums in arms.items()}
    control = moves[next(iter(arms))]
    return _beside(arms, found, {name: _variance(one - control) for name, one in moves.items()}, rules)


def estimate(sums: Sums) -> Estimate:
    """Return the ratio of sums over viewers and its variance by the delta method."""
    total = float(sums.counts.sum())
    return Estimate(float(sums.values.sum()) / total if total else 0.0, _variance(_influences(sums)))


def _influences(sums: Sums) -> Values:
    """Return how far each viewer moves the ratio, float64[k]; no numbers where there is no ratio."""
    total = float(sums.counts.sum())
    if not total:
        return np.full(len(sums.values), np.nan)
    return np.asarray((sums.values - sums.values.sum() / total * sums.counts) / total)


def _variance(influences: Values) -> float:
    viewers = len(influences)
    if viewers < 2 or np.isnan(influences).any():
        return inf
    return viewers / (viewers - 1) * float(influences @ influences)


def always_valid(difference: float, variance: float, deviation: float, alpha: float) -> tuple[float, float]:
    """Return half the width of the interval of a difference, and p, for effects of a deviation (see above).

    Nothing is known (infinite, 1) where the variance is infinite or no effects are expected.
    """
    if not deviation or variance == inf:
        return inf, 1.0
    if not variance:
        return 0.0, 1.0 if not difference else 0.0
    expected = deviation**2
    together = variance + expected
    wide = sqrt(variance * together / expected * (2 * log(1 / alpha) + log(together / variance)))
    exponent = difference**2 * expected / (2 * variance * together) + log(variance / together) / 2
    return wide, min(1.0, exp(-exponent)) if exponent < _EXPONENT_MAX else 0.0


def _beside(
    arms: Mapping[str, Sums], found: Mapping[str, Estimate], variances: Mapping[str, float], rules: Rules
) -> Comparison:
    if len(arms) < 2:
        raise ValueError("a comparison needs two arms")
    control, *others = arms
    few = min(len(sums.values) for sums in arms.values()) < rules.viewers_min
    # Of k comparisons none misses with probability alpha if each misses with alpha / k at most (Bonferroni).
    alpha = rules.alpha / len(others)
    return Comparison(
        [_arm(name, sums, found[name], rules.alpha) for name, sums in arms.items()],
        [_contrast(name, found[control].mean, found[name].mean, variances[name], alpha, rules, few) for name in others],
    )


def _arm(name: str, sums: Sums, found: Estimate, alpha: float) -> ArmResult:
    wide = NormalDist().inv_cdf(1 - alpha / 2) * sqrt(found.variance)
    known = found.variance < inf
    return ArmResult(
        name=name,
        viewers=len(sums.values),
        count=float(sums.counts.sum()),
        mean=found.mean,
        low=found.mean - wide if known else None,
        high=found.mean + wide if known else None,
    )


def _contrast(
    name: str, control: float, treatment: float, variance: float, alpha: float, rules: Rules, few: bool
) -> Contrast:
    difference, scale = treatment - control, abs(control)
    wide, p_value = always_valid(difference, variance, rules.effect * scale, alpha)
    low, high = difference - wide, difference + wide
    return Contrast(
        name=name,
        difference=difference,
        low=low if wide < inf else None,
        high=high if wide < inf else None,
        share=difference / scale if scale else None,
        p_value=p_value,
        decision="go on" if few else decide(low, high, rules.margin * scale, rules.lower_is_better),
    )


def decide(low: float, high: float, margin: float, lower_is_better: bool = False) -> Decision:
    """Return what an interval of treatment less control says; what lies within the margin makes no difference."""
    if -margin <= low and high <= margin:
        return "no practical difference"
    if low > 0 or high < 0:
        return "treatment better" if (low > 0) != lower_is_better else "control better"
    return "go on"
