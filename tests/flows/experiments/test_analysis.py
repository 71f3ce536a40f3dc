"""Intervals and decisions by hand, and how often they are wrong when everybody looks all the time."""

from math import inf

import numpy as np
import pytest

from flows.experiments.analysis import Rules, Sums, always_valid, compare, compare_paired, decide, estimate

FEW = Rules(viewers_min=2)


def test_the_variance_of_a_ratio_by_hand() -> None:
    # Three viewers: 1 of 2, 0 of 1, 5 of 3. R = 6 / 6 = 1, e = -1, -1, 2; V = 3/2 x (1 + 1 + 4) / 36 = .25.
    found = estimate(Sums.of([(1, 2), (0, 1), (5, 3)]))
    assert (found.mean, found.variance) == (1.0, pytest.approx(0.25))
    # With one count each it is the variance of a mean: 1, 2, 3 -> 1 / 3.
    assert estimate(Sums.of({7: (1, 1), 8: (2, 1), 9: (3, 1)})).variance == pytest.approx(1 / 3)


def test_what_a_viewer_does_often_is_not_many_viewers() -> None:
    once = estimate(Sums.of([(1, 1), (0, 1), (2, 1), (1, 1)]))
    often = estimate(Sums.of([(100, 100), (0, 100), (200, 100), (100, 100)]))
    assert often == once


def test_the_interval_of_a_difference_by_hand() -> None:
    # V = 1, t = 1, alpha = .05: sqrt(1 x 2 / 1 x (2 ln 20 + ln 2)) = sqrt(2 x 6.6846) = 3.6564.
    # D = 3: L = sqrt(1 / 2) exp(9 / 4) = 6.7088, p = .14906.
    wide, p_value = always_valid(3.0, 1.0, 1.0, 0.05)
    assert (wide, p_value) == (pytest.approx(3.6564, abs=1e-4), pytest.approx(0.14906, abs=1e-5))
    # Where the interval just excludes 0, p is alpha.
    assert always_valid(wide, 1.0, 1.0, 0.05)[1] == pytest.approx(0.05)
    assert always_valid(0.0, 1.0, 1.0, 0.05)[1] == 1.0
    assert always_valid(1e6, 1.0, 1.0, 0.05)[1] == 0.0


def test_where_nothing_is_known_nothing_is_decided() -> None:
    assert always_valid(3.0, inf, 1.0, 0.05) == (inf, 1.0)
    assert always_valid(3.0, 1.0, 0.0, 0.05) == (inf, 1.0)
    nothing = compare({"a": Sums.of([]), "b": Sums.of([(1, 1)])}, FEW)
    assert [(arm.viewers, arm.low) for arm in nothing.arms] == [(0, None), (1, None)]
    (one,) = nothing.contrasts
    assert (one.low, one.p_value, one.share, one.decision) == (None, 1.0, None, "go on")
    assert not nothing.decided


def test_arms_that_all_do_the_same_are_decided_at_once() -> None:
    same = Sums.of([(1, 1)] * 60)
    assert compare({"a": same, "b": same}).contrasts[0].decision == "no practical difference"
    more = compare({"a": same, "b": Sums.of([(2, 1)] * 60)}).contrasts[0]
    assert (more.share, more.p_value, more.decision) == (1.0, 0.0, "treatment better")


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.1, 0.4, "treatment better"),
        (-0.4, -0.1, "control better"),
        (-0.1, 0.4, "go on"),
        (-0.04, 0.05, "no practical difference"),
        (0.01, 0.05, "no practical difference"),
        (0.01, 0.06, "treatment better"),
        (-inf, inf, "go on"),
    ],
)
def test_what_an_interval_says(low: float, high: float, decision: str) -> None:
    assert decide(low, high, 0.05) == decision
    other = {"treatment better": "control better", "control better": "treatment better"}
    assert decide(low, high, 0.05, lower_is_better=True) == other.get(decision, decision)


def test_nothing_is_decided_about_few_viewers() -> None:
    arms = {"a": Sums.of([(0.9, 1), (1.1, 1)] * 24), "b": Sums.of([(1.9, 1), (2.1, 1)] * 24)}
    assert compare(arms).contrasts[0].decision == "go on"
    assert compare(arms, FEW).contrasts[0].decision == "treatment better"


def test_of_three_arms_each_is_held_against_the_first_with_half_of_alpha() -> None:
    rng = np.random.default_rng(5)
    arms = {name: Sums(rng.poisson(3.0, 80).astype(float), np.ones(80)) for name in "abc"}
    both = compare(arms).contrasts
    alone = compare({"a": arms["a"], "c": arms["c"]}, Rules(alpha=0.025)).contrasts
    assert [one.name for one in both] == ["b", "c"]
    assert both[1] == alone[0]


def test_paired_arms_differ_by_what_each_viewer_makes_of_it() -> None:
    # The same viewers, far apart from each other, each a tenth better: e of the differences is 0 throughout.
    control = Sums.of([(1, 1), (9, 1), (5, 1), (3, 1)])
    tenth = Sums(control.values + 0.1, control.counts)
    rules = Rules(viewers_min=2, margin=0.001)
    assert compare_paired({"a": control, "b": tenth}, rules).contrasts[0].decision == "treatment better"
    assert compare({"a": control, "b": tenth}, rules).contrasts[0].decision == "go on"
    with pytest.raises(ValueError, match="the same viewers"):
        compare_paired({"a": control, "b": Sums.of([(1, 1)])})


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two arms"):
        compare({"a": Sums.of([(1, 1)])})
    with pytest.raises(ValueError, match="a value and a count, not negative, of each viewer"):
        Sums(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="not negative"):
        Sums.of([(1, -1)])


def looks(seed: int, effect: float, viewers: int, times: int, arriving: bool) -> list[dict[str, Sums]]:
    """Return what two arms have done by each of so many looks; viewers differ much, and see one feed a time.

    Either they are there from the start, or they arrive in equal numbers.
    """
    rng = np.random.default_rng(seed)
    rates = rng.gamma(1.0, 0.5, (2, viewers)) * np.array([[1.0], [1.0 + effect]])
    values, counts, found = np.zeros((2, viewers)), np.zeros((2, viewers)), []
    for time in range(1, times + 1):
        feeds = rng.poisson(1.0, (2, viewers)) * (np.arange(viewers) * times < viewers * time if arriving else True)
        values, counts = values + rng.poisson(rates * feeds), counts + feeds
        seen = counts > 0
        found.append({name: Sums(values[arm][seen[arm]], counts[arm][seen[arm]]) for arm, name in enumerate("ab")})
    return found


RUNS = 500


@pytest.mark.parametrize("arriving", [False, True])
def test_among_equals_looking_every_time_is_wrong_in_few_experiments(arriving: bool) -> None:
    wrong_always, wrong_once = 0, 0
    for seed in range(RUNS):
        always = once = False
        for arms in looks(seed, 0.0, 120, 20, arriving):
            found = compare(arms)
            (contrast,), spread = found.contrasts, [estimate(one).variance for one in arms.values()]
            always |= contrast.decision in ("treatment better", "control better")
            once |= abs(contrast.difference) > 1.96 * sum(spread) ** 0.5
        wrong_always, wrong_once = wrong_always + always, wrong_once + once
    assert wrong_always <= 0.07 * RUNS
    assert wrong_once > 0.1 * RUNS, "the same looks with the usual interval: why it is not taken"


def test_intervals_of_arms_hold_the_truth_as_often_as_they_say() -> None:
    # 95 of 100 at one look: of 500, 475 and 5 either way a deviation; four of them.
    held = 0
    for seed in range(RUNS):
        arm = compare(looks(seed, 0.0, 120, 1, False)[0]).arms[0]
        assert arm.low is not None
        assert arm.high is not None
        held += arm.low <= 0.5 <= arm.high
    assert 455 <= held <= 495


def test_a_large_effect_is_found_and_the_truth_stays_in_the_interval() -> None:
    found = missed = 0
    for seed in range(100):
        contrasts = [compare(arms).contrasts[0] for arms in looks(seed, 0.4, 500, 20, False)]
        found += next((one.decision for one in contrasts if one.decision != "go on"), "") == "treatment better"
        missed += any(
            one.low is not None and one.high is not None and not one.low <= 0.2 <= one.high for one in contrasts
        )
    assert found >= 85, "power at two fifths more, 500 viewers an arm, 20 feeds each: 94 of these"
    assert missed <= 7
