"""Several models at once: who ranks, who lends an output, who takes over, and what shadow models say (2023, 1)."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoints import CheckpointRefused
from models.config import PhoenixConfig
from models.inputs import F32, Candidates
from models.phoenix import Phoenix
from operators.clusters import Clusters, Comparison, Shadows, is_shadowed
from operators.clusters.shadows import VALUES_MAX, rounded
from operators.parameters import DEFAULTS, ParameterRefused, Parameters, Value
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX, ACTIONS
from schemas.events import FeedRequest
from tests.conftest import shaken
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table


class Ids:
    def original_id(self, key: int) -> int | None:
        return key if key != 3 else None


@pytest.fixture(scope="module")
def models(tiny: PhoenixConfig) -> tuple[Phoenix, Phoenix]:
    one, two = (shaken(Phoenix.untrained(tiny, seed), seed) for seed in (1, 2))
    return one, two


@pytest.fixture(scope="module")
def clusters(models: tuple[Phoenix, Phoenix]) -> Clusters:
    return Clusters(models[0], {"experiment1": models[1]})


def asking(values: dict[str, Value], request: int | str = "r") -> Query:
    event = FeedRequest(at=NOW_MS, request=request, viewer=VIEWER)
    return query(parameters=DEFAULTS.overridden(values), event=event)


def candidates(count: int = 4) -> Candidates:
    return table(post=list(range(1, count + 1)), rank_post=list(range(1, count + 1))).rank_columns()


def test_the_model_that_is_named_ranks(clusters: Clusters, models: tuple[Phoenix, Phoenix]) -> None:
    for name, model in zip(("prod", "experiment1"), models, strict=True):
        asked = asking({"models.cluster": name})
        outputs = clusters.rank(asked, candidates())
        assert outputs.probabilities is not None
        assert outputs.probabilities.tobytes() == model.rank(asked.context, candidates()).tobytes()
        assert outputs.model == model.version
        assert list(outputs.by_cluster) == [name]
        assert asked.degraded == []


def test_an_action_can_be_taken_from_another_model(clusters: Clusters, models: tuple[Phoenix, Phoenix]) -> None:
    asked = asking({"hybrid.reply": "experiment1", "hybrid.favorite": "prod"})
    outputs = clusters.rank(asked, candidates())
    own, other = (model.rank(asked.context, candidates()) for model in models)
    expected = own.copy()
    expected[:, ACTION_INDEX["reply"]] = other[:, ACTION_INDEX["reply"]]
    assert (own != other).all()
    assert outputs.probabilities is not None
    assert outputs.probabilities.tobytes() == expected.tobytes()
    assert outputs.model == f"{models[0].version}+{models[1].version}"
    # What each of them said stays as it said it.
    assert outputs.by_cluster["prod"].tobytes() == own.tobytes()
    assert outputs.by_cluster["experiment1"].tobytes() == other.tobytes()


class Broken(Clusters):
    """Clusters some of which can't answer."""

    broken: frozenset[str] = frozenset()

    def ask(self, name: str, query: Query, candidates: Candidates) -> F32:
        if name in self.broken:
            raise RuntimeError("broken on purpose")
        return super().ask(name, query, candidates)


def broken(models: tuple[Phoenix, Phoenix], *names: str) -> Broken:
    made = Broken(models[0], {"experiment1": models[1]})
    made.broken = frozenset(names)
    return made


def test_where_a_model_fails_its_fallback_ranks(models: tuple[Phoenix, Phoenix]) -> None:
    asked = asking({"models.cluster": "experiment1"})
    outputs = broken(models, "experiment1").rank(asked, candidates())
    assert outputs.model == models[0].version
    assert outputs.probabilities is not None
    assert outputs.probabilities.tobytes() == models[0].rank(asked.context, candidates()).tobytes()
    assert asked.degraded == ["phoenix.experiment1"]


@pytest.mark.parametrize(
    ("values", "fail", "degraded"),
    [
        ({"models.cluster": "experiment1"}, ("prod", "experiment1"), ["phoenix.experiment1", "phoenix"]),
        ({"models.cluster": "experiment1", "models.fallback": ""}, ("experiment1",), ["phoenix.experiment1"]),
        ({"models.fallback": "prod"}, ("prod",), ["phoenix"]),
    ],
)
def test_where_that_fails_too_nobody_has_ranked(
    models: tuple[Phoenix, Phoenix], values: dict[str, Value], fail: tuple[str, ...], degraded: list[str]
) -> None:
    asked = asking(values)
    outputs = broken(models, *fail).rank(asked, candidates())
    assert outputs.probabilities is None
    assert asked.degraded == degraded


def test_an_action_whose_model_fails_stays_with_the_one_that_ranks(models: tuple[Phoenix, Phoenix]) -> None:
    asked = asking({"hybrid.reply": "experiment1"})
    outputs = broken(models, "experiment1").rank(asked, candidates())
    assert outputs.probabilities is not None
    assert outputs.probabilities.tobytes() == models[0].rank(asked.context, candidates()).tobytes()
    assert outputs.model == models[0].version
    assert asked.degraded == ["phoenix.experiment1"]


@pytest.mark.parametrize(
    "values",
    [
        {"models.cluster": "experiment2"},
        {"models.fallback": "experiment2"},
        {"hybrid.reply": "experiment2"},
        {"models.shadow": ["prod", "experiment2"]},
    ],
)
def test_a_model_that_is_not_loaded_is_refused(clusters: Clusters, values: dict[str, Value]) -> None:
    (name,) = values
    with pytest.raises(
        ParameterRefused, match=f"parameter {name}: no cluster is called experiment2; this job has prod"
    ):
        clusters.check(DEFAULTS.overridden(values))


def test_an_action_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ParameterRefused, match=r"no parameter is called hybrid.replie; did you mean hybrid.reply\?"):
        DEFAULTS.overridden({"hybrid.replie": "experiment1"})


def test_all_that_is_loaded_is_taken(clusters: Clusters) -> None:
    clusters.check(DEFAULTS)
    fine: dict[str, Value] = {"models.cluster": "experiment1", "models.fallback": "", "models.shadow": ["prod"]}
    clusters.check(DEFAULTS.overridden({**fine, "hybrid.dwell_time": "experiment1"}))
    assert clusters.names == ("prod", "experiment1")


def test_a_model_that_reads_what_is_not_kept_is_refused(tiny: PhoenixConfig, models: tuple[Phoenix, Phoenix]) -> None:
    reads = Phoenix.untrained(msgspec.structs.replace(tiny, co_likers=True))
    with pytest.raises(CheckpointRefused, match=r"cluster experiment1, the model .*, reads what co-likers say"):
        Clusters(models[0], {"experiment1": reads})
    assert Clusters(reads, {"experiment1": models[0]}).names == ("prod", "experiment1")


def test_all_shapes_are_compiled_and_told_of(clusters: Clusters) -> None:
    told: list[tuple[int, int]] = []
    clusters.warm_up(64, lambda done, of: told.append((done, of)))
    # The end is reached once, at the end: a job is ready when done == of.
    assert [one for one in told if one[0] == one[1]] == [told[-1]]
    assert [done for done, _ in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.25, 200, 300), (1.0, 1000, 1000)])
def test_a_share_of_the_requests_is_shadowed(rate: float, least: int, most: int) -> None:
    values: dict[str, Value] = {"models.shadow": ["experiment1"], "models.shadow_rate": rate}
    chosen = {request for request in range(1000) if is_shadowed(asking(values, request))}
    assert least <= len(chosen) <= most
    assert chosen == {request for request in range(1000) if is_shadowed(asking(values, request))}
    assert not any(is_shadowed(asking({"models.shadow_rate": rate}, request)) for request in range(20))


def comparison(clusters: Clusters, values: dict[str, Value], count: int = 4) -> Comparison:
    asked = asking({"models.shadow_rate": 1.0} | values)
    columns = candidates(count)
    posts = np.arange(1, count + 1, dtype=np.uint64)
    return Comparison(clusters, asked, columns, posts, clusters.rank(asked, columns), Ids())


def test_shadow_models_and_the_one_that_ranks_are_told_of_side_by_side(
    clusters: Clusters, models: tuple[Phoenix, Phoenix]
) -> None:
    shadows = Shadows()
    what = comparison(clusters, {"models.shadow": ["experiment1", "prod"]})
    shadows.submit(what)
    (compared,) = shadows.finished(wait=True)
    shadows.close()
    told = compared.scores
    assert told.posts == (1, 2, 4)  # nobody knows the id of post 3 any more
    assert (told.candidates, told.cluster, told.ranked_by) == (4, "prod", models[0].version)
    assert told.models == {"prod": models[0].version, "experiment1": models[1].version}
    assert list(told.scores) == [f"phoenix.{name}.{action}" for name in told.models for action in ACTIONS]
    own, other = (model.rank(what.query.context, what.candidates)[[0, 1, 3]] for model in models)
    assert told.scores["phoenix.prod.favorite"] == pytest.approx(own[:, 0].tolist(), rel=1e-5)
    assert told.scores["phoenix.experiment1.dwell_time"] == pytest.approx(other[:, -1].tolist(), rel=1e-5)
    assert compared.duration_s > 0


def test_a_shadow_model_that_fails_is_named_and_nothing_else_happens(models: tuple[Phoenix, Phoenix]) -> None:
    made = broken(models, "experiment1")
    shadows = Shadows()
    what = comparison(made, {"models.shadow": ["experiment1"]})
    shadows.submit(what)
    (compared,) = shadows.finished(wait=True)
    shadows.close()
    assert compared.scores.failed == ("experiment1",)
    assert list(compared.scores.models) == ["prod"]
    assert what.query.degraded == []


def test_what_there_is_no_time_for_is_lost_and_counted_or_waited_for(clusters: Clusters) -> None:
    values: dict[str, Value] = {"models.shadow": ["experiment1"]}
    waits, loses = Shadows(waiting_max=0), Shadows(waiting_max=0, may_lose=True)
    assert (waits.room(), loses.room()) == (False, True)
    loses.submit(comparison(clusters, values))
    assert (loses.lost, loses.busy()) == (1, False)
    waits.submit(comparison(clusters, values))
    assert len(waits.finished(wait=True)) == 1
    assert waits.lost == 0
    waits.close()
    loses.close()


def test_a_comparison_fits_into_a_message(clusters: Clusters) -> None:
    # VALUES_MAX of 13 bytes and a comma each, and an id of 64 bytes a candidate: under the 4 MiB of the topic
    assert VALUES_MAX * 14 + VALUES_MAX // (2 * len(ACTIONS)) * 68 < 4 << 20
    count = VALUES_MAX // (2 * len(ACTIONS)) + 100
    shadows = Shadows()
    shadows.submit(comparison(clusters, {"models.shadow": ["experiment1"]}, count))
    (compared,) = shadows.finished(wait=True)
    shadows.close()
    told = compared.scores
    assert told.candidates == count
    assert len(told.posts) == count - 100 - 1  # the one whose id nobody knows
    assert len(msgspec.json.encode(told)) < 4 << 20


@given(st.lists(st.floats(0, 65536.0, width=32, allow_subnormal=False), min_size=1, max_size=30))
def test_numbers_keep_six_digits(values: list[float]) -> None:
    told = rounded(np.array(values, np.float32)).tolist()
    for value, one in zip(values, told, strict=True):
        assert len(json.dumps(one)) <= 13
        if value == 0 or value > 1e-16:
            assert one == float(f"{value:.6g}")
        else:
            assert one == pytest.approx(value, abs=1e-21)


def test_parameters_by_request_and_by_file_alike() -> None:
    parameters: Parameters = DEFAULTS.overridden({"models.cluster": "experiment1"}, scope="request")
    assert parameters.models.cluster == "experiment1"
    with pytest.raises(ParameterRefused, match=r"Expected `float` <= 1.0"):
        DEFAULTS.overridden({"models.shadow_rate": 1.5})
