"""Served, acted on, joined, learned, announced, taken up: the whole loop of four processes on one broker."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.closed_loop.kafka import KafkaLoop
from infra.world import Crowd, WorldParameters
from models.phoenix import Phoenix
from models.registry import Registry
from schemas.events import FeedRequest
from tests.kafka.cluster import PATIENCE_S, Cluster, wait_until
from tests.kafka.conftest import StartJob, StartJoin
from tests.kafka.jobs import RUN_FLOW

SMALL = WorldParameters(
    people=16, days=1.0, follows_per_person=4.0, sessions_per_person_day=6.0, posts_per_person_day=20.0
)
SOMEBODY = 1001  # the first of them
# Intervals of a few feeds, and models that may be much worse: what is shown here is that they go round.
HASTY = ("interval_examples=8", "examples_a_step=4", "positives_min=1", "publish_margin=10", "learning_rate=0.01")


@pytest.fixture
def learning(cluster: Cluster, checkpoint: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the registry that a process of `learn` publishes into."""
    settings = [part for one in HASTY for part in ("--set", f"trainer.{one}")]
    command = [
        sys.executable, str(RUN_FLOW), "learn", "--kafka", cluster.connection.address,
        "--prefix", cluster.connection.naming.prefix, "--registry", str(tmp_path / "models"),
        "--checkpoint", str(checkpoint), *settings,
    ]  # fmt: skip
    with (tmp_path / "learn.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    yield tmp_path / "models"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0, (tmp_path / "learn.log").read_text(errors="replace")


def test_what_was_served_teaches_the_model_that_serves_next(
    cluster: Cluster, start_job: StartJob, start_join: StartJoin, learning: Path, checkpoint: Path
) -> None:
    job = start_job(
        "--models", str(learning), "--set", "learning.features_enabled=true", "--set", "serving.deadline_ms=0"
    ).ready()
    join = start_join("join", inactivity_s=1, late_s=86_400)
    lived = KafkaLoop(cluster.connection, Crowd(SMALL), PATIENCE_S).run(lambda *_: None)
    first, published = Phoenix.load(checkpoint).version, Registry(learning, keep=20)

    def last_taken_up() -> bool:
        latest, taken = published.latest(), [line for line in job.said().splitlines() if '"model_taken_up"' in line]
        return latest is not None and latest.version != first and any(latest.version in line for line in taken)

    wait_until(lambda: len(cluster.read("training-examples")) >= 16, "nothing is joined")
    wait_until(last_taken_up, "the model published last is not taken up")
    end_ms = lived.feeds[-1].at_ms
    cluster.publish(FeedRequest(end_ms, "after", SOMEBODY))
    assert cluster.feeds(["after"])["after"].feed.model in {one.version for one in published.entries()} - {first}
    assert join.stop()["not_served"] == 0
    job.stop()
    served = [one.model for one in lived.feeds]
    assert served[0] == first
    assert set(served) <= {first, *(one.version for one in published.entries())}
    examples = cluster.read("training-examples")
    assert len({one.about for one in examples}) == len(examples), "each feed once"
    assert cluster.read("dead-letters") == []
