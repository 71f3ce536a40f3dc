"""The formulas of x-algorithm.md 1.3 and 1.5, against numbers worked out by hand."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.parameters import DEFAULTS, Weights
from operators.pipeline.scorers import (
    HEADS,
    author_diversity,
    best_first,
    head_weights,
    negative_offset,
    oon_factor,
    score,
    weighted_sum,
)
from operators.viewers.relations import Relations
from schemas.actions import ACTION_INDEX
from tests.operators.pipeline.tables import NOW_MS, query, table


def offset(value: float) -> float:
    return float(negative_offset(np.array([value]), Weights(), 0.001)[0])


@pytest.mark.parametrize(
    ("weighted", "expected"),
    [
        (-367.22, 0.0),
        (-100.0, 0.000650898816),
        (-1.0, 0.000892044625),
        (-1e-12, 0.00089448044),
        (0.0, 0.001),
        (0.5, 0.501),
    ],
)
def test_golden_numbers_of_the_negative_offset(weighted: float, expected: float) -> None:
    assert offset(weighted) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_sums_of_the_august_weights() -> None:
    values = [getattr(Weights(), name) for name in Weights.__struct_fields__ if name != "dwell_time"]
    assert sum(value for value in values if value > 0) == pytest.approx(43.32)
    assert -sum(value for value in values if value < 0) == pytest.approx(367.22)


def test_offset_without_weights_cuts_at_zero() -> None:
    none = msgspec.convert(dict.fromkeys(Weights.__struct_fields__, 0.0), Weights)
    assert negative_offset(np.array([-2.0, 3.0]), none, 0.001).tolist() == [0.0, 3.0]


@given(st.lists(st.floats(-367.0, 100.0), min_size=2, max_size=50))
def test_offset_keeps_the_order_and_leaves_nothing_negative(values: list[float]) -> None:
    weighted = np.array(sorted(values))
    scores = negative_offset(weighted, Weights(), 0.001)
    assert (scores >= 0).all()
    assert (np.diff(scores) >= 0).all()


def test_author_diversity_multipliers() -> None:
    rows = table(author=[1] * 6)
    factors = author_diversity(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), rows, DEFAULTS)
    assert factors.tolist() == [0.2734375, 0.296875, 0.34375, 0.4375, 0.625, 1.0]


def test_author_diversity_counts_each_author_alone() -> None:
    rows = table(author=[1, 2, 1, 2])
    assert author_diversity(np.array([4.0, 3.0, 2.0, 1.0]), rows, DEFAULTS).tolist() == [1.0, 1.0, 0.625, 0.625]


def test_out_of_network_factor_with_the_august_rule() -> None:
    rows = table(in_network=[True, False, True, True], is_reply=[0, 0, 1, 0], is_repost=[0, 0, 0, 1])
    assert oon_factor(query(), rows).tolist() == [1.0, 0.75, 0.75, 0.75]
    january = DEFAULTS.overridden({"scoring.oon_factor_for_replies_and_reposts": False})
    assert oon_factor(query(parameters=january), rows).tolist() == [1.0, 0.75, 1.0, 1.0]


def test_out_of_network_factor_of_new_viewers() -> None:
    on = DEFAULTS.overridden({"scoring.new_viewer_age_s": 3600})
    follows = np.arange(1, 6, dtype=np.uint64)
    rows = table(in_network=[False])
    young = Relations(followed=follows, account_created_ms=NOW_MS - 3_599_000)
    old = Relations(followed=follows, account_created_ms=NOW_MS - 3_600_000)
    alone = Relations(followed=follows[:4], account_created_ms=NOW_MS - 1)
    assert oon_factor(query(young, on), rows).tolist() == [1e-5]
    assert oon_factor(query(old, on), rows).tolist() == [0.75]
    assert oon_factor(query(alone, on), rows).tolist() == [0.75]
    assert oon_factor(query(young), rows).tolist() == [0.75]


def test_video_weight_needs_a_strictly_longer_video_and_a_smaller_viewer() -> None:
    rows = table(video_ms=[0, 10_000, 10_001])
    vqv = HEADS.index("vqv")
    assert head_weights(query(), rows)[vqv].tolist() == [0.0, 0.0, 0.05]
    assert head_weights(query(Relations(followers=9_999)), rows)[vqv].tolist() == [0.0, 0.0, 0.05]
    assert head_weights(query(Relations(followers=10_000)), rows)[vqv].tolist() == [0.0, 0.0, 0.0]


def test_reply_boost_on_originals_of_mutual_follows() -> None:
    rows = table(mutual_follow=[0, 1, 1, 1], is_reply=[0, 0, 1, 0], is_repost=[0, 0, 0, 1])
    assert head_weights(query(), rows)[HEADS.index("reply")].tolist() == [5.0, 20.0, 5.0, 5.0]


def test_a_score_worked_out_by_hand() -> None:
    # favorite .2 x .5 + reply .1 x 5 + dwell_time 10 s x .004 + report .001 x -234 = .1 + .5 + .04 - .234 = .406
    probabilities = np.zeros((1, len(HEADS)), np.float32)
    for name, value in {"favorite": 0.2, "reply": 0.1, "dwell_time": 10.0, "report": 0.001}.items():
        probabilities[0, ACTION_INDEX[name]] = value
    scores = score(query(), table(in_network=[False]), probabilities)
    assert scores.weighted[0] == pytest.approx(0.406, rel=1e-6)
    assert scores.score[0] == pytest.approx((0.406 + 0.001) * 1.0 * 0.75, rel=1e-6)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_sum_does_not_depend_on_the_other_candidates(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    contributions = rng.normal(size=(len(HEADS), count))
    together = weighted_sum(contributions)
    alone = np.concatenate([weighted_sum(contributions[:, i : i + 1]) for i in range(count)])
    assert together.tobytes() == alone.tobytes()


def test_ties_are_broken_by_age_then_key() -> None:
    rows = table(post=[5, 9, 7], created_ms=[NOW_MS - 5, NOW_MS - 9, NOW_MS - 5])
    assert best_first(np.array([1.0, 1.0, 1.0]), rows).tolist() == [2, 0, 1]
