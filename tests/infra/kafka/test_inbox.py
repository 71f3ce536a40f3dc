"""A partition that is added to a topic is read from its first message ever."""

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from infra.kafka import KafkaRefused
from infra.kafka.admin import create_topics
from infra.kafka.broker import Broker
from infra.kafka.inbox import Connection, Inbox
from infra.kafka.settings import admin_settings, open_admin, open_producer, producer_settings
from infra.kafka.topics import Naming
from tests.kafka.cluster import PATIENCE_S, wait_until


@pytest.fixture
def added(real_broker: Broker, naming: Naming, monkeypatch: pytest.MonkeyPatch) -> tuple[Inbox, AdminClient, str]:
    """Return an inbox that has read all of `posts`, to which a second partition with three messages was added since."""
    monkeypatch.setattr("infra.kafka.inbox.PARTITIONS_LOOKED_UP_S", 0.0)
    address, topic = real_broker.address, naming.of("posts")
    create_topics(address, naming, partitions=1)
    inbox = Inbox(Connection(address, naming), {("posts", 0): 0}, waiting_max=1)
    while not inbox.loaded:
        inbox.poll(0)
    admin = open_admin(admin_settings(address))
    admin.create_partitions([NewPartitions(topic, 2)])[topic].result(PATIENCE_S)
    producer: Producer = open_producer(producer_settings(address))
    wait_until(lambda: len(producer.list_topics(topic, PATIENCE_S).topics[topic].partitions) == 2, "there is one more")
    for number in range(3):
        producer.produce(topic, b"%d" % number, partition=1)
    assert producer.flush(PATIENCE_S) == 0
    return inbox, admin, topic


def test_an_added_partition_is_read_from_the_beginning(added: tuple[Inbox, AdminClient, str]) -> None:
    inbox, _, _ = added
    assert read_until(inbox, 3) == [b"0", b"1", b"2"]
    assert inbox.positions == {("posts", 0): 0, ("posts", 1): 3}
    inbox.close()


def test_what_retention_took_of_it_counts_as_lost(added: tuple[Inbox, AdminClient, str]) -> None:
    inbox, admin, topic = added
    for future in admin.delete_records([TopicPartition(topic, 1, 2)]).values():
        future.result(PATIENCE_S)
    with pytest.raises(KafkaRefused, match="holds offsets 2 to 3"):
        read_until(inbox, 1)
    inbox.close()


def read_until(inbox: Inbox, count: int) -> list[bytes]:
    found: list[bytes] = []

    def enough() -> bool:
        poll = inbox.poll(0)
        found.extend([] if poll is None else poll.raw)
        return len(found) >= count

    wait_until(enough, lambda: f"only {found} came")
    return found
