"""Evaluation in batches says what serving says, and its table holds what the metrics make of each action."""

import numpy as np
import pytest

from models.evaluation import action_results, predictions_of
from models.metrics import auc
from models.phoenix import Phoenix
from schemas.actions import ACTION_INDEX, ACTIONS, DWELL_TIME
from tests.models.toy_world import batch


def test_predictions_of_a_batch_are_those_of_serving(small: Phoenix) -> None:
    examples = batch(3, examples=4)
    found = predictions_of(small, examples)
    assert found.shape == (*examples.post.shape, len(ACTIONS))
    for row in range(4):
        served = small.rank(examples.context(row), examples.candidates(row))
        np.testing.assert_allclose(found[row], served, rtol=1e-3, atol=1e-4)


def test_the_table_has_each_action_in_its_column() -> None:
    bits = np.array([1 << ACTION_INDEX["vqv"], 0, 1 << ACTION_INDEX["vqv"], 1 << ACTION_INDEX["click"]], np.uint32)
    given = np.full((4, DWELL_TIME), 0.25)
    given[:, ACTION_INDEX["vqv"]] = [0.9, 0.2, 0.4, 0.6]
    results = {one.action: one for one in action_results(given, bits, np.array([1, 1, 2, 2], np.uint64))}
    vqv, click = results["vqv"], results["click"]
    assert list(results) == list(ACTIONS[:DWELL_TIME])
    assert (vqv.rows, vqv.happened, vqv.observed) == (4, 2, 0.5)
    assert vqv.auc == auc(np.array([True, False, True, False]), given[:, ACTION_INDEX["vqv"]]) == 0.75
    assert vqv.viewer_auc == 0.5, "the first viewer's pair is in order, the second's is not"
    # One of the four was clicked, as all were said to be.
    assert click.relative_loss == pytest.approx(1.0)
    assert click.calibration_error == pytest.approx(0.0)
    assert results["reply"].auc is None
