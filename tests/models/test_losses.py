"""The losses against numbers worked out by hand, and who is whose rival in retrieval."""

import jax
import numpy as np
import pytest

from models import losses
from models.losses import RankerLabels, RetrievalLabels, counts_of, ranker_loss, retrieval_labels
from models.phoenix import Phoenix
from models.training import TrainingConfig, step_inputs
from schemas.actions import ACTION_INDEX
from tests.models.toy_world import DISLIKE, FAVORITE, batch

FAVORITE_HEAD = ACTION_INDEX["favorite"]


def constant_logits(monkeypatch: pytest.MonkeyPatch, values: np.ndarray) -> None:
    """Let the ranker say `values` [C, 32] for every example."""
    monkeypatch.setattr(losses, "token_logits", lambda *_: jax.numpy.asarray(values, np.float32))


def labels(actions: list[int], dwell: list[float], weight: list[float], seen: list[float]) -> RankerLabels:
    return RankerLabels(
        np.array([actions], np.int32),
        np.array([dwell], np.float32),
        np.array([weight], np.float32),
        np.array([seen], np.float32),
    )


def loss_of(small: Phoenix, given: RankerLabels) -> float:
    inputs = step_inputs(batch(1, 1, 32, 2), small.config, TrainingConfig(negatives=0), np.random.default_rng(0))
    return float(ranker_loss(small.parameters.ranker, small.config, inputs.context, inputs.candidates, given))


def test_cross_entropy_and_dwell_by_hand(small: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.zeros((2, 32))
    logits[0, 0] = 2.0
    logits[:, 18] = np.log(np.expm1(1.0))  # a mean of 30 s
    constant_logits(monkeypatch, logits)
    # Row 0: favorite happened at logit 2: log(1 + e^-2); 35 other heads at 1/2: log 2 each; 36 in all.
    entropy = (np.log1p(np.exp(-2.0)) + 35 * np.log(2.0)) / 36
    mean = 1.0 + losses.DWELL_MIN
    tweedie = np.mean([2 * 2.0 / np.sqrt(mean) + 2 * np.sqrt(mean), 2 * np.sqrt(mean)])
    found = loss_of(small, labels([FAVORITE, 0], [2.0, 0.0], [1, 1], [1, 1]))
    assert found == pytest.approx(entropy + 0.1 * tweedie, rel=1e-5)


def test_a_post_not_shown_says_nothing_of_negative_feedback_and_dwell(
    small: Phoenix, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.zeros((2, 32))
    constant_logits(monkeypatch, logits)
    before = loss_of(small, labels([0, 0], [0, 0], [1, 0.5], [1, 0]))
    logits[1, [ACTION_INDEX[name] for name in ("block_author", "report", "dwell_time")]] = 9.0
    constant_logits(monkeypatch, logits)
    assert loss_of(small, labels([0, 0], [0, 0], [1, 0.5], [1, 0])) == before


def test_padding_weighs_nothing(small: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.zeros((2, 32))
    constant_logits(monkeypatch, logits)
    before = loss_of(small, labels([FAVORITE, 0], [0, 0], [1, 0], [1, 0]))
    logits[1] = 20.0
    constant_logits(monkeypatch, logits)
    assert loss_of(small, labels([FAVORITE, 0], [0, 0], [1, 0], [1, 0])) == before


def test_rivals_are_what_others_liked_and_what_the_viewer_disliked() -> None:
    viewer = np.array([1, 2], np.uint64)
    post = np.array([[10, 11, 12], [10, 20, 21]], np.uint64)
    actions = np.array([[FAVORITE, DISLIKE, 0], [FAVORITE, FAVORITE, 0]], np.uint32)
    shown = valid = np.ones((2, 3), bool)
    found = retrieval_labels(viewer, post, actions, shown, valid, soft_negatives=False)
    assert found.positive.astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]
    # Post 10 is a goal of both, so nobody's rival; 11 is disliked by viewer 1; 20 is liked by viewer 2.
    assert found.negative.astype(int).tolist() == [[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]]
    assert found.log_count.tolist() == pytest.approx([np.log(2), 0, 0, np.log(2), 0, 0])
    soft = retrieval_labels(viewer, post, actions, shown, valid, soft_negatives=True)
    assert soft.negative.astype(int).tolist() == [[0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]]


def test_retrieval_loss_by_hand(small: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    # One viewer, three posts at products 1, 0 and -1, temperature 1; the second post stands twice in the batch.
    monkeypatch.setattr(losses, "mean_vector", lambda *_: jax.numpy.array([1.0, 0.0]))
    monkeypatch.setattr(losses, "post_vectors", lambda *_: jax.numpy.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    inputs = step_inputs(batch(1, 1, 32, 3), small.config, TrainingConfig(), np.random.default_rng(0))
    given = RetrievalLabels(
        np.array([[1, 0, 0]], np.float32), np.array([[False, True, True]]), np.log(np.array([1, 2, 1], np.float32))
    )
    parameters = small.parameters.two_tower._replace(log_temperature=jax.numpy.float32(0.0))
    found = losses.retrieval_loss(parameters, small.config, inputs.context, inputs.entity, given)
    logits = np.array([1.0, -2 * np.log(2), -1.0])
    assert float(found) == pytest.approx(np.log(np.exp(logits).sum()) - 1.0, rel=1e-5)


def test_counts() -> None:
    assert counts_of(np.array([5, 7, 5, 5], np.uint64)).tolist() == [3, 1, 3, 3]


def test_rare_heads_weigh_as_much_as_frequent_ones(small: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = np.full(losses.PROBABILITY_HEADS, 0.5)
    rates[FAVORITE_HEAD] = 0.02
    entropy = -rates * np.log(rates) - (1 - rates) * np.log(1 - rates)
    np.testing.assert_allclose(losses.head_weights(rates, 0.0), np.ones(len(rates)), rtol=1e-6)
    balanced = losses.head_weights(rates, 1.0)
    np.testing.assert_allclose(balanced * entropy, np.full(len(rates), entropy.mean()), rtol=1e-5)
    # A weight of 3 for one head adds twice its part of the loss.
    constant_logits(monkeypatch, np.zeros((2, 32)))
    given = labels([0, 0], [0, 0], [1, 1], [1, 1])
    heavier = np.ones(losses.PROBABILITY_HEADS, np.float32)
    heavier[FAVORITE_HEAD] = 3.0
    inputs = step_inputs(batch(1, 1, 32, 2), small.config, TrainingConfig(negatives=0), np.random.default_rng(0))
    found = ranker_loss(small.parameters.ranker, small.config, inputs.context, inputs.candidates, given, heavier)
    assert float(found) - loss_of(small, given) == pytest.approx(2 * np.log(2) / len(rates), rel=1e-4)
