"""Reputation and cluster interest, against the numbers of 2023-generation.md 3 and 4."""

import math

import numpy as np
import pytest

from operators.parameters import DEFAULTS, ParameterRefused
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import HEADS, SCORERS, score, score_alone
from operators.pipeline.scorers.reputation import author_reputation, cluster_interest
from operators.pipeline.scorers.steps import Scored
from operators.presets import differences, preset
from tests.operators.pipeline.tables import query, table

ON = DEFAULTS.overridden({"reputation.enabled": True, "cluster_interest.enabled": True, "dpp.enabled": False})


def scored(count: int) -> Scored:
    ones = np.ones(count)
    return Scored(np.zeros((count, len(HEADS)), np.float32), np.zeros((len(HEADS), count)), ones, ones)


def mass(followers: int, followings: int, verified: bool = False) -> float:
    """Return an author's mass of 100: the factor is the mass over that of a verified author."""
    rows = table(author_followers=[followers], author_followings=[followings], author_verified=[verified])
    return 100 * float(author_reputation(query(parameters=ON), rows, scored(1))[0])


def test_a_verified_author_has_a_mass_of_100_and_another_55() -> None:
    assert mass(10, 10, verified=True) == 100
    assert mass(10, 10) == pytest.approx(55)


@pytest.mark.parametrize(("ratio", "divisor"), [(1, 7.389), (2, 1096.6)])
def test_who_follows_many_for_its_followers_is_divided(ratio: int, divisor: float) -> None:
    # r = (1 + followings) / (1 + followers): 1 of 999 and 999, 2 of 1,999 and 999. exp(5 (1 - .6)) = 7.4, and 1,097.
    followings = 1000 * ratio - 1
    assert mass(999, followings, verified=True) == pytest.approx(100 / divisor, rel=1e-4)
    assert mass(999, followings) == pytest.approx(55 / divisor, rel=1e-4)
    assert mass(999, followings, verified=True) == pytest.approx(100 / math.exp(5 * (ratio - 0.6)))


def test_up_to_500_followings_or_a_ratio_of_six_tenths_cost_nothing() -> None:
    assert mass(0, 500) == pytest.approx(55)
    assert mass(0, 501) == 0, "e to the power of 2,507 is more than any number"
    assert mass(9_999, 5_999) == pytest.approx(55), "r = 6,000 / 10,000 is not above .6"
    assert mass(9_999, 6_000) < 55


def test_what_nobody_told_of_an_author_counts_for_nothing() -> None:
    assert mass(-1, 5_000) == pytest.approx(55)
    assert mass(10, -1) == pytest.approx(55)
    assert mass(-1, -1, verified=True) == 100


def test_the_worked_example_of_interest() -> None:
    rows = table(cluster_interest=[0.6, 0.4, 0.0, 0.04, -1.0])
    factors = cluster_interest(query(parameters=ON), rows, scored(5))
    # .9 x .60 = .54 and .9 x .40 = .36; at least one of twenty clusters; unknown changes nothing.
    assert (0.9 * factors).tolist() == pytest.approx([0.54, 0.36, 0.045, 0.045, 0.9])


def two() -> CandidateTable:
    return table(author_verified=[True, False], author_followings=[0, 0], cluster_interest=[0.4, 0.6])


@pytest.mark.parametrize("model", SCORERS)
def test_both_are_steps_of_every_value_model_and_off_by_default(model: str) -> None:
    said = np.full((2, len(HEADS)), 0.01, np.float32)
    chosen = {"scoring.value_model": model}
    off = score(query(parameters=DEFAULTS.overridden(chosen)), two(), said, np.ones((2, 2), np.float32))
    on = score(query(parameters=ON.overridden(chosen)), two(), said)
    names = {"author_reputation", "cluster_interest"}
    assert not names & {step.name for step in off.steps}
    told = {step.name: step.value.tolist() for step in on.steps if step.name in names}
    kept = [1.0, 1.0] if model == "mpn" and (on.weighted < 0).all() else None
    assert told["author_reputation"] == kept or told["author_reputation"] == pytest.approx([1.0, 0.55])
    assert told["cluster_interest"] == kept or told["cluster_interest"] == pytest.approx([0.4, 0.6])


def test_the_posts_whose_vectors_are_made_are_chosen_with_both() -> None:
    said = np.zeros((2, len(HEADS)), np.float32)
    said[:, HEADS.index("favorite")] = 0.5
    plain, both = (score_alone(query(parameters=one), two(), said) for one in (DEFAULTS, ON))
    assert (both / plain).tolist() == pytest.approx([1.0 * 0.4, 0.55 * 0.6])


def test_march_2023_has_reputation_and_522_groups() -> None:
    changed = differences(DEFAULTS, preset("march-2023").parameters)
    assert changed["reputation.enabled"] == (False, True)
    assert changed["history.groups_max"] == (128, 522)
    assert "cluster_interest.enabled" not in changed


def test_a_mass_that_none_can_have_is_refused() -> None:
    with pytest.raises(ParameterRefused, match=r"Expected `float` >= 1.0 at `reputation.verified_mass`"):
        DEFAULTS.overridden({"reputation.verified_mass": 0.0}, scope="request")
