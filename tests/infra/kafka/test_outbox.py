"""What nothing depends on may be lost: no commit waits for it, and its loss is counted."""

from infra.kafka.admin import create_topics
from infra.kafka.broker import Broker
from infra.kafka.inbox import Connection
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import OUTPUT_BYTES_MAX, Naming


def test_optional_messages_are_sent_and_their_loss_is_counted(real_broker: Broker, naming: Naming) -> None:
    create_topics(real_broker.address, naming, partitions=2)
    outbox = Outbox(Connection(real_broker.address, naming))

    def send(partition: int, size: int = 10) -> None:
        outbox.send(Outgoing(("shadow-scores", partition), b"ann", b"x" * size, [], patient=True, optional=True))

    send(0)
    assert outbox.unacknowledged() == frozenset(), "a commit would wait for it"
    assert outbox.drain(20)
    assert outbox.lost == 0

    send(0, OUTPUT_BYTES_MAX + 1)
    assert outbox.lost == 1, "too long for librdkafka already"
    send(7)  # there is no such partition
    assert outbox.drain(20)
    outbox.poll()  # raises for a message that something depends on
    assert outbox.lost == 2
