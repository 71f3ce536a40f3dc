"""Presets hold what was published at their dates, and every component can be switched off by its parameter."""

from pathlib import Path

import numpy as np
import pytest

from operators import presets
from operators.parameters import DEFAULTS, ENTRIES, ParameterRefused, Weights
from operators.pipeline.components import components
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING, Filter
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import HEADS, SCORERS, score
from operators.presets import NAMES, differences, preset
from schemas.actions import ACTION_INDEX
from tests.operators.pipeline.tables import query, table


def test_august_is_the_default() -> None:
    assert preset("august-2026").parameters == DEFAULTS


def test_september_has_three_other_weights_and_draws_twice() -> None:
    assert differences(DEFAULTS, preset("september").parameters) == {
        "weights.video_open": (0.05, 0.07),
        "weights.vqv": (0.05, 0.0),
        "weights.dwell": (0.0, 0.05),
        "cold_start.thompson_top": (5, 2),
    }


def test_the_worked_example_of_march_2023() -> None:
    # 2023-generation.md 2: .10 + .675 + .75 + .10 + 1.65 - 1.48 + .001 = 1.796; replies that the author engages with
    # have no head in the model, so .75 of it is not to be had. A verified author loses nothing.
    march = preset("march-2023").parameters
    probabilities = np.zeros((1, len(HEADS)), np.float32)
    told = {"favorite": 0.2, "reply": 0.05, "retweet": 0.1, "click": 0.15, "not_interested": 0.02}
    for head, value in told.items():
        probabilities[0, ACTION_INDEX[head]] = value
    found = score(query(parameters=march), table(author_verified=[True]), probabilities)
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


def test_a_preset_that_names_an_unknown_parameter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "july-2026.toml").write_text(
        '[preset]\ndate = "2026-07"\nsource = "none"\nabout = "None."\n[scoring]\noon_facter = 0.5\n'
    )
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    monkeypatch.setattr(presets, "NAMES", ("july-2026",))
    with pytest.raises(ParameterRefused, match=r"no parameter is called scoring.oon_facter; did you mean scoring.oon_"):
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


POSITIVE = [name for name in Weights.__struct_fields__ if getattr(DEFAULTS.weights, name) >= 0]
NEGATIVE = [name for name in Weights.__struct_fields__ if name not in POSITIVE]


@pytest.mark.parametrize("name", Weights.__struct_fields__)
def test_a_weight_of_the_wrong_sign_is_refused(name: str) -> None:
    wrong = 0.1 if name in NEGATIVE else -0.1
    with pytest.raises(ParameterRefused, match=rf"Expected `float` [<>]= 0.0 at `weights.{name}`"):
        DEFAULTS.overridden({f"weights.{name}": wrong}, scope="request")
    assert getattr(DEFAULTS.overridden({f"weights.{name}": -wrong}).weights, name) == -wrong
    assert getattr(DEFAULTS.overridden({f"weights.{name}": 0.0}).weights, name) == 0.0


def test_the_negative_heads_are_the_five_that_viewers_do_not_like() -> None:
    assert set(NEGATIVE) == {"not_interested", "block_author", "mute_author", "report", "not_dwelled"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ParameterRefused, match=r"parameter gate.bias can't be .*: give a finite number"):
        DEFAULTS.overridden({"gate.bias": value})


def test_a_switched_off_scorer_takes_no_step() -> None:
    plain = DEFAULTS.overridden(
        {
            "dpp.enabled": False,
            "cold_start.enabled": False,
            "scoring.author_diversity": False,
            "scoring.out_of_network": False,
        }
    )
    rows = table(author=[1, 1], in_network=[False, False])
    found = score(query(parameters=plain), rows, np.ones((2, len(HEADS)), np.float32))
    assert [step.name for step in found.steps] == ["negative_offset"]
