"""A verdict is of pairs, waits until it can tell, and is hand-computed here."""

import math

import msgspec
import numpy as np
import pytest

from flows.learning.verdict import Verdict
from models.judging import Fit, Foretold, Paired, example_losses
from models.losses import PROBABILITY_HEADS
from operators.parameters.learning import LearningSettings
from schemas.actions import ACTION_INDEX
from tests.flows.learning.streams import SETTINGS
from tests.models.toy_world import batch

FIT = Fit(0.0, None, {}, {})


def foretold(ranker: list[float], towers: list[float]) -> Foretold:
    return Foretold(np.array(ranker), np.array(towers), FIT)


def settings(**changes: float) -> LearningSettings:
    return msgspec.structs.replace(SETTINGS, positives_min=10, publish_margin=0.05, **changes)


def test_pairs_by_hand() -> None:
    paired = Paired()
    assert paired.error == math.inf
    paired.add(np.array([10.0, 20.0]), np.array([11.0, 19.0]))
    paired.add(np.array([30.0, 40.0]), np.array([32.0, 40.0]))
    # Differences 1, -1, 2, 0: their sum is 2 of 100; their variance 5/3, of their sum 20/3.
    assert paired.worse == pytest.approx(0.02)
    assert paired.error == pytest.approx(math.sqrt(20 / 3) / 100)


def test_a_verdict_waits_for_positives_then_for_a_small_error() -> None:
    verdict = Verdict.open()
    verdict.take(foretold([10.0, 10.0], []), foretold([10.0, 10.1], []), positives=9)
    assert verdict.against(settings()) == ("too few to tell: 9 of 10 posts acted on", False)
    # Differences 0, .1, 2, -1 of 40: 1.1 / 40, and the root of 4 (5.01 - 1.21 / 4) / 3 over 40.
    verdict.take(foretold([10.0, 10.0], []), foretold([12.0, 9.0], []), positives=1)
    reason, settled = verdict.against(settings())
    assert reason == "can't tell yet: the ranker's loss differs by 2.75% ± 6.26%"
    assert not settled
    assert verdict.compared.retrieval is None
    verdict.take(foretold([100.0] * 50, []), foretold([100.0] * 50, []), positives=1)
    assert verdict.against(settings()) == ("", True)


def test_either_loss_refuses_and_one_that_is_no_number_does() -> None:
    good, bad = [10.0, 10.0], [11.0, 11.0]
    for ranker, towers, which in ((bad, good, "ranker"), (good, bad, "retrieval")):
        verdict = Verdict.open()
        verdict.take(foretold(good, good), foretold(ranker, towers), positives=10)
        assert verdict.against(settings()) == (f"worse: the {which}'s loss by 10.00%, the margin is 5.00%", True)
    verdict = Verdict.open()
    verdict.take(foretold(good, good), foretold([math.nan, 10.0], good), positives=10)
    reason, settled = verdict.against(settings())
    assert reason.startswith("worse: the ranker's loss by nan")
    assert settled


def test_the_loss_counts_served_posts_and_seen_negatives_alone() -> None:
    given = batch(0, examples=2, shown=3)
    even = np.full((2, 3, PROBABILITY_HEADS + 1), 0.5, np.float32)
    losses, weights = example_losses(even, given, np.ones(PROBABILITY_HEADS, np.float32))
    assert weights.tolist() == [3 * PROBABILITY_HEADS] * 2
    assert losses == pytest.approx([3 * PROBABILITY_HEADS * math.log(2)] * 2)
    given.valid[0, 2] = False
    given.shown[1, 0] = False
    given.label_actions[1, 0] = 0
    losses, weights = example_losses(even, given, np.ones(PROBABILITY_HEADS, np.float32))
    # Four heads are negative: of a post that was not shown, silence there says nothing.
    assert weights.tolist() == [2 * PROBABILITY_HEADS, 3 * PROBABILITY_HEADS - 4]
    sure = even.copy()
    sure[..., ACTION_INDEX["favorite"]] = 0.9
    liked = (given.label_actions >> ACTION_INDEX["favorite"]) & 1 == 1
    better = np.where(liked, math.log(0.9 / 0.5), math.log(0.1 / 0.5)) * given.valid
    assert losses - example_losses(sure, given, np.ones(PROBABILITY_HEADS, np.float32))[0] == pytest.approx(
        better.sum(1), abs=1e-5
    )
