"""The broker goes away and comes back; retention takes what was not read."""

import time
from typing import get_args

import pytest
from confluent_kafka import TopicPartition

from infra.kafka.broker import Broker
from infra.kafka.inbox import LostPolicy
from infra.kafka.settings import admin_settings, open_admin
from tests.kafka.cluster import PATIENCE_S, Cluster, by_input
from tests.kafka.conftest import StartJob
from tests.kafka.events import ask, like, post
from tests.kafka.jobs import until_taken_in

VIEWERS = [f"viewer-{number}" for number in range(8)]


@pytest.mark.parametrize("away_s", [4.0, pytest.param(30.0, marks=pytest.mark.full)])
def test_the_broker_stops_and_comes_back(
    stoppable_broker: Broker, cluster: Cluster, start_job: StartJob, away_s: float
) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    job = start_job().ready()
    before = [ask(f"before-{number}", VIEWERS[number % 8]) for number in range(200)]
    for number, request in enumerate(before):
        cluster.send(request)
        cluster.send(like(VIEWERS[number % 8], number % 40 + 1))
    cluster.flush()
    # At once: some of these are answered, others are not, and of some nobody knows.
    stoppable_broker.kill()
    time.sleep(away_s)
    assert job.runs
    assert job.ask("/livez")
    stoppable_broker.start()
    after = [ask(f"after-{viewer}", viewer) for viewer in VIEWERS]
    cluster.publish(*after)
    names = [str(one.request) for one in (*before, *after)]
    cluster.feeds(names)
    assert job.stop() < 10
    for topic in ("feeds", "served"):
        messages = by_input(cluster.read(topic))
        assert len(messages) == len(names) or topic == "served"
        assert {len(some) for some in messages.values()} == {1}, f"{topic}: each once"
    job.start()
    job.ready().stop()
    assert len(cluster.read("feeds")) == len(names)


@pytest.mark.parametrize("count", [pytest.param(0, marks=pytest.mark.full), 200], ids=["idle", "at work"])
def test_sigterm_while_the_broker_is_away(
    stoppable_broker: Broker, cluster: Cluster, start_job: StartJob, count: int
) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    job = start_job().ready()
    requests = [ask(f"r{number}", VIEWERS[number % 8]) for number in range(count)]
    cluster.publish(*requests)
    stoppable_broker.kill()
    time.sleep(1.5)  # by then a commit has begun, and waits for answers to be out
    assert job.stop() < 10
    stoppable_broker.start()
    job.start()
    cluster.feeds(str(one.request) for one in requests)
    job.ready().stop()
    for topic in ("feeds", "served"):
        messages = cluster.read(topic)
        assert len(messages) == len(by_input(messages)) == len(requests), f"{topic}: each once"


@pytest.mark.parametrize("read", [0, pytest.param(1, marks=pytest.mark.full)])
def test_retention_takes_what_was_not_read(cluster: Cluster, start_job: StartJob, read: int) -> None:
    """Where it had read some of the partition, and where it had only seen it empty."""
    cluster.publish(*(post(number) for number in range(1, 41)))
    job = start_job().ready()
    cluster.publish(ask("first", "ann"), *(like("ann", number) for number in range(1, 1 + read)))
    cluster.feeds(["first"])
    until_taken_in(cluster, job.state)
    job.stop()
    cluster.publish(*(like("ann", number) for number in range(1 + read, 20)), ask("second", "ann"))
    place = TopicPartition(cluster.connection.naming.of("engagements"), cluster.partition_of(like("ann", 1)), 10)
    admin = open_admin(admin_settings(cluster.connection.address))  # without a name it would be gone before its answer
    for future in admin.delete_records([place]).values():
        future.result(PATIENCE_S)

    job.start()
    assert job.ended() == 2
    assert "holds offsets 10 to 19" in job.said()
    for policy in get_args(LostPolicy)[1:]:
        assert policy in job.said(), "the message names the ways out"
    assert "Traceback" not in job.said()
    assert len(cluster.read("feeds")) == 1

    on = start_job("--on-lost-offsets", "earliest")
    cluster.feeds(["second"])
    assert on.ready().logged("offsets_lost")
    on.stop()
    messages = cluster.read("feeds")
    assert len(messages) == len(by_input(messages)) == 2
