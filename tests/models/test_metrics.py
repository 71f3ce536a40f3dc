"""AUC, log loss and calibration against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import auc, average_ranks, by_group, calibration, log_loss


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


def test_auc_within_groups_passes_over_groups_of_one_kind() -> None:
    groups = np.array([1, 1, 2, 2, 3], np.uint64)
    happened = np.array([True, False, True, False, True])
    assert by_group(groups, happened, np.array([0.9, 0.1, 0.2, 0.8, 0.5])) == 0.5
    assert by_group(groups[:1], happened[:1], np.array([0.9])) is None
