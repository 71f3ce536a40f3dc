"""Several models in one replay: routed by parameter, request and experiment; shadow scores change no feed."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.instances import replay_instances
from flows.one_feed import one_feed
from flows.replay import SHADOW_SCORES, Replay, replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.clusters import Clusters
from operators.experiments import Arm, Experiments
from operators.parameters import DEFAULTS, ParameterRefused, Value
from schemas.events import Event, FeedRequest, PostCreated
from schemas.feeds import ShadowScores
from tests.acceptance.playing import SECOND, T0, Played, decoded, write_log
from tests.conftest import shaken

POSTS: tuple[Event, ...] = tuple(PostCreated(T0 + number, number + 1, 100 + number) for number in range(30))
PLAIN: dict[str, Value] = {"dpp.enabled": False}


@pytest.fixture(scope="module")
def other(tiny: PhoenixConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "other.phoenix"
    shaken(Phoenix.untrained(tiny, seed=5), seed=5).save(path)
    return path


def ask(request: str, viewer: int = 1, **fields: object) -> FeedRequest:
    return FeedRequest(T0 + SECOND, request, viewer, **fields)  # type: ignore[arg-type]


def played(what: Replay, name: str = "") -> Played:
    """Replay into a folder, or one of its own in it."""
    what = replace(what, out=what.out / name)
    return Played(what.out, replay(what))


def by_post(feed_of: Played, request: str) -> dict[object, float]:
    return {item.post: item.score for item in feed_of.feeds[request].items}


@pytest.fixture
def what(tmp_path: Path, checkpoint: Path, other: Path) -> Replay:
    """Two viewers' requests, with two models loaded."""
    log = write_log(tmp_path / "log.jsonl", [*POSTS, ask("one", explain=True), ask("two", 2)])
    parameters = DEFAULTS.overridden(PLAIN)
    return Replay(log, tmp_path / "out", checkpoint, parameters, clusters={"experiment1": other})


def test_a_routed_feed_is_the_one_that_its_model_would_make(what: Replay, other: Path, tmp_path: Path) -> None:
    parameters = what.parameters.overridden({"models.cluster": "experiment1"})
    routed = played(replace(what, parameters=parameters))
    alone = played(replace(what, checkpoint=other, clusters={}, out=tmp_path / "alone"))
    assert by_post(routed, "one") == by_post(alone, "one")
    assert routed.feeds["one"].model == alone.feeds["one"].model == Phoenix.load(other).version
    assert routed.served["one"].model == Phoenix.load(other).version
    assert by_post(routed, "one") != by_post(played(what, "prod"), "one")


def test_requests_route_themselves_and_unknown_models_are_dead_letters(what: Replay, other: Path) -> None:
    asked = [
        ask("prod", 1),
        ask("there", 2, parameters={"models.cluster": "experiment1"}),
        ask("nowhere", 3, parameters={"models.cluster": "experiment7"}),
        ask("no action", 4, parameters={"hybrid.likes": "experiment1"}),
    ]
    made = played(replace(what, log=write_log(what.log.parent / "routed.jsonl", [*POSTS, *asked])))
    versions = {name: Phoenix.load(path).version for name, path in (("prod", what.checkpoint), ("there", other))}
    assert {request: feed.model for request, feed in made.feeds.items()} == versions
    assert [(letter.path, letter.reason) for letter in made.dead_letters] == [
        (
            "$.parameters",
            "parameter models.cluster: no cluster is called experiment7; this job has prod, experiment1 "
            "(--cluster name=checkpoint loads another)",
        ),
        ("$.parameters", "no parameter is called hybrid.likes; did you mean hybrid.click?"),
    ]


def test_an_experiment_routes_the_viewers_of_an_arm(what: Replay, other: Path) -> None:
    arms = Experiments({"model": {"old": Arm(0.5), "new": Arm(0.5, {"models.cluster": "experiment1"})}})
    log = write_log(what.log.parent / "arms.jsonl", [*POSTS, *(ask(f"r{v}", v) for v in range(1, 21))])
    made = played(replace(what, log=log, experiments=arms))
    version = {"old": Phoenix.load(what.checkpoint).version, "new": Phoenix.load(other).version}
    assert {feed.experiments["model"] for feed in made.feeds.values()} == {"old", "new"}
    assert all(feed.model == version[feed.experiments["model"]] for feed in made.feeds.values())


def test_experiments_and_files_that_name_an_unknown_model_are_refused_before_the_first_event(what: Replay) -> None:
    arms = Experiments({"model": {"old": Arm(0.5), "new": Arm(0.5, {"hybrid.reply": "experiment2"})}})
    with pytest.raises(ParameterRefused, match=r"experiment model, arm new: parameter hybrid.reply: no cluster is"):
        replay(replace(what, experiments=arms))
    with pytest.raises(ParameterRefused, match=r"parameter models.shadow: no cluster is called experiment2"):
        replay(replace(what, parameters=DEFAULTS.overridden({"models.shadow": ["experiment2"]})))
    routed = DEFAULTS.overridden({"models.cluster": "experiment1"})
    with pytest.raises(ParameterRefused, match=r"parameter models.cluster: no cluster is called experiment1; this job"):
        one_feed(what.log, what.checkpoint, routed, 1, None, False, None)


def test_a_feed_tells_of_the_output_that_another_model_lent(what: Replay, other: Path) -> None:
    asked: dict[str, dict[str, Value]] = {
        "plain": {},
        "whole": {"models.cluster": "experiment1"},
        "mixed": {"hybrid.reply": "experiment1"},
    }
    plain, whole, mixed = (
        played(replace(what, parameters=what.parameters.overridden(values)), name) for name, values in asked.items()
    )

    def outputs(of: Played, action: str) -> dict[object, float]:
        told = of.feeds["one"].items
        return {item.post: item.explanation.probabilities[action] for item in told if item.explanation is not None}

    assert len(outputs(mixed, "reply")) == 30
    assert outputs(mixed, "reply") == outputs(whole, "reply") != outputs(plain, "reply")
    assert outputs(mixed, "favorite") == outputs(plain, "favorite") != outputs(whole, "favorite")
    assert mixed.feeds["one"].model == f"{plain.summary.model}+{Phoenix.load(other).version}"


def test_one_feed_from_a_log_takes_models_by_name_as_well(what: Replay, other: Path) -> None:
    parameters = what.parameters.overridden({"models.cluster": "experiment1"})
    made = one_feed(what.log, what.checkpoint, parameters, 1, None, False, None, clusters={"experiment1": other})
    assert made.model == Phoenix.load(other).version


@pytest.fixture(scope="module")
def rough(rough_log: Path, checkpoint: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """A day of a small world with shadow models on half of its requests."""
    values: dict[str, Value] = {"models.shadow": ["experiment1"], "models.shadow_rate": 0.5}
    out = tmp_path_factory.mktemp("shadowed")
    return Replay(rough_log, out, checkpoint, DEFAULTS.overridden(values), clusters={"experiment1": other})


@pytest.fixture(scope="module")
def shadowed(rough: Replay) -> Played:
    return played(rough)


def shadow_scores(of: Played) -> list[ShadowScores]:
    return decoded(of.out / SHADOW_SCORES, ShadowScores)


def test_shadow_models_change_no_feed(rough: Replay, shadowed: Played, tmp_path: Path) -> None:
    without = played(replace(rough, clusters={}, parameters=DEFAULTS, out=tmp_path))
    assert shadowed.bytes() == without.bytes()
    assert not (tmp_path / SHADOW_SCORES).exists()
    assert len(shadowed.feeds) > 30


def test_all_models_scores_of_the_same_candidates_are_logged(shadowed: Played) -> None:
    told = {one.request: one for one in shadow_scores(shadowed)}
    assert 0.2 < len(told) / len(shadowed.feeds) < 0.8
    assert list(told) == [request for request in shadowed.feeds if request in told]
    compared = 0
    for request, one in told.items():
        assert list(one.models) == ["prod", "experiment1"]
        assert one.failed == ()
        assert {len(column) for column in one.scores.values()} in ({len(one.posts)}, set())
        places = {post: place for place, post in enumerate(one.posts)}
        for item in shadowed.feeds[request].items:
            if item.explanation is not None and item.repost_of is None:
                for action, value in item.explanation.probabilities.items():
                    logged = one.scores[f"phoenix.prod.{action}"][places[item.post]]
                    assert logged == pytest.approx(value, rel=1e-5)
                    compared += 1
    assert compared > 1000


def test_what_shadow_models_cost_is_accounted_apart(shadowed: Played) -> None:
    rows = {row["stage"]: row["count"] for row in shadowed.summary.latency}
    assert rows["shadow"] == len(shadow_scores(shadowed))
    assert rows["rank"] == len(shadowed.feeds)


@pytest.mark.parametrize("instances", [2, pytest.param(4, marks=pytest.mark.full)])
def test_instances_log_the_same_bytes(rough: Replay, shadowed: Played, tmp_path: Path, instances: int) -> None:
    replay_instances(replace(rough, out=tmp_path, threads=1), instances, Console(stderr=True))
    for name in ("feeds.jsonl", "served.jsonl", SHADOW_SCORES):
        assert (tmp_path / name).read_bytes() == (shadowed.out / name).read_bytes()


def test_a_shadow_model_that_fails_changes_no_feed(
    rough: Replay, shadowed: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_model = Clusters.ask

    def fails(self: Clusters, name: str, *args: object) -> object:
        if name == "experiment1":
            raise RuntimeError("this model is broken on purpose")
        return ask_model(self, name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Clusters, "ask", fails)
    broken = played(replace(rough, out=tmp_path))
    assert broken.bytes() == shadowed.bytes()
    assert {one.failed for one in shadow_scores(broken)} == {("experiment1",)}
    assert len(shadow_scores(broken)) == len(shadow_scores(shadowed))
