"""The join on Kafka: one example for each served feed, with its labels, whatever comes and whenever it is killed."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import pytest

from flows.example_files import read_examples
from flows.learning.collecting import collect
from flows.learning.examples_flow import JoinJob, Joins
from flows.learning.messages import decode_example, example_of, labelled
from flows.learning.partitions import FORMAT_VERSION
from flows.learning.watching import JoinWatch
from flows.serving.positions import Positions
from infra.kafka import KafkaRefused
from infra.kafka.headers import origin_headers
from infra.kafka.inbox import Place
from infra.kafka.read_back import read_back
from infra.logs.files import LogRefused
from infra.stores import PartitionStore
from operators.keys import keys_of
from schemas.codec import encode
from schemas.events import Engagement, UserDeleted
from schemas.ids import Id, key_of
from schemas.learning import LateEngagement, ServedFeatures
from schemas.message_keys import key_of_id, partition_of_id
from tests.acceptance.playing import HOUR, T0
from tests.flows.learning.served import served
from tests.infra.kafka.test_topics import alter
from tests.kafka.cluster import Cluster, wait_until
from tests.kafka.conftest import StartJoin
from tests.kafka.events import HOUR_MS
from tests.kafka.jobs import sample
from tests.kafka.joins import JoinProcess, expected, made

INACTIVITY_S, LATE_S = 1, 600
VIEWERS: Final[tuple[Id, ...]] = (*range(6), *(f"viewer-{one}" for one in range(6)))
POSTS: Final = range(30)
# In so many turns of the load: one feed, one duplicate of a message, one that is no message of ours.
FEED_IN, TWICE_IN, BAD_IN = 5, 9, 23
TURN_S: Final = 0.02


class FeedLoad:
    """Feeds and engagements of a few viewers until stopped: twice, bad, on nothing served, by clocks an hour off."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster, self._rng = cluster, random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.requests: list[str] = []
        self.bad = 0

    def __enter__(self) -> "FeedLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._cluster.flush()

    def _run(self) -> None:
        rng, turn = self._rng, 0
        while not self._ended.wait(TURN_S):
            turn += 1
            viewer = rng.choice(VIEWERS)
            now_ms = time.time_ns() // 1_000_000
            times = 2 if turn % TWICE_IN == 0 else 1
            if turn % BAD_IN == 0:
                self.bad += 1
                self._cluster.send_raw("served-features", rng.randrange(4), b"k", rng.randbytes(20))
                self._cluster.send_raw("engagements", rng.randrange(4), b"k", rng.randbytes(20))
            elif turn % FEED_IN == 0:
                self.requests.append(f"r{turn}")
                feed = served(self.requests[-1], viewer, tuple(rng.sample(POSTS, 10)), now_ms)
                for _ in range(times):
                    send_features(self._cluster, feed, turn)
            else:
                skewed_ms = now_ms + rng.choice((-HOUR_MS, 0, HOUR_MS))
                action = rng.choice(("favorite", "reply", "dwell_time"))
                for _ in range(times):
                    self._cluster.send(Engagement(skewed_ms, viewer, rng.choice(POSTS), action, dwell_s=1.5))


def send_features(cluster: Cluster, features: msgspec.Struct, offset: int) -> None:
    """Send features as the job does, about the request at an offset."""
    viewer = features.viewer  # type: ignore[attr-defined]
    partition = partition_of_id(viewer, cluster.partitions)
    headers = origin_headers("feed-requests", partition, offset, 0)
    cluster.send_raw("served-features", partition, key_of_id(viewer), encode(features), headers=headers)


def features_on(cluster: Cluster) -> set[str]:
    """Return the requests whose features are on the topic, read or not."""
    starts = {("served-features", one): 0 for one in range(cluster.partitions)}
    values = [message.value() or b"" for _, message in read_back(cluster.connection, starts, {})]
    return {str(msgspec.json.decode(raw, type=ServedFeatures).request) for raw in values if raw.startswith(b'{"kind"')}


def labels(raw: bytes) -> dict[Id, int]:
    message = decode_example(raw)
    return {post: bits for post, bits in zip(message.posts, example_of(message).actions.tolist(), strict=True) if bits}


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.full)])
def test_killed_at_random_moments(cluster: Cluster, start_join: StartJoin, kills: int) -> None:
    rng = random.Random(kills)
    # A broker that has just started is asked for the producer's id before the load begins.
    cluster.publish(Engagement(time.time_ns() // 1_000_000, "nobody", 1, "favorite"))
    join = start_join("state", INACTIVITY_S, LATE_S)
    with FeedLoad(cluster, seed=kills) as load:
        for _ in range(kills):
            join.until_begun()
            time.sleep(rng.uniform(0, 2.0))
            join.kill()
            join.start()
    assert features_on(cluster) == set(load.requests), "the broker has all that it acknowledged"
    examples, late = expected(cluster, INACTIVITY_S, LATE_S)
    assert {str(decode_example(raw).request) for raw in examples.values()} == set(load.requests)
    assert len(examples) == len(load.requests) > 20
    assert sum(len(labels(raw)) for raw in examples.values()) > 20, "there is much to lose"
    wait_until(lambda: len(cluster.read("training-examples")) >= len(examples), "not every feed becomes an example")
    wait_until(lambda: len(cluster.read("late-engagements")) >= len(late), "not all that is late is told of")
    join.stop()

    assert made(cluster, "training-examples") == examples
    assert made(cluster, "late-engagements") == late
    assert {msgspec.json.decode(raw, type=LateEngagement).reason for raw in late.values()} == {"late", "not_served"}
    letters = cluster.read("dead-letters")
    assert len({one.about for one in letters}) == len(letters) == load.bad, "each bad message once, and no engagement"
    assert {one.origin.topic for one in letters} == {"served-features"}

    # From an empty state it finds all that it has sent.
    again = start_join("empty", INACTIVITY_S, LATE_S)
    again.until_begun()
    time.sleep(3)
    told = again.stop()
    assert made(cluster, "training-examples") == examples
    assert told["examples"] > 20, "it has made them again"


def test_instances_share_viewers_and_clocks_an_hour_off_lose_no_label(cluster: Cluster, start_join: StartJoin) -> None:
    joins = [start_join(f"state-{k}", 3, LATE_S, f"{k}/2") for k in range(2)]
    for one in joins:
        one.until_begun()
    now_ms = time.time_ns() // 1_000_000
    viewers = ("ann", "bob", "eve", "joe", 7, 8)
    assert len({partition_of_id(viewer, cluster.partitions) % 2 for viewer in viewers}) == 2
    for number, viewer in enumerate(viewers):
        send_features(cluster, served(f"r-{viewer}", viewer, (1, 2, 3), now_ms), number)
    cluster.flush()
    for viewer in viewers:
        cluster.send(Engagement(now_ms - HOUR_MS, viewer, 1, "favorite"))
        cluster.send(Engagement(now_ms + HOUR_MS, viewer, 2, "reply"))
        cluster.send(Engagement(now_ms, viewer, 4, "reply"))
    cluster.flush()
    wait_until(lambda: len(cluster.read("training-examples")) == len(viewers), "not every feed becomes an example")
    found = cluster.read("training-examples")
    assert {decode_example(one.value).viewer for one in found} == set(viewers)
    for one in found:
        viewer = decode_example(one.value).viewer
        assert (one.key, one.partition) == (key_of_id(viewer), partition_of_id(viewer, cluster.partitions))
        assert one.headers["schema"] == b"training-example/1"
        assert labels(one.value) == {1: 1, 2: 2}
    late = [msgspec.json.decode(one.value, type=LateEngagement) for one in cluster.read("late-engagements")]
    assert {(one.viewer, one.post, one.reason) for one in late} == {(viewer, 4, "not_served") for viewer in viewers}
    for one in joins:
        one.stop()


def test_what_an_operator_sees_of_a_join(cluster: Cluster, start_join: StartJoin) -> None:
    partition = partition_of_id("ann", cluster.partitions)
    now_ms = time.time_ns() // 1_000_000
    for number in (1, 2):
        send_features(cluster, served(f"r{number}", "ann", (number, 10 + number), now_ms), number)
    send_features(cluster, served("r2", "ann", (2, 12), now_ms), 2)  # the same again
    cluster.send_raw("served-features", partition, b"k", b"{}")
    cluster.flush()
    join = start_join("state", 600, LATE_S)
    join.until_begun()

    def metric(name_and_labels: str) -> float:
        return sample(join.ask("/metrics"), name_and_labels)

    wait_until(lambda: metric("foryou_join_open_feeds") == 2, "the feeds are not opened")
    for _ in range(2):
        cluster.send(Engagement(now_ms, "ann", 1, "favorite"))
    cluster.send(Engagement(now_ms, "ann", 12, "reply"))
    cluster.send(Engagement(now_ms, "ann", 99, "reply"))
    cluster.flush()
    labels_of = 'foryou_join_engagements_total{outcome="%s"}'
    wait_until(lambda: metric(labels_of % "label") == 2, "the labels are not counted")
    wait_until(lambda: metric("foryou_join_waiting_messages") == 0, "something waits for ever")
    wait_until(lambda: metric(labels_of % "not_served") == 1, "an engagement is lost")
    assert {one: metric(labels_of % one) for one in ("late", "repeated")} == {"late": 0, "repeated": 1}
    assert metric('foryou_join_features_passed_total{reason="repeated"}') == 1
    reason = "Object missing required field '...'"
    assert metric(f'foryou_join_dead_letters_total{{reason="{reason}",topic="served-features"}}') == 1
    assert metric("foryou_join_examples_total") == 0
    assert metric("foryou_join_oldest_open_seconds") > 0
    assert metric(f'foryou_join_lag_messages{{partition="{partition}",topic="served-features"}}') == 0
    assert metric('foryou_join_ready{condition="state"}') == 1
    assert json.loads(join.ask("/readyz"))["ready"] is True
    assert json.loads(join.ask("/livez"))["lives"] is True
    told_at_end = join.stop()
    assert (told_at_end["labels"], told_at_end["repeated_acts"], told_at_end["not_served"]) == (2, 1, 1)


def test_a_deleted_user_leaves_the_join_and_no_example_is_made_after(
    cluster: Cluster, start_join: StartJoin, tmp_path: Path
) -> None:
    now_ms = time.time_ns() // 1_000_000
    viewers: tuple[Id, ...] = ("ann", "bob")
    join = start_join("state", 3, LATE_S)
    for number, viewer in enumerate(viewers):
        send_features(cluster, served(f"before-{viewer}", viewer, (1, 2), now_ms), number)
    cluster.flush()
    wait_until(lambda: len(cluster.read("training-examples")) == 2, "not every feed becomes an example")
    for number, viewer in enumerate(viewers):
        send_features(cluster, served(f"after-{viewer}", viewer, (3, 4), now_ms), 2 + number)
    cluster.publish(UserDeleted(now_ms, "ann"))
    cluster.publish(*(Engagement(now_ms, viewer, 3, "favorite") for viewer in viewers))
    wait_until(lambda: len(cluster.read("training-examples")) == 3, "the other's feed becomes no example")
    join.kill()
    join.start()  # it learns of the deletion again before it sends anything
    send_features(cluster, served("later", "ann", (5, 6), now_ms), 4)
    cluster.flush()
    join.until_begun()
    empty = start_join("empty", 3, LATE_S)
    empty.until_begun()

    def passed_over(one: JoinProcess) -> float:
        return sample(one.ask("/metrics"), "foryou_join_deleted_total")

    wait_until(lambda: passed_over(join) >= 1, "the later feed is never read")
    wait_until(lambda: passed_over(empty) == 4, "three feeds and an engagement are not passed over")
    wait_until(lambda: sample(empty.ask("/metrics"), "foryou_join_examples_total") == 2, "the other's are not made")
    for one in (join, empty):
        one.stop()
    found = [decode_example(one.value).request for one in cluster.read("training-examples")]
    assert sorted(map(str, found)) == ["after-bob", "before-ann", "before-bob"]
    partition = partition_of_id("ann", cluster.partitions)
    ends: dict[Place, int] = {}
    place = ("training-examples", partition)
    assert list(read_back(cluster.connection, {place: 0}, ends))
    for state in ("state", "empty"):
        store = PartitionStore.open(tmp_path / state / f"examples-{partition:03}", FORMAT_VERSION, read_only=True)
        # What was sent of the deleted user is not waited for: its place is behind.
        assert Positions.decoded(store.meta).outputs["training-examples"] == ends[place]
        assert not any(b"ann" in raw for _, raw in store.items())
        store.close()


def test_examples_of_the_topic_are_a_folder_to_train_on(cluster: Cluster, tmp_path: Path) -> None:
    key, partition = key_of_id("ann"), partition_of_id("ann", cluster.partitions)

    def send(number: int, at_ms: int) -> None:
        example = labelled(served(f"r{number}", "ann", (1, 2, "x"), at_ms), at_ms + 1, [number, 0, 1], [0, 2.5, 0])
        headers = origin_headers("served-features", partition, number, -1)
        cluster.send_raw("training-examples", partition, key, encode(example), headers=headers)

    with pytest.raises(LogRefused, match="holds no examples"):
        collect(cluster.connection, tmp_path / "none")
    for number, at_ms in ((2, T0 + 5), (1, T0 + 2), (3, T0 + HOUR), (2, T0 + 5), (4, T0 + 2 * HOUR), (0, T0 - HOUR)):
        send(number, at_ms)
    cluster.flush()
    manifest = collect(cluster.connection, tmp_path / "examples", T0, T0 + 2 * HOUR)
    assert [(part.examples, part.from_ms, part.to_ms) for part in manifest.parts] == [
        (2, T0 + 2, T0 + 5), (1, T0 + HOUR, T0 + HOUR),
    ]  # fmt: skip
    found = list(read_examples(tmp_path / "examples"))
    assert [one.actions.tolist() for one in found] == [[1, 0, 1], [2, 0, 1], [3, 0, 1]]
    assert found[0].posts.post.tolist() == keys_of([1, 2, "x"]).tolist()
    assert (found[0].context.key, found[0].dwell_s.tolist()) == (key_of("ann"), [0, 2.5, 0])
    cluster.publish(UserDeleted(T0 + 3 * HOUR, "ann"))
    with pytest.raises(LogRefused, match="holds no examples"):
        collect(cluster.connection, tmp_path / "deleted")
    cluster.send_raw("training-examples", 0, b"k", b"{}")
    cluster.flush()
    with pytest.raises(LogRefused, match="offset 0, is no example"):
        collect(cluster.connection, tmp_path / "bad")


def test_a_join_that_cannot_be_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(KafkaRefused, match="--instance 4/5 can't be"):
        JoinJob(Joins(cluster.connection, tmp_path, instance=4, instances=5), JoinWatch())
    topic = cluster.connection.naming.of("engagements")
    alter(cluster.connection.address, topic, message_timestamp_type="CreateTime")

    def refused() -> bool:
        try:
            JoinJob(Joins(cluster.connection, tmp_path / "other"), JoinWatch())
        except KafkaRefused as error:
            return "carries its producers' times" in str(error)
        return False

    wait_until(refused, "producers' times are taken for the broker's")
