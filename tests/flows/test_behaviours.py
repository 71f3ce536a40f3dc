"""The demo model behaves as a For You model must (2023-generation.md 6), by no less than what is stated."""

import pytest

from benchmarks.behaviours.effects import BEHAVIOURS, Behaviour, effects, interval
from flows.options import checkpoint_path
from models.phoenix import Phoenix

PAIRS = 40
SEED = 1  # not the page's


@pytest.fixture(scope="module")
def demo() -> Phoenix:
    return Phoenix.load(checkpoint_path("demo"))


@pytest.mark.parametrize("behaviour", [one for one in BEHAVIOURS if one.least], ids=lambda one: one.effect.__name__)
def test_actions_move_what_is_like_them(demo: Phoenix, behaviour: Behaviour) -> None:
    mean, low, high = interval(behaviour.sign * effects(demo, behaviour, PAIRS, SEED))
    assert mean >= behaviour.least
    assert low > 0, (low, high)


def test_an_untrained_model_shows_nothing_of_it(demo: Phoenix) -> None:
    """The effects are learned: paired histories alone don't make them."""
    fresh = Phoenix.untrained(demo.config)
    for behaviour in BEHAVIOURS:
        if behaviour.least:
            assert behaviour.sign * effects(fresh, behaviour, PAIRS, SEED).mean() < behaviour.least
