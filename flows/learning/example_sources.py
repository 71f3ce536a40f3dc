"""Where a trainer's examples come from: a folder that was written before, or the topic training-examples as it grows.

A source knows its position after each example that it gave, as plain data; it goes on from there.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Message

from flows.learning.deletions import Deletions
from flows.learning.messages import decode_example, example_of
from flows.training_examples import Example
from flows.training_sources import Told, stored
from infra.kafka import KafkaRefused
from infra.kafka.admin import list_topics
from infra.kafka.inbox import SILENCE_S, Connection, Lane, Place
from infra.operations import get_log
from operators.parameters import DEFAULTS
from schemas.codec import Refused

log = get_log("learn")

TOPIC: Final = "training-examples"
# Messages read ahead so that partitions can be put in order of time, of some 10 kB each.
WAITING_MAX: Final = 4096
AT_ONCE: Final = 256
IDLE_S: Final = 0.05


class ExampleSource(ABC):
    """Examples roughly in order of time.

    `clock_ms` is how far the stream's own time was when the latest example was made, `refused` how many messages held
    none, `deleted` how many examples were of users who were deleted since, and left out.
    """

    name: str
    clock_ms = 0
    refused = 0
    deleted = 0
    # Keys of those users; what was read of them before is not to be learned from again.
    forgotten: Container[int] = frozenset()

    @property
    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Where the source stands after the latest example, with its name."""

    @abstractmethod
    def read(self, position: dict[str, Any] | None) -> Iterator[Example | None]:
        """Yield examples from a position on, from the beginning where it is None; None where there is none for now."""

    def close(self) -> None:
        """Let go of what is held."""
        return


class FolderSource(ExampleSource):
    """A folder of examples, up to its end. What it holds is checked as `train` checks it."""

    def __init__(self, folder: Path, posts_max: int, co_likers: bool, reading: Told) -> None:
        self.name = f"folder {folder.resolve().name}"
        self._open: Callable[[], Iterator[Example]] = lambda: stored(folder, posts_max, co_likers, DEFAULTS, reading)
        self._given = 0

    @property
    def position(self) -> dict[str, Any]:
        """How many examples were given."""
        return {"source": self.name, "examples": self._given}

    def read(self, position: dict[str, Any] | None) -> Iterator[Example | None]:
        """Yield the examples after those of the position. Raises LogRefused and ParameterRefused as reading does."""
        self._given = 0 if position is None else int(position["examples"])
        for example in islice(self._open(), self._given, None):
            self._given += 1
            self.clock_ms = max(self.clock_ms, example.context.at_ms)
            yield example


class TopicSource(ExampleSource):
    """All partitions of training-examples, until nobody asks any more.

    What is there at the start is put in order of time across partitions; what comes later is taken as it comes.
    Examples of viewers who were deleted are left out.
    """

    def __init__(self, connection: Connection, partitions: int) -> None:
        self.name = f"topic {connection.naming.of(TOPIC)}"
        self._connection, self._partitions = connection, partitions
        self._next: dict[int, int] = {}
        self._lane: Lane | None = None
        self._deletions: Deletions | None = None

    @property
    def position(self) -> dict[str, Any]:
        """The next offset of each partition."""
        return {"source": self.name, "offsets": {str(one): offset for one, offset in sorted(self._next.items())}}

    def read(self, position: dict[str, Any] | None) -> Iterator[Example | None]:
        """Yield examples from the next offset of each partition on; messages that hold none are counted and logged.

        Where retention took messages before they were read it goes on with what is left. Raises KafkaRefused.
        """
        offsets = {} if position is None else position["offsets"]
        self._next = {int(one): int(offset) for one, offset in offsets.items()}
        starts = {(TOPIC, one): self._next.get(one, OFFSET_BEGINNING) for one in range(self._partitions)}
        self._lane = lane = Lane(self._connection, starts, lost="earliest", gathers=True)
        queues: dict[Place, deque[tuple[int, Message, Example]]] = {place: deque() for place in starts}
        self.forgotten = self._deletions = deletions = Deletions(self._connection, range(self._partitions))
        behind = self._behind(lane)
        while True:
            self._fill(lane, queues)
            deletions.take()
            if time.monotonic() - lane.heard_at_s > SILENCE_S:
                behind.clear()
            told = False
            while (given := self._earliest(queues, behind)) is not None:
                closed_ms, message, example = given
                self._next[int(message.partition() or 0)] = int(message.offset() or 0) + 1
                self.clock_ms = max(self.clock_ms, closed_ms)
                told = True
                if example.context.key in deletions:
                    self.deleted += 1
                else:
                    yield example
            if not told:
                yield None
                time.sleep(IDLE_S)

    def _behind(self, lane: Lane) -> dict[Place, int]:
        """Return the partitions that hold something to read, and one past their last message."""
        found = {}
        for place in lane.starts:
            low, high = lane.bounds(place)
            if max(low, self._next.get(place[1], low)) < high:
                found[place] = high
        return found

    def _fill(self, lane: Lane, queues: dict[Place, deque[tuple[int, Message, Example]]]) -> None:
        """Read what is here, as long as there is room."""
        while sum(map(len, queues.values())) < WAITING_MAX and (messages := lane.poll(AT_ONCE)):
            for message in messages:
                place = TOPIC, int(message.partition() or 0)
                try:
                    found = decode_example(message.value() or b"")
                except Refused as refused:
                    self.refused += 1
                    if not queues[place]:
                        self._next[place[1]] = int(message.offset() or 0) + 1
                    log.warning("refused", partition=place[1], offset=message.offset(), reason=str(refused))
                    continue
                queues[place].append((found.closed_at, message, example_of(found)))

    def _earliest(
        self, queues: dict[Place, deque[tuple[int, Message, Example]]], behind: dict[Place, int]
    ) -> tuple[int, Message, Example] | None:
        """Return the earliest example that waits; None where a partition that has older ones may not have told yet."""
        for place, end in list(behind.items()):
            if self._next.get(place[1], 0) >= end:
                del behind[place]
        full = sum(map(len, queues.values())) >= WAITING_MAX
        if not full and any(not queues[place] for place in behind):
            return None
        waiting = [place for place, queue in queues.items() if queue]
        if not waiting:
            return None
        first = min(waiting, key=lambda place: (queues[place][0][2].context.at_ms, place))
        return queues[first].popleft()

    def close(self) -> None:
        """Leave the brokers."""
        for one in (self._lane, self._deletions):
            if one is not None:
                one.close()


def partitions_of(connection: Connection, topic: str) -> int:
    """Return how many partitions a topic of the table has. Raises KafkaRefused where it is not there."""
    states = list_topics(connection.address, connection.naming, overrides=connection.settings)
    partitions = next(one.partitions for one in states if one.name == topic)
    if not partitions:
        raise KafkaRefused(f"the topic {topic} is not there: create it with `run_flow.py topics create`.")
    return partitions
