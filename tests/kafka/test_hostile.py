"""Messages that mean harm: none ends the job, each refused one has one dead letter, and the good are unharmed."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from infra.kafka.settings import open_producer, producer_settings
from infra.kafka.topics import OUTPUT_BYTES_MAX
from schemas.ids import key_of
from tests.kafka.cluster import Cluster, by_input, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import MINUTE_MS, NOW_MS, ask, follow, like, post
from tests.kafka.hostile import Hostile, Message, Verdict, verdict_on
from tests.kafka.jobs import Job, until_taken_in, viewers_in

POSTS = range(1, 41)
GOOD_IN = 10
REQUESTS = 50
# At full speed the sender alone would take a core of two: latencies would tell of that.
HOSTILE_HZ = 3_000
MIB = 1 << 20


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_hostile_messages(cluster: Cluster, start_job: StartJob, tmp_path: Path, count: int) -> None:
    cluster.publish(*(post(number) for number in POSTS))
    job = start_job().ready()
    usual_s = _usual_s(cluster, job)
    before = _latencies(job)
    sent: dict[tuple[str, int, int], tuple[Message, Verdict]] = {}
    begins = Counter({place: end for place, end in cluster.ends().items() if end})
    hostile = Hostile(cluster, seed=count)
    good = [(f"good-{viewer}", number) for viewer in range(count // GOOD_IN // len(POSTS)) for number in POSTS]
    begun_s = time.monotonic()
    for number in range(count):
        if number % 100 == 0:
            time.sleep(max(0.0, begun_s + number / HOSTILE_HZ - time.monotonic()))
        if number % GOOD_IN == 0:
            viewer, about = good[number // GOOD_IN]
            event = like(viewer, about, NOW_MS - (60 - about) * MINUTE_MS)
            cluster.send(event)
            begins["engagements", cluster.partition_of(event)] += 1
            if about == 1:
                cluster.send(follow(viewer, "author-0"))
                begins["graph", cluster.partition_of(event)] += 1
        if number % (count // REQUESTS) == 0:
            request = ask(f"good-{number * REQUESTS // count}", good[number // GOOD_IN][0])
            cluster.send(request)
            begins["feed-requests", cluster.partition_of(request)] += 1
        message = hostile.huge() if number % (count // 4) == 7 else hostile.next()
        cluster.send_raw(*message)
        place = message.topic, message.partition
        sent[*place, begins[place]] = message, verdict_on(message)
        begins[place] += 1
    cluster.flush()
    feeds = cluster.feeds(f"good-{number}" for number in range(REQUESTS))
    assert {one.feed.error for one in feeds.values()} == {None}
    until_taken_in(cluster, tmp_path / "state")
    among_s = _mean_s(job, before)
    sys.stdout.write(
        f"\ngood requests among the hostile: mean {among_s * 1e3:.1f} ms, usually {usual_s * 1e3:.1f} ms\n"
    )
    job.stop()
    _letters_once(cluster, sent)

    viewers = viewers_in(tmp_path / "state")
    for name in {viewer for viewer, _ in good}:
        assert (viewers[key_of(name)]["count"], viewers[key_of(name)]["followed"]) == (40, {key_of("author-0")}), name


def _letters_once(cluster: Cluster, sent: dict[tuple[str, int, int], tuple[Message, Verdict]]) -> None:
    letters = by_input(cluster.read("dead-letters"))
    assert {len(some) for some in letters.values()} == {1}, "each refused one once"
    assert letters.keys() <= sent.keys(), "nothing good is refused"
    refused = {place for place, (_, verdict) in sent.items() if verdict == "refused"}
    taken = {place for place, (_, verdict) in sent.items() if verdict == "taken"}
    assert len(refused) > len(sent) / 2
    assert len(taken) > len(sent) / 100, "some do no harm"
    for place in refused ^ (letters.keys() - {one for one, (_, verdict) in sent.items() if verdict == "unsure"}):
        pytest.fail(f"{place} is to be {sent[place][1]}, and is not: {sent[place][0]!r:.500}")
    for place, (one,) in letters.items():
        message = sent[place][0]
        assert (one.letter.raw, one.letter.key, one.key) == (message.value or b"", message.key, message.key)
        assert one.letter.reason
        assert one.headers["reason"]


def _usual_s(cluster: Cluster, job: Job) -> float:
    """Return the mean latency of 30 requests, one after the other."""
    before = _latencies(job)
    for number in range(30):
        cluster.publish(ask(f"usual-{number}", f"usual-{number}"))
        time.sleep(0.01)
    cluster.feeds(f"usual-{number}" for number in range(30))
    return _mean_s(job, before)


def _latencies(job: Job) -> tuple[float, float]:
    """Return the sum of all latencies from published to delivered, in seconds, and their number."""
    total_s, count = (job.metric(f'foryou_stage_seconds_{part}{{stage="end_to_end"}}') for part in ("sum", "count"))
    return total_s, count


def _mean_s(job: Job, before: tuple[float, float]) -> float:
    now = _latencies(job)
    return (now[0] - before[0]) / (now[1] - before[1])


def test_a_message_larger_than_all_that_is_allowed(cluster: Cluster, start_job: StartJob) -> None:
    """The broker counts compressed bytes: ten megabytes of one letter pass it, and must not end the job."""
    with pytest.raises(KafkaException, match="too large"):
        cluster.send_raw("posts", 0, b"mallory", b"x" * (10 * MIB))
    settings = {**producer_settings(cluster.connection.address), "message.max.bytes": 20 * MIB}
    name = cluster.connection.naming.of("engagements")
    plain = open_producer({**settings, "compression.type": "none"})
    assert _sent(plain, name, b"mallory", b"x" * (10 * MIB)) == KafkaError.MSG_SIZE_TOO_LARGE
    bombs = open_producer(settings)
    assert _sent(bombs, name, b"mallory", b"x" * (10 * MIB)) is None
    assert _sent(bombs, name, b"k" * (5 * MIB), b"x") is None

    job = start_job().ready()
    cluster.publish(post(1), ask("r", "ann"))
    cluster.feeds(["r"])
    wait_until(lambda: len(cluster.read("dead-letters")) == 2, "not both have a dead letter")
    job.stop()
    for one in cluster.read("dead-letters"):
        assert len(one.value) < OUTPUT_BYTES_MAX
        assert "only" in one.letter.reason, "it says what was cut"


def _sent(producer: Producer, topic: str, key: bytes, value: bytes) -> int | None:
    """Send a message to partition 0; return the code of the broker's error, None where there is none."""
    errors: list[KafkaError | None] = []
    producer.produce(topic, value, key, 0, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    return errors[0].code() if errors[0] is not None else None
