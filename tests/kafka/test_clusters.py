"""Several models in a job on Kafka: routed by request, and what shadow models say comes on a topic of its own."""

from pathlib import Path

import msgspec
import pytest

from infra.kafka.topics import key_and_partition
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from schemas.events import FeedRequest
from schemas.feeds import ShadowScores
from tests.conftest import shaken
from tests.kafka.cluster import Cluster, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import NOW_MS, ask, post


@pytest.fixture
def other(tiny: PhoenixConfig, tmp_path: Path) -> Path:
    path = tmp_path / "other.phoenix"
    shaken(Phoenix.untrained(tiny, seed=5), seed=5).save(path)
    return path


def test_routed_requests_and_shadow_scores(
    cluster: Cluster, start_job: StartJob, checkpoint: Path, other: Path
) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    shadow = ("--set", 'models.shadow=["prod", "experiment1"]', "--set", "models.shadow_rate=1.0")
    job = start_job("--cluster", f"experiment1={other}", *shadow).ready()
    routed = FeedRequest(NOW_MS, "r2", "ann", parameters={"models.cluster": "experiment1"})
    wrong = FeedRequest(NOW_MS, "r3", "ann", parameters={"models.cluster": "experiment2"})
    cluster.publish(ask("r1", "ann", explain=True), wrong, routed)
    feeds = cluster.feeds(["r1", "r2"])
    versions = {"prod": Phoenix.load(checkpoint).version, "experiment1": Phoenix.load(other).version}
    assert [feeds[request].feed.model for request in ("r1", "r2")] == list(versions.values())

    wait_until(lambda: len(cluster.read("dead-letters")) == 1, "an unknown model is no dead letter")
    assert "no cluster is called experiment2" in cluster.read("dead-letters")[0].letter.reason

    wait_until(lambda: len(cluster.read("shadow-scores")) == 2, "shadow scores do not come")
    key, partition = key_and_partition(routed, cluster.partitions)
    for message, request in zip(cluster.read("shadow-scores"), ("r1", "r2"), strict=True):
        told = msgspec.json.decode(message.value, type=ShadowScores)
        assert (message.key, message.partition, message.about) == (key, partition, feeds[request].about)
        assert message.headers["schema"] == b"shadow-scores/1"
        assert (told.request, told.models, told.failed) == (request, versions, ())
    first = msgspec.json.decode(cluster.read("shadow-scores")[0].value, type=ShadowScores)
    for item in feeds["r1"].feed.items:
        assert item.explanation is not None
        logged = first.scores["phoenix.prod.favorite"][first.posts.index(item.post)]
        assert logged == pytest.approx(item.explanation.probabilities["favorite"], rel=1e-5)
    assert job.metric('foryou_stage_seconds_count{stage="shadow"}') == 2
    assert job.metric("foryou_shadow_lost_total") == 0
    job.stop()
