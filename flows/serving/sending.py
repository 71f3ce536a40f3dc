"""A few messages sent by hand, each waited for."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaException

from flows.terminal import Refusal
from infra.kafka import KafkaRefused
from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection
from infra.kafka.outbox import DeliveryFailed, Outbox, Outgoing
from infra.kafka.settings import ANSWER_TIMEOUT_S, admin_settings, open_admin
from infra.kafka.topics import TOPIC, key_and_partition
from schemas.codec import Refused, decode, encode
from schemas.events import TOPIC_OF, Event

SENT_WITHIN_S: Final = 30.0


def partitions_of(connection: Connection, topic: str) -> int:
    """Return how many partitions a topic has. Raises KafkaRefused, and Refusal where there is no such topic."""
    name = connection.naming.of(topic)
    admin = open_admin({**admin_settings(connection.address, connection.settings), "log_level": 0})
    try:
        topics = admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
    except KafkaException as error:
        raise KafkaRefused(
            f"the Kafka broker at {connection.address} does not answer: {error.args[0].str()}; is it running?"
        ) from None
    found = len(topics[name].partitions) if name in topics else 0
    if not found:
        raise Refusal(f"{name} is not there: create the topics with `run_flow.py topics create`")
    return found


def send(connection: Connection, messages: Sequence[Outgoing]) -> None:
    """Send messages and wait until the broker has them. Raises Refusal where it does not take them all."""
    outbox = Outbox(connection)
    try:
        for message in messages:
            outbox.send(message)
            outbox.poll()
        outbox.drain(SENT_WITHIN_S)
    except DeliveryFailed as error:
        raise Refusal(str(error)) from None
    if left := len(outbox.unacknowledged()):
        raise Refusal(f"the broker took {len(messages) - left} of {len(messages)} messages in {SENT_WITHIN_S:g} s")


def send_event(connection: Connection, event: Event) -> tuple[str, int]:
    """Send an event with its key to its topic and partition; return these two.

    Raises Refusal for one that the job would refuse, KafkaRefused where the broker does not answer.
    """
    raw = encode(event)
    try:
        decode(raw)
    except Refused as refused:
        raise Refusal(str(refused)) from None
    topic = TOPIC_OF[type(event)]
    key, partition = key_and_partition(event, partitions_of(connection, topic))
    send(connection, [Outgoing((topic, partition), key, raw, [schema_header(TOPIC[topic].schema)])])
    return topic, partition
