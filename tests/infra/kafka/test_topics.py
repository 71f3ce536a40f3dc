"""The table of topics holds in a real cluster, and messages go where other Kafka clients would send them."""

import time
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from infra.kafka import KafkaRefused
from infra.kafka.admin import check_topics, create_topics, list_topics
from infra.kafka.broker import Broker
from infra.kafka.settings import (
    consumer_settings,
    open_admin,
    open_consumer,
    open_producer,
    parse_overrides,
    producer_settings,
)
from infra.kafka.topics import STORE_RETENTION_S, TABLE, TOPIC, Naming, Topic, key_and_partition
from schemas import events
from schemas.json_schemas import types_by_topic
from schemas.message_keys import key_of_id, murmur2, partition_of_id

DOCUMENT = Path(__file__).parents[3] / "docs" / "kafka.md"

# Kafka's own, from UtilsTest.testMurmur2 of Apache Kafka; librdkafka and kafka-python test the same.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", VECTORS, ids=bytes.decode)
def test_keys_are_hashed_as_kafka_hashes_them(key: bytes) -> None:
    assert murmur2(key) == VECTORS[key] % 2**32


def alter(address: str, topic: str, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": address})
    admin.incremental_alter_configs([resource])[resource].result(10)
    # The controller says that it is done before the broker knows.
    wanted = {name.replace("_", "."): value for name, value in settings.items()}
    until = time.monotonic() + 20
    while time.monotonic() < until:
        known = admin.describe_configs([resource])[resource].result(10)
        if all(known[name].value == value for name, value in wanted.items()):
            return
        time.sleep(0.05)
    pytest.fail(f"{topic} never has {wanted}")


def test_topics_are_created_once_and_pass_their_own_check(real_broker: Broker, naming: Naming) -> None:
    address = real_broker.address
    assert check_topics(address, naming) == [
        f"topic {naming.of(topic.name)} is missing: create it with `topics create`." for topic in TABLE
    ]
    made = create_topics(address, naming, partitions=3)
    assert set(made) == {naming.of(topic.name) for topic in TABLE}
    assert create_topics(address, naming, partitions=3) == []
    assert check_topics(address, naming) == []
    states = list_topics(address, naming)
    assert [state.name for state in states] == [topic.name for topic in TABLE]
    assert {(state.partitions, state.replicas, state.messages) for state in states} == {(3, 1, 0)}
    assert states[0].retention_s == TOPIC["posts"].retention_s
    assert [state.name for state in states if state.broker_time] == ["engagements", "served-features"]


def test_messages_are_counted(real_broker: Broker, naming: Naming) -> None:
    address, posts = real_broker.address, naming.of("posts")
    create_topics(address, naming, partitions=2)
    producer = open_producer(producer_settings(address))
    for number in range(5):
        producer.produce(posts, b"{}", partition=number % 2)
    assert producer.flush(20) == 0
    assert {state.name: state.messages for state in list_topics(address, naming) if state.messages} == {"posts": 5}


def test_the_check_names_what_is_wrong(real_broker: Broker, naming: Naming) -> None:
    address = real_broker.address
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(naming.of("graph"), 4)])[naming.of("graph")].result(10)
    create_topics(address, naming, partitions=2)
    alter(address, naming.of("posts"), retention_ms="3600000", retention_bytes="1000")
    alter(address, naming.of("feeds"), max_message_bytes="1000")
    alter(address, naming.of("feed-requests"), retention_ms="-1")
    counts, *rest = check_topics(address, naming)
    assert counts.startswith("topics differ in their number of partitions, so that a viewer's do not meet: ")
    assert f"{naming.of('posts')} 2" in counts
    assert f"{naming.of('graph')} 4" in counts
    assert rest == [
        f"topic {naming.of('posts')} keeps messages 3600 s; {STORE_RETENTION_S} s are needed (retention.ms 172800000).",
        f"topic {naming.of('posts')} drops messages beyond 1000 bytes a partition, however young (retention.bytes): "
        "its retention must go by time alone.",
        f"topic {naming.of('graph')} has cleanup.policy delete; compact is needed.",
        f"topic {naming.of('feeds')} takes messages of 1000 bytes (max.message.bytes); 4194304 are needed.",
    ]


def test_a_longer_store_asks_for_longer_topics(real_broker: Broker, naming: Naming) -> None:
    address, month_s = real_broker.address, 30 * 86_400
    create_topics(address, naming, partitions=1)
    short = [line.split()[1] for line in check_topics(address, naming, store_retention_s=month_s)]
    assert short == [naming.of(name) for name in ("posts", "engagements", "post-counts")]
    longer = Naming(naming.prefix + "-longer")
    create_topics(address, longer, partitions=1, store_retention_s=month_s)
    assert check_topics(address, longer, store_retention_s=month_s) == []


def test_partitions_are_those_a_producer_chooses(real_broker: Broker, naming: Naming) -> None:
    address, topic = real_broker.address, naming.of("served")
    create_topics(address, naming)
    ids: list[int | str] = [0, 7, 2**63 - 1, "did:plc:z72i7hdynmk6r22z27h6tvur", "é", "日本", *range(100, 200)]
    producer = open_producer(producer_settings(address))
    for one in ids:
        producer.produce(topic, b"", key=key_of_id(one))
    assert producer.flush(20) == 0
    consumer = open_consumer(consumer_settings(address))
    consumer.assign([TopicPartition(topic, number, 0) for number in range(16)])
    chosen: dict[bytes, int] = {}
    until = time.monotonic() + 20
    while len(chosen) < len(ids) and time.monotonic() < until:
        chosen |= {message.key(): message.partition() for message in consumer.consume(len(ids), timeout=0.1)}
    consumer.close()
    assert chosen == {key_of_id(one): partition_of_id(one, 16) for one in ids}


def test_a_change_of_the_graph_has_a_key_of_its_own_on_its_viewers_partition() -> None:
    changes = {
        b'[7,"follow",9]': events.Follow(at=1, viewer=7, author=9),
        b'[7,"block",9]': events.Block(at=1, viewer=7, author=9),
        b'[7,"mute","nine"]': events.Mute(at=1, viewer=7, author="nine"),
        b'[7,"subscribe",9]': events.Subscribe(at=1, viewer=7, author=9),
        '[7,"mute_keyword","größe"]'.encode(): events.MuteKeyword(at=1, viewer=7, keyword="größe"),
        b'[7,"profile"]': events.Profile(at=1, viewer=7),
        b'[7,"user_deleted"]': events.UserDeleted(at=1, viewer=7),
    }
    request = events.FeedRequest(at=1, request=1, viewer=7)
    _, viewers = key_and_partition(request)
    assert {key_and_partition(event) for event in changes.values()} == {(key, viewers) for key in changes}
    undone = msgspec.structs.replace(changes[b'[7,"follow",9]'], undo=True)
    assert key_and_partition(undone) == (b'[7,"follow",9]', viewers), "the last word on a follow replaces the first"


def test_other_events_are_keyed_by_viewer_or_author() -> None:
    assert key_and_partition(events.PostCreated(at=1, post=2, author="a")) == (b"a", partition_of_id("a", 16))
    assert key_and_partition(events.PostDeleted(at=1, post=2, author=3)) == (b"3", partition_of_id(3, 16))
    assert key_and_partition(events.PostLabelled(at=1, post=2, author=3, labels=()))[0] == b"3"
    assert key_and_partition(events.AuthorLabelled(at=1, author=3, labels=()))[0] == b"3"
    assert key_and_partition(events.Engagement(at=1, viewer=5, post=2, action="like", author=3))[0] == b"5"
    assert key_and_partition(events.Served(at=1, request=1, viewer=5, posts=()))[0] == b"5"
    assert key_and_partition(events.ModelAnnounced(1, "1f55ff932d4d", "a.phoenix"), 16) == (b"prod", 7)


def test_every_topic_with_messages_is_in_the_table() -> None:
    assert set(types_by_topic()) <= set(TOPIC)


def test_the_document_tells_the_table() -> None:
    told = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert told == [document_row(topic) for topic in TABLE]


def document_row(topic: Topic) -> str:
    kept = "for ever" if topic.retention_s is None else f"{topic.retention_s // 3600} h"
    writer = "the job" if topic.ours else "you"
    return f"| `{topic.name}` | {topic.key} | {topic.policy} | {kept} | {writer} | {topic.carries} |"


def test_a_prefix_sets_a_jobs_topics_apart() -> None:
    naming = Naming("test1")
    assert naming.of("posts") == "test1.posts"
    assert naming.table_name("test1.posts") == "posts"
    for other in ("posts", "test2.posts", "test1.likes"):
        with pytest.raises(KafkaRefused, match=f"{other} is no topic of this job; those are test1.posts, "):
            naming.table_name(other)
    for bad in ("a b", "é", "x" * 240, "."):
        with pytest.raises(KafkaRefused, match="can't start names of topics"):
            Naming(bad)


def test_a_broker_that_is_not_there_is_refused_in_one_sentence() -> None:
    began = time.monotonic()
    with pytest.raises(KafkaRefused, match=r"the Kafka broker at 127\.0\.0\.1:1 does not answer: .* is it running"):
        list_topics("127.0.0.1:1")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("opened", [open_consumer, open_producer, open_admin])
def test_settings_that_kafkas_client_does_not_know_are_refused(opened: object) -> None:
    assert callable(opened)
    with pytest.raises(KafkaRefused, match=r'does not take these settings: .*No such configuration property: "lingr"'):
        opened({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "lingr": "5"})
    with pytest.raises(KafkaRefused, match=r"does not take these settings: .*security\.protocol"):
        opened({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "security.protocol": "none"})


def test_every_setting_can_be_overridden() -> None:
    given = parse_overrides(["linger.ms=5", "sasl.password=a=b", "fetch.wait.max.ms=1", "acks=1"])
    assert given == {"linger.ms": "5", "sasl.password": "a=b", "fetch.wait.max.ms": "1", "acks": "1"}
    assert consumer_settings("h:1", given)["fetch.wait.max.ms"] == "1"
    assert producer_settings("h:1", given)["linger.ms"] == "5"
    for bad in ("linger.ms", "=5", ""):
        with pytest.raises(KafkaRefused, match="give name=value"):
            parse_overrides([bad])


def test_a_lost_offset_is_an_error_and_no_jump(real_broker: Broker, naming: Naming) -> None:
    address, topic = real_broker.address, naming.of("posts")
    create_topics(address, naming, partitions=1)
    consumer: Consumer = open_consumer(consumer_settings(address))
    consumer.assign([TopicPartition(topic, 0, 1_000)])
    until = time.monotonic() + 20
    message = None
    while message is None and time.monotonic() < until:
        message = consumer.poll(0.1)
    consumer.close()
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.name() == "_AUTO_OFFSET_RESET"
