"""The gated value model: a linear gate on what is known of a viewer chooses between two value models (1.5)."""

import dataclasses
import math

import numpy as np
import pytest

from models.inputs import History
from operators.parameters import DEFAULTS, Parameters, Value
from operators.pipeline.scorers import HEADS, SCORERS, score
from operators.pipeline.scorers.gate import FEATURES, gate_opens, viewer_features
from operators.viewers.query import Query
from operators.viewers.relations import Relations
from schemas.actions import ACTION_INDEX, VIEWER_COUNTS
from tests.operators.pipeline.tables import NOW_MS, query, table

DAY_MS = 86_400_000


def gated(values: dict[str, Value] | None = None) -> Parameters:
    return DEFAULTS.overridden({"scoring.value_model": "gated", "dpp.enabled": False} | (values or {}))


def known(parameters: Parameters) -> Query:
    """A viewer who follows 3 authors and is followed by 1, with 99 followers and an account of 7 days."""
    follows = np.array([1, 2, 3], np.uint64)
    relations = Relations(
        followed=follows, followed_by=follows[:1], followers=99, account_created_ms=NOW_MS - 7 * DAY_MS
    )
    asked = query(relations, parameters)
    counts = np.arange(VIEWER_COUNTS, dtype=np.uint32)
    asked.context = dataclasses.replace(asked.context, counts=counts)
    return asked


def test_features_are_logarithms_of_what_is_known() -> None:
    names = dict(zip(FEATURES, viewer_features(known(gated())).tolist(), strict=True))
    expected = {"follows": 4, "followed_by": 2, "followers": 100, "account_age_days": 8, "groups": 1}
    # The viewer's counts, in the order of their columns: 0 shown, 1 like, 2 replies, ... 10 passed.
    expected |= {"shown": 1, "favorite": 2, "reply": 3, "repost": 4, "negative": 10, "passed": 11}
    assert {name: names[name] for name in expected} == pytest.approx({k: math.log(v) for k, v in expected.items()})
    assert len(FEATURES) == len(names) == 16


def test_without_coefficients_the_gate_is_open_to_everybody() -> None:
    # x-algorithm.md 1.5: 1.033918 > -0.634264
    assert gate_opens(query(parameters=gated()))
    assert gate_opens(known(gated()))


@pytest.mark.parametrize(
    ("coefficient", "opens"),
    # 1.033918 + c x ln 100 against -0.634264: it shuts where c < -1.668182 / 4.605170 = -0.362241
    [(-0.3622, True), (-0.3623, False)],
)
def test_a_coefficient_shuts_it(coefficient: float, opens: bool) -> None:
    asked = known(gated({"gate.followers": coefficient}))
    assert gate_opens(asked) == opens
    # Who has no followers is not touched by it.
    assert gate_opens(query(parameters=asked.parameters))


@pytest.mark.parametrize(("bias", "model"), [(1.0, "dwell_regret"), (-1.0, "weighted")])
def test_scores_are_those_of_the_model_chosen(bias: float, model: str) -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.random((5, len(HEADS))).astype(np.float32)
    probabilities[:, [ACTION_INDEX[name] for name in ("report", "block_author", "mute_author")]] *= 0.001
    rows = table(author=[1, 1, 2, 3, 3], in_network=[1, 0, 1, 0, 1])
    through = score(known(gated({"gate.bias": bias})), rows, probabilities)
    direct = score(known(gated({"scoring.value_model": model})), rows, probabilities)
    assert through.score.tobytes() == direct.score.tobytes()
    assert [step.name for step in through.steps] == [step.name for step in direct.steps]


def test_the_pipeline_says_for_whom_each_of_them_is() -> None:
    first, second = SCORERS["gated"][:2]
    assert first.rule.startswith("For viewers to whom the gate opens: take expected seconds")
    assert second.rule.startswith("For viewers to whom the gate stays shut: lift sums")


def test_an_account_from_the_future_is_as_good_as_new() -> None:
    asked = query(Relations(account_created_ms=NOW_MS + DAY_MS), gated())
    assert viewer_features(asked)[FEATURES.index("account_age_days")] == 0.0
    assert viewer_features(asked).shape == (16,)
    assert len(asked.context.history) == len(History.empty()) == 0
