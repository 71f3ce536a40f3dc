"""What a feed is worth counts its places: a short one is not better for what it lacks."""

import numpy as np
import pytest

from flows.feed_worth import best_worth_of, weigh, worth_of
from operators.parameters import DEFAULTS
from schemas.actions import ACTIONS


def test_a_feed_is_worth_the_mean_of_its_first_ten_places() -> None:
    assert worth_of(np.arange(12.0)) == 4.5
    assert worth_of(np.array([3.0, 2.0])) == 0.5
    assert worth_of(np.zeros(0)) == 0.0


def test_the_best_feed_leaves_a_place_empty_before_harm() -> None:
    assert best_worth_of(np.array([-5.0, 3.0, 2.0])) == 0.5
    assert best_worth_of(np.arange(12.0)) == 6.5


def test_no_feed_is_worth_more_than_the_best_of_its_posts() -> None:
    rng = np.random.default_rng(5)
    for count in rng.integers(1, 25, 200):
        posts = rng.normal(size=count)
        assert best_worth_of(posts) >= worth_of(rng.permutation(posts)[: rng.integers(1, count + 1)]) - 1e-12


def test_chances_are_weighed_as_posts_are_ranked() -> None:
    chances = np.zeros((1, len(ACTIONS)))
    chances[0, ACTIONS.index("favorite")], chances[0, ACTIONS.index("report")] = 0.5, 0.01
    weights = DEFAULTS.weights
    assert weigh(chances, DEFAULTS) == pytest.approx([0.5 * weights.favorite + 0.01 * weights.report])
