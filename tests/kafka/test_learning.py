"""A model learns from the examples on Kafka, each once; what it publishes is announced and lies where it is said."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.example_columns import LABELS, OF_GROUP, OF_POST, VIEWER_COLUMN
from flows.learning.announcing import Announcer
from flows.learning.example_sources import TOPIC, TopicSource, partitions_of
from flows.learning.learn import RUN_FILE, Learned, LearnRun, learn
from flows.learning.trainer import ContinuousTrainer, Interval
from flows.training_examples import Example
from infra.kafka import KafkaRefused
from infra.kafka.inbox import Connection
from infra.kafka.read_back import read_back
from infra.kafka.topics import Naming, key_and_partition
from models.checkpoints import CheckpointRefused
from models.phoenix import Phoenix
from models.registry import Registry, file_sha256
from schemas.codec import encode
from schemas.events import ModelAnnounced, UserDeleted
from schemas.learning import TrainingExample
from schemas.message_keys import key_of_id, partition_of_id
from tests.conftest import shaken
from tests.flows.learning.streams import CONFIG, OPTIONS, SECOND_MS, SETTINGS, stream
from tests.kafka.cluster import PATIENCE_S, Cluster, wait_until
from tests.kafka.jobs import RUN_FLOW

EXAMPLES = stream(5 * 64 + 7)


def message_of(example: Example, number: int) -> TrainingExample:
    """Return an example as the join sends it, closed half a minute after it was served."""
    context, posts, rows = example.context, example.posts, len(example.posts)
    columns = {VIEWER_COLUMN: context.counts.astype("<u4").tobytes()}
    for name, (kind, _) in OF_GROUP.items():
        columns[f"history_{name}"] = getattr(context.history, name).astype(kind).tobytes()
    for name, (kind, _) in OF_POST.items():
        columns[f"posts_{name}"] = getattr(posts, name).astype(kind).tobytes()
    for name, (kind, _) in LABELS.items():
        columns[f"label_{name}"] = np.asarray(getattr(example, name)).astype(kind).tobytes()
    at_ms = context.at_ms
    return TrainingExample(
        at_ms, at_ms, at_ms + 30 * SECOND_MS, f"r{number}", context.key, "0" * 12, context.surface,
        tuple(range(1, rows + 1)), columns,
    )  # fmt: skip


def send(cluster: Cluster, start: int, end: int) -> None:
    """Send some of the examples, as the join would."""
    for number in range(start, end):
        message = message_of(EXAMPLES[number], number)
        partition = partition_of_id(message.viewer, cluster.partitions)
        cluster.send_raw(TOPIC, partition, key_of_id(message.viewer), encode(message))
    cluster.flush()


def announced(cluster: Cluster) -> list[ModelAnnounced]:
    """Return what lies on the topic of models, each under its key on its partition, in order."""
    starts = {("models", partition): 0 for partition in range(cluster.partitions)}
    found = []
    for (_, partition), message in read_back(cluster.connection, starts, {}):
        event = msgspec.json.decode(message.value() or b"", type=ModelAnnounced)
        assert (message.key(), partition) == key_and_partition(event, cluster.partitions)
        found.append(event)
    return found


def run(cluster: Cluster, registry: Path, intervals: int, announce: Any = None) -> tuple[Learned, list[Interval]]:
    """Learn from the topic until there were so many intervals."""
    told: list[Interval] = []
    done = learn(
        LearnRun(registry, SETTINGS, registry.parent / "start.phoenix"),
        lambda _config: TopicSource(cluster.connection, partitions_of(cluster.connection, TOPIC)),
        lambda interval, _seconds: told.append(interval),
        announce or Announcer(cluster.connection),
        lambda: len(told) == intervals,
    )
    return done, told


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Return the folder of a registry, and beside it the checkpoint to begin with."""
    shaken(Phoenix.untrained(CONFIG), seed=0).save(tmp_path / "start.phoenix")
    return tmp_path / "models"


@pytest.fixture
def expected(tmp_path: Path, registry: Path) -> list[Interval]:
    """Return the intervals that the examples in order of time give in memory."""
    start = Phoenix.load(registry.parent / "start.phoenix")
    return ContinuousTrainer(Registry(tmp_path / "memory", SETTINGS.keep), CONFIG, SETTINGS, start).take(EXAMPLES)


def told_alike(one: list[Interval], other: list[Interval]) -> bool:
    """Return whether intervals are the same, wherever models were published."""
    versions = [[each.published and each.published.sha256 for each in many] for many in (one, other)]
    plain = [[msgspec.structs.replace(each, published=None) for each in many] for many in (one, other)]
    return versions[0] == versions[1] and plain[0] == plain[1]


def test_what_lies_on_the_topic_is_learned_in_order_of_time_across_restarts_and_announced(
    cluster: Cluster, registry: Path, expected: list[Interval]
) -> None:
    send(cluster, 0, 150)
    cluster.send_raw(TOPIC, 0, None, b'{"kind":"training_example"}')
    cluster.flush()
    _, told = run(cluster, registry, 2)
    send(cluster, 150, len(EXAMPLES))
    done, more = run(cluster, registry, 3)
    assert told_alike(told + more, expected)
    assert done.twice == 0
    published = [one.published for one in told + more if one.published is not None]
    assert len(published) > 2
    said = announced(cluster)
    assert [one.model for one in said] == [one.version for one in published]
    for event, entry in zip(said, published, strict=True):
        assert file_sha256(registry / event.checkpoint) == event.sha256 == entry.sha256
        # The stream's own time: that of the latest example's end so far.
        assert event.at > entry.facts.to_ms


def test_nothing_is_learned_of_users_deleted_before_their_example_is_read(
    cluster: Cluster, registry: Path, tmp_path: Path
) -> None:
    viewer = EXAMPLES[3].context.key
    others = [one for one in EXAMPLES if one.context.key != viewer]
    start = Phoenix.load(registry.parent / "start.phoenix")
    expected = ContinuousTrainer(Registry(tmp_path / "memory", SETTINGS.keep), CONFIG, SETTINGS, start).take(others)
    send(cluster, 0, len(EXAMPLES))
    cluster.publish(UserDeleted(1, viewer))
    done, told = run(cluster, registry, len(expected))
    assert done.deleted == len(EXAMPLES) - len(others) > 0
    assert told_alike(told, expected)


def test_a_message_that_holds_no_example_is_counted_and_passed_over(
    cluster: Cluster, registry: Path, expected: list[Interval]
) -> None:
    for value in (b"", b"{", b'{"kind":"training_example"}'):
        cluster.send_raw(TOPIC, 1, b"k", value)
    send(cluster, 0, 64)
    done, told = run(cluster, registry, 1)
    assert done.refused == 3
    assert told_alike(told, expected[:1])


def test_a_kill_before_the_announcement_announces_after_the_restart(cluster: Cluster, registry: Path) -> None:
    send(cluster, 0, 128)

    def killed(_entry: object, _at_ms: int) -> None:
        raise KeyboardInterrupt  # nothing takes it, as nothing takes a kill

    with pytest.raises(KeyboardInterrupt):
        run(cluster, registry, 2, killed)
    newest = Registry(registry, 9).latest()
    assert newest is not None
    assert announced(cluster) == []
    _, told = run(cluster, registry, 1)
    assert [one.number for one in told] == [2]
    assert [one.model for one in announced(cluster)] == [newest.version]


class Process:
    """`run_flow.py learn` on the cluster's topics."""

    def __init__(self, cluster: Cluster, registry: Path) -> None:
        connection = cluster.connection
        self._process = subprocess.Popen(
            [
                sys.executable, str(RUN_FLOW), "learn", "--kafka", connection.address, "--prefix",
                connection.naming.prefix, "--registry", str(registry), "-c", str(registry.parent / "start.phoenix"),
                "--json", *OPTIONS,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> dict[str, Any]:
        """Send SIGTERM and return what it says."""
        self._process.send_signal(signal.SIGTERM)
        said, errors = self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0, errors
        report: dict[str, Any] = json.loads(said)
        return report


def test_killed_and_stopped_processes_learn_each_example_once(cluster: Cluster, registry: Path) -> None:
    run_file = registry / RUN_FILE
    send(cluster, 0, 100)
    process = Process(cluster, registry)
    wait_until(run_file.exists, "nothing is learned", 4 * PATIENCE_S)
    process.kill()
    send(cluster, 100, len(EXAMPLES))
    process = Process(cluster, registry)

    def learned() -> int:
        position = position_of(run_file)
        return sum(position["offsets"].values())

    wait_until(lambda: learned() == 5 * 64, lambda: f"{learned()} of {5 * 64} are learned", 4 * PATIENCE_S)
    report = process.stop()
    assert [row["interval"] for row in report["intervals"]] == [2, 3, 4, 5]
    assert report["learned"]["twice"] == 0
    # All that is left, or what of it was read when SIGTERM came.
    assert report["learned"]["waiting"] <= 7
    versions = [one.version for one in Registry(registry, 9).entries()]
    assert {one.model for one in announced(cluster)} == set(versions[1:])


def position_of(run_file: Path) -> dict[str, Any]:
    """Return the position that the state of a run holds."""
    raw = run_file.read_bytes()
    size = int.from_bytes(raw[8:16], "little")
    position: dict[str, Any] = json.loads(raw[16 : 16 + size])["facts"]["learning"]["position"]
    return position


def test_topics_that_are_not_there_and_a_registry_in_use_are_refused(cluster: Cluster, registry: Path) -> None:
    nowhere = Connection(cluster.connection.address, Naming("nobody-made-these"))
    with pytest.raises(KafkaRefused, match="the topic training-examples is not there: create it"):
        partitions_of(nowhere, TOPIC)
    with pytest.raises(KafkaRefused, match="the topic models is not there"):
        Announcer(nowhere)
    (registry / "manifest.json").parent.mkdir()
    (registry / "manifest.json").write_text("{")
    with pytest.raises(CheckpointRefused, match="cut off or damaged"):
        run(cluster, registry, 1)
