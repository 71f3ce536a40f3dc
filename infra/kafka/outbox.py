"""What goes out: asynchronous sends, each known until the broker has it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka.inbox import Connection, Place
from infra.kafka.settings import open_producer, producer_settings
from infra.operations.logging import get_log

log = get_log("outbox")

# While the queue of librdkafka is full, how long one waits for the broker at a time.
FULL_WAIT_S: Final = 0.05
# How long patient messages gather. A commit waits for them, twice a second.
PATIENT_LINGER_MS: Final = 20


class DeliveryFailed(RuntimeError):
    """A message that the broker did not take in all the time it had: the job must stop, and read its input again."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message; once the broker has it `delivered` is called, and `then` is sent: it can't arrive alone.

    A `patient` one may leave some milliseconds later, together with others. Of an `optional` one nothing depends: no
    commit waits for it, and where the broker or the queue does not take it, it is gone and `lost` counts it.
    """

    place: Place
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    delivered: Callable[[], None] | None = None
    then: "Outgoing | None" = None
    patient: bool = False
    optional: bool = False


class Outbox:
    """Sends messages, and remembers those that the broker has not acknowledged."""

    def __init__(self, connection: Connection) -> None:
        self._naming = connection.naming
        settings = producer_settings(connection.address, connection.settings)
        self._producer: Producer = open_producer(settings, error_cb=_log_error)
        # What nobody waits for gathers, and does not stand before feeds: a client sends a request for each partition
        # and has five on their way, so 3,000 dead letters a second one by one made feeds wait for 100 ms.
        patient = {**settings, "linger.ms": PATIENT_LINGER_MS, **connection.settings}
        self._patient: Producer = open_producer(patient, error_cb=_log_error)
        self._open: set[int] = set()
        self._sent = 0
        self._optional = 0
        self._failed: KafkaError | None = None
        self._abandoned = False
        self.failures = 0
        self.lost = 0
        self.ends: dict[Place, int] = {}  # one past the last acknowledged message of each partition

    def send(self, outgoing: Outgoing) -> None:
        """Send a message."""
        if outgoing.optional:
            self._produce_optional(outgoing)
            return
        self._sent += 1
        self._open.add(self._sent)
        self._produce(outgoing, self._sent)

    def _produce(self, outgoing: Outgoing, number: int) -> None:
        def acknowledged(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed = error
                self.failures += 1
                return
            offset = int(message.offset() or 0)
            self.ends[outgoing.place] = max(self.ends.get(outgoing.place, 0), offset + 1)
            if outgoing.delivered is not None:
                outgoing.delivered()
            if outgoing.then is not None:
                self._produce(outgoing.then, number)
            else:
                self._open.discard(number)

        topic, sent = self._naming.of(outgoing.place[0]), _sent(outgoing, acknowledged)
        producer = self._patient if outgoing.patient else self._producer
        while True:
            try:
                producer.produce(topic, **sent)
                return
            except BufferError:
                producer.poll(FULL_WAIT_S)

    def _produce_optional(self, outgoing: Outgoing) -> None:
        def acknowledged(error: KafkaError | None, _message: Message) -> None:
            self._optional -= 1
            self.lost += error is not None

        try:
            self._patient.produce(self._naming.of(outgoing.place[0]), **_sent(outgoing, acknowledged))
            self._optional += 1
        except (BufferError, KafkaException):
            self.lost += 1

    def poll(self, timeout_s: float = 0) -> None:
        """Take acknowledgements in; raises DeliveryFailed when one says that a message is lost."""
        self.advance(timeout_s)
        if self._failed is not None:
            raise DeliveryFailed(f"Kafka did not take a message: {self._failed.str()}")

    def advance(self, timeout_s: float = 0) -> None:
        """Take acknowledgements in, so that what follows a message leaves; `poll` tells of those that are lost."""
        self._patient.poll(0)
        self._producer.poll(timeout_s)

    def unacknowledged(self) -> frozenset[int]:
        """Return the messages that are on their way, by their numbers; one has the number of what it follows."""
        return frozenset(self._open)

    def wait(self, numbers: frozenset[int]) -> None:
        """Wait, in a thread that does not poll, until these are acknowledged. Raises DeliveryFailed."""
        while not numbers.isdisjoint(self._open.copy()):
            if self._failed is not None:
                raise DeliveryFailed(f"Kafka did not take a message: {self._failed.str()}")
            if self._abandoned:
                raise DeliveryFailed("nobody waits any more for Kafka to take a message")
            time.sleep(0.001)

    def abandon(self) -> None:
        """End every `wait`: nobody polls any more, so that nothing will be acknowledged."""
        self._abandoned = True

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, what acknowledgements send included; return whether it is.

        What is optional is waited for as well, and not asked about.
        """
        end_s = time.monotonic() + timeout_s
        while (self._open or self._optional) and time.monotonic() < end_s:
            self.poll(0.01)
        return not self._open


def _sent(outgoing: Outgoing, acknowledged: Callable[[KafkaError | None, Message], None]) -> dict[str, Any]:
    """Return the arguments of a message for librdkafka."""
    return {
        "partition": outgoing.place[1],
        "key": outgoing.key,
        "value": outgoing.value,
        "headers": list(outgoing.headers),
        "on_delivery": acknowledged,
    }


def _log_error(error: KafkaError) -> None:
    """Say what librdkafka reports; it tries again by itself."""
    log.warning("kafka", reason=error.str(), code=error.name(), fatal=error.fatal())
