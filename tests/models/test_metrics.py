"""AUC, average precision, log loss and calibration against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import (
    auc,
    average_precision,
    average_ranks,
    by_group,
    calibration,
    calibration_error,
    log_loss,
    relative_cross_entropy,
)


def test_auc_by_hand() -> None:
    # Pairs (happened, not): .8>.3, .8>.5, .5=.5 counts half, .5>.3: 3.5 of 4.
    happened = np.array([True, True, False, False])
    assert auc(happened, np.array([0.8, 0.5, 0.3, 0.5])) == 3.5 / 4


def test_auc_needs_both_sides() -> None:
    assert auc(np.array([True, True]), np.array([0.1, 0.2])) is None
    assert auc(np.array([], bool), np.array([])) is None


def test_equal_scores_share_their_ranks() -> None:
    assert average_ranks(np.array([0.5, 0.1, 0.5, 0.9])).tolist() == [2.5, 1, 2.5, 4]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_counts_pairs(rows: list[tuple[bool, int]]) -> None:
    happened, scores = np.array([a for a, _ in rows]), np.array([b for _, b in rows], float)
    up, down = scores[happened], scores[~happened]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in up for b in down]
    assert auc(happened, scores) == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_log_loss_by_hand() -> None:
    assert log_loss(np.array([True, False]), np.array([0.5, 0.25])) == pytest.approx(
        -(math.log(0.5) + math.log(0.75)) / 2
    )
    assert math.isfinite(log_loss(np.array([True]), np.array([0.0])))


def test_calibration_bins_by_probability() -> None:
    low, high = calibration(np.array([False, True, True, True]), np.array([0.1, 0.3, 0.7, 0.9]), bins=2)
    assert (low.rows, low.predicted, low.observed) == (2, pytest.approx(0.2), 0.5)
    assert (high.rows, high.predicted, high.observed) == (2, pytest.approx(0.8), 1.0)


def test_average_precision_by_hand() -> None:
    # From the top: yes (1 of 1), no, yes (2 of 3); each yes adds half of the recall.
    assert average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1])) == pytest.approx((1 + 2 / 3) / 2)
    # All alike are one step: precision is the share that happened, in whatever order they come.
    for happened in ([True, False, False, False], [False, False, False, True]):
        assert average_precision(np.array(happened), np.full(4, 0.3)) == 0.25
    # A tie at the top: 1 of 2 for half of the recall, then 2 of 3.
    tied = average_precision(np.array([False, True, True]), np.array([0.7, 0.7, 0.2]))
    assert tied == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    assert average_precision(np.array([False]), np.array([0.5])) is None


def test_relative_cross_entropy_by_hand() -> None:
    happened = np.array([True, False, False, False])
    share = -(math.log(0.25) + 3 * math.log(0.75)) / 4
    sure = -(math.log(0.5) + 3 * math.log(0.9)) / 4
    assert relative_cross_entropy(happened, np.array([0.5, 0.1, 0.1, 0.1])) == pytest.approx(sure / share)
    assert relative_cross_entropy(happened, np.full(4, 0.25)) == pytest.approx(1.0)
    assert relative_cross_entropy(np.array([True]), np.array([0.5])) is None


def test_calibration_error_by_hand() -> None:
    happened, p = np.array([False, True, True, True, True]), np.array([0.1, 0.3, 0.7, 0.9, 1.0])
    # Bins of 3 and 2 rows: 1.1 / 3 against 2 / 3, .95 against 1.
    assert calibration_error(happened, p, bins=2) == pytest.approx(3 / 5 * 0.3 + 2 / 5 * 0.05)
    # Errors of opposite sign in two bins do not cancel, within one they do.
    happened, p = np.array([True, False]), np.array([0.4, 0.6])
    assert calibration_error(happened, p, bins=2) == pytest.approx(0.6)
    assert calibration_error(happened, p, bins=1) == pytest.approx(0.0)
    # One probability for all is off by as much in every bin, whatever the order of the rows.
    assert calibration_error(np.array([True, True, False, False]), np.full(4, 0.4), bins=2) == pytest.approx(0.1)


def test_auc_within_groups_passes_over_groups_of_one_kind() -> None:
    groups = np.array([1, 1, 2, 2, 3], np.uint64)
    happened = np.array([True, False, True, False, True])
    assert by_group(groups, happened, np.array([0.9, 0.1, 0.2, 0.8, 0.5])) == 0.5
    assert by_group(groups[:1], happened[:1], np.array([0.9])) is None


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=40))
def test_auc_within_groups_is_the_mean_of_theirs(rows: list[tuple[int, bool, int]]) -> None:
    groups, happened = np.array([a for a, _, _ in rows], np.uint64), np.array([b for _, b, _ in rows], bool)
    scores = np.array([c for _, _, c in rows], float)
    parts = [groups == group for group in set(groups.tolist())]
    found = [(auc(happened[part], scores[part]), int(part.sum())) for part in parts]
    judged = [(one, size) for one, size in found if one is not None]
    expected = sum(one * size for one, size in judged) / sum(size for _, size in judged) if judged else None
    assert by_group(groups, happened, scores) == (None if expected is None else pytest.approx(expected))
