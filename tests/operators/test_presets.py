"""Presets hold what was published at their dates, and every component can be switched off by its parameter."""

import numpy as np
import pytest

from operators.parameters import DEFAULTS, ENTRIES, ParameterRefused
from operators.pipeline.components import components
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING, Filter
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import HEADS, SCORERS, score
from operators.presets import NAMES, differences, preset
from schemas.actions import ACTION_INDEX
from tests.operators.pipeline.tables import query, table


def test_august_is_the_default() -> None:
    assert preset("august-2026").parameters == DEFAULTS


def test_september_has_three_other_weights() -> None:
    assert differences(DEFAULTS, preset("september").parameters) == {
        "weights.video_open": (0.05, 0.07),
        "weights.vqv": (0.05, 0.0),
        "weights.dwell": (0.0, 0.05),
    }


def test_the_worked_example_of_march_2023() -> None:
    # 2023-generation.md 2: .10 + .675 + .75 + .10 + 1.65 - 1.48 + .001 = 1.796; replies that the author engages with
    # have no head in the model, so .75 of it is not to be had.
    march = preset("march-2023").parameters
    probabilities = np.zeros((1, len(HEADS)), np.float32)
    told = {"favorite": 0.2, "reply": 0.05, "retweet": 0.1, "click": 0.15, "not_interested": 0.02}
    for head, value in told.items():
        probabilities[0, ACTION_INDEX[head]] = value
    found = score(query(parameters=march), table(post=[1]), probabilities)
    assert march.weights.reply_engaged_by_author * 0.01 == pytest.approx(0.75)
    assert found.score[0] + 0.75 == pytest.approx(1.796, rel=1e-6)


def test_january_keeps_an_original_after_its_retweet() -> None:
    rows = table(post=[1, 2, 3], is_repost=[1, 0, 1], repost_of=[2, 0, 2])
    kept, _ = run_filters(PRE_SCORING, query(), rows, Accounting(explain=False))
    assert kept.post.tolist() == [1]
    january = query(parameters=preset("january-2026").parameters)
    kept, _ = run_filters(PRE_SCORING, january, rows, Accounting(explain=False))
    assert kept.post.tolist() == [1, 2]


def test_a_preset_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ParameterRefused, match="no preset is called july: choose one of august-2026, january-2026"):
        preset("july")


def test_every_preset_says_when_it_was_and_what_it_is() -> None:
    for name in NAMES:
        one = preset(name)
        assert one.date.startswith(name[-4:])
        assert one.about.endswith(".")
        assert one.source


@pytest.mark.parametrize("one", [*PRE_SCORING, *AT_THE_SLATE], ids=lambda one: one.name)
def test_every_filter_can_be_switched_off(one: Filter) -> None:
    off = DEFAULTS.overridden({one.switch: False})
    assert not one.enable(query(parameters=off))


@pytest.mark.parametrize("model", SCORERS)
def test_components_name_parameters_that_exist(model: str) -> None:
    parameters = DEFAULTS.overridden({"scoring.value_model": model})
    listed = components(parameters)
    for one in listed:
        assert set(one.reads) <= set(ENTRIES), one.name
        assert not one.switch or one.switch in ENTRIES
        assert one.rule.endswith(".")
        assert one.origin
    names = [one.name for one in listed]
    assert len(names) == len(set(names))


def test_a_switched_off_scorer_takes_no_step() -> None:
    plain = DEFAULTS.overridden(
        {"dpp.enabled": False, "scoring.author_diversity": False, "scoring.out_of_network": False}
    )
    rows = table(author=[1, 1], in_network=[False, False])
    found = score(query(parameters=plain), rows, np.ones((2, len(HEADS)), np.float32))
    assert [step.name for step in found.steps] == ["negative_offset"]
