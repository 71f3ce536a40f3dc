"""A job's topics on a broker, as its clients see them: what is published, and what comes back."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from confluent_kafka import Message, Producer

from infra.kafka import KafkaRefused
from infra.kafka.admin import create_topics
from infra.kafka.headers import Origin, parse_origin
from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS, Connection, Lane, Place
from infra.kafka.read_back import read_back
from infra.kafka.settings import open_producer, producer_settings
from infra.kafka.topics import Naming, key_and_partition
from schemas.codec import encode
from schemas.events import TOPIC_OF, Event, Served
from schemas.feeds import DeadLetter, Feed

PARTITIONS: Final = 4
# What a producer waits for when it has more than librdkafka's queue holds.
FULL_WAIT_S: Final = 0.05
# On two busy cores a job that has much to do may take so long to answer; one that is well takes milliseconds.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the job's: where it lies, what it holds and which input it is about."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes | None]
    origin: Origin

    @property
    def about(self) -> tuple[str, int, int]:
        """The topic, partition and offset of the input."""
        return self.origin.topic, self.origin.partition, self.origin.offset

    @property
    def feed(self) -> Feed:
        """The feed it holds."""
        return msgspec.json.decode(self.value, type=Feed)

    @property
    def served(self) -> Served:
        """What it says was served."""
        return msgspec.json.decode(self.value, type=Served)

    @property
    def letter(self) -> DeadLetter:
        """The dead letter it holds."""
        return msgspec.json.decode(self.value, type=DeadLetter)


class Cluster:
    """The topics of one prefix, made anew."""

    def __init__(self, address: str, naming: Naming, partitions: int = PARTITIONS) -> None:
        self.connection = Connection(address, naming)
        self.partitions = partitions
        create_topics(address, naming, partitions=partitions)
        self._producer: Producer = open_producer(producer_settings(address, {"linger.ms": 5}))
        self._read: dict[str, list[Received]] = {}
        self._ends: dict[Place, int] = {}
        self._feeds: dict[str, Received] = {}

    # -- in

    def send(self, event: Event, at_ms: int = 0) -> None:
        """Send an event with its key to its partition, published at a time in milliseconds, or now."""
        key, partition = key_and_partition(event, self.partitions)
        self.send_raw(TOPIC_OF[type(event)], partition, key, encode(event), at_ms)

    def send_raw(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        at_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send any bytes anywhere."""
        name = self.connection.naming.of(topic)
        while True:
            try:
                about = {"on_delivery": _taken, "timestamp": at_ms, "headers": list(headers)}
                self._producer.produce(name, value, key, partition, **about)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(FULL_WAIT_S)

    def partition_of(self, event: Event) -> int:
        """Return the partition that an event belongs on."""
        return key_and_partition(event, self.partitions)[1]

    def flush(self) -> None:
        """Wait until the broker has all that was sent."""
        assert self._producer.flush(PATIENCE_S) == 0, "the broker has not taken all messages"

    def publish(self, *events: Event, at_ms: int = 0) -> None:
        """Send events and wait until the broker has them."""
        for event in events:
            self.send(event, at_ms)
        self.flush()

    # -- out

    def read(self, topic: str) -> list[Received]:
        """Return all that a topic of the job's holds, partition by partition."""
        places = [(topic, partition) for partition in range(self.partitions)]
        ends: dict[Place, int] = {}
        starts = {place: self._ends.get(place, 0) for place in places}
        try:
            new = [_received(place[1], message) for place, message in read_back(self.connection, starts, ends)]
        except KafkaRefused:
            new = []  # a broker that is busy coming back: what is there is read the next time
        else:
            self._ends |= ends
        if topic == "feeds":
            for one in new:
                self._feeds.setdefault(str(one.feed.request), one)
        everything = self._read.setdefault(topic, [])
        everything += new
        return sorted(everything, key=lambda one: (one.partition, one.offset))

    def ends(self) -> dict[Place, int]:
        """Return one past the last offset of each input partition."""
        inputs = (*CONTEXT, *ENGAGEMENTS, REQUESTS)
        places = {(topic, partition): 0 for topic in inputs for partition in range(self.partitions)}
        lane = Lane(self.connection, places, lost="earliest")
        try:
            return lane.ends()
        finally:
            lane.close()

    def feeds(self, requests: Iterable[str]) -> dict[str, Received]:
        """Wait until each of these requests has a feed; return the feeds, of each request the first."""
        wanted = set(requests)

        def all_there() -> bool:
            self.read("feeds")
            return wanted <= self._feeds.keys()

        wait_until(all_there, lambda: f"no feeds of {sorted(wanted - self._feeds.keys())[:5]} and maybe more")
        return {request: self._feeds[request] for request in wanted}


def wait_until(holds: Callable[[], bool], what: Callable[[], str] | str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for something; fails with `what` is not there after so many seconds."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, what if isinstance(what, str) else what()
        time.sleep(0.05)


def by_input(messages: Sequence[Received]) -> dict[tuple[str, int, int], list[Received]]:
    """Return messages by the input they are about."""
    found: dict[tuple[str, int, int], list[Received]] = {}
    for one in messages:
        found.setdefault(one.about, []).append(one)
    return found


def _received(partition: int, message: Message) -> Received:
    headers = list(message.headers() or [])
    origin = parse_origin(headers)  # type: ignore[arg-type]
    assert origin is not None, f"no origin in the headers {headers}"
    plain = {str(name): value.encode() if isinstance(value, str) else value for name, value in headers}
    return Received(partition, int(message.offset() or 0), message.key(), message.value() or b"", plain, origin)


def _taken(error: object, _message: object) -> None:
    assert error is None, f"the broker refused a message: {error}"
