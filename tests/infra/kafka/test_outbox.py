"""What nothing depends on may be lost: no commit waits for it, and its loss is counted."""

from infra.kafka.inbox import Connection
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import OUTPUT_BYTES_MAX, Naming

NOWHERE = Connection("127.0.0.1:1", Naming("test"))


def message(size: int) -> Outgoing:
    return Outgoing(("shadow-scores", 0), b"ann", b"x" * size, [], patient=True, optional=True)


def test_an_optional_message_that_is_too_long_is_counted() -> None:
    outbox = Outbox(NOWHERE)
    outbox.send(message(OUTPUT_BYTES_MAX + 1))
    assert (outbox.lost, outbox.unacknowledged()) == (1, frozenset())
    outbox.poll()
    assert outbox.drain(0.1)


def test_nobody_waits_for_an_optional_message() -> None:
    outbox = Outbox(NOWHERE)
    outbox.send(message(10))
    assert (outbox.lost, outbox.unacknowledged()) == (0, frozenset())
    outbox.wait(outbox.unacknowledged())
    assert outbox.drain(0.1), "what is optional is not asked about"
