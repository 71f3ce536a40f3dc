"""What operators see of a process that learns are the figures of its intervals, and why examples were passed over."""

import dataclasses
import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.learning.example_sources import ExampleSource
from flows.learning.learn import Learned, LearnRun, learn, nobody
from flows.learning.trainer import Interval
from flows.learning.watching import LearnWatch, answering
from flows.training_examples import Example
from infra.operations import OperationsRefused
from models.phoenix import Phoenix
from tests.conftest import shaken
from tests.flows.learning.streams import CONFIG, SETTINGS, stream

Samples = dict[tuple[str, str], float]


class Given(ExampleSource):
    """Some examples, one of them again and one that is unusable, and messages that hold none."""

    name = "given"
    refused = 3

    def __init__(self, examples: list[Example]) -> None:
        self._examples = examples

    @property
    def position(self) -> dict[str, Any]:
        return {"source": self.name}

    def read(self, position: dict[str, Any] | None) -> Iterator[Example | None]:
        yield None
        yield from self._examples


def samples(port: int | None) -> Samples:
    """Return what a Prometheus server reads of ours, by name and the one label's value."""
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith("foryou_")
        for sample in family.samples
    }


def readiness(port: int | None) -> dict[str, str]:
    """Return what is missing."""
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/readyz", timeout=5) as answer:
            found: dict[str, str] = json.loads(answer.read())["missing"]
    except urllib.error.HTTPError as error:
        with error:
            found = json.loads(error.read())["missing"]
    return found


def test_what_an_operator_sees_of_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.learning.watching.GAUGES_EVERY_S", 0.0)
    start = tmp_path / "start.phoenix"
    shaken(Phoenix.untrained(CONFIG), seed=0).save(start)
    made = stream(3 * 64 + 5)
    unusable = dataclasses.replace(made[9], dwell_s=made[9].dwell_s * math.nan)
    watch, told, seen = LearnWatch(), list[Interval](), list[Samples]()

    def run(port: int | None, examples: list[Example]) -> Learned:
        def note(interval: Interval, _seconds: float) -> None:
            told.append(interval)
            seen.append(samples(port))

        what = LearnRun(tmp_path / "models", SETTINGS, start)
        return learn(what, lambda _config: Given(examples), note, nobody, watch=watch)

    with answering(0, watch.health, watch.metrics) as port:
        assert readiness(port).keys() == {"model", "examples"}
        assert math.isnan(samples(port)["foryou_learn_newest_example_age_seconds", ""])
        done = run(port, [*made[:3], made[2], unusable, *made[3:], made[-1]])
        assert readiness(port) == {}
        last = samples(port)
    assert (done.intervals, done.twice, done.unusable, done.refused) == (3, 2, 1, 3)
    for interval, then in zip(told, seen, strict=True):
        assert then["foryou_learn_intervals_total", ""] == interval.number
        assert then["foryou_learn_examples_total", ""] == 64 * interval.number
        for model, fit in (("trained", interval.trained), ("best", interval.best)):
            assert fit is not None
            assert then["foryou_learn_loss", model] == fit.loss
            assert then["foryou_learn_retrieval_loss", model] == fit.retrieval_loss
    published = [one for one in told if one.published is not None]
    assert 0 < len(published) < 3
    assert last["foryou_learn_published_total", ""] == len(published)
    assert last["foryou_learn_not_published_total", "nothing was learned yet"] == 1
    assert last["foryou_learn_feed_to_model_seconds", ""] > 0
    assert last["foryou_learn_newest_example_age_seconds", ""] > 0
    assert last["foryou_learn_waiting_examples", ""] == 5
    passed = {reason: last["foryou_learn_passed_over_total", reason] for reason in ("late", "unusable", "refused")}
    assert passed == {"late": 0, "unusable": 1, "refused": 3}
    # The last one came again behind the last look.
    assert last["foryou_learn_passed_over_total", "twice"] == 1


def test_a_port_that_is_in_use_is_refused_with_the_way_out() -> None:
    one, other = LearnWatch(), LearnWatch()
    with (
        answering(0, one.health, one.metrics) as port,
        pytest.raises(OperationsRefused, match=f"Port {port} .* is in use: give --port another"),
        answering(port, other.health, other.metrics),
    ):
        raise AssertionError("both answer on one port")
