"""What comes in: one poll of all topics, requests before bulk, from a few consumers that hold all their partitions.

A consumer for each kind of urgency, not one a partition: with one a partition a poll takes 1 ms for each of them
(measured 2.9 ms with 1 partition, 38 ms with 32; one for all 1.8 ms at any number). Messages of one consumer share a
queue, so what must overtake has a consumer of its own.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.kafka import KafkaRefused
from infra.kafka.admin import bounds
from infra.kafka.settings import ANSWER_TIMEOUT_S, GATHERING, Setting, consumer_settings, open_consumer
from infra.kafka.topics import Naming
from infra.kafka.waiting import WaitingRequests
from infra.operations.logging import get_log
from infra.polls import latest_accepted_ms
from schemas.polls import Headers, RawPoll

log = get_log("inbox")

# A partition of a topic by the table's name.
Place = tuple[str, int]
REQUESTS: Final = "feed-requests"
# What others refer to comes first: posts, then relations, then what is done to posts.
CONTEXT: Final = ("posts", "graph")
ENGAGEMENTS: Final = ("engagements",)
# In the order in which they are loaded, and go into a poll.
LANES: Final = {
    "context": CONTEXT,
    "engagements": (*ENGAGEMENTS, "served", "served-features"),
    "requests": (REQUESTS,),
}
# Topics whose messages are handed out with their headers: they say what a message is about, or goes on with it.
WITH_HEADERS: Final = frozenset({REQUESTS, "served-features"})
# Bulk events of a lane between two looks at the requests: 512 take about 4 ms. While nobody may ask yet, many more.
BULK_PER_POLL: Final = 512
BULK_PER_POLL_LOADING: Final = 4096
# A poll of few posts costs as much as one of a hundred: bulk gathers for so long, unless a request is there to see it.
BULK_GATHERS_S: Final = 0.005
# Where more was asked than one poll takes, bulk is read so seldom.
BULK_WAITS_S: Final = 0.05
# A partition may end in records that no consumer sees (compaction, transactions): silence for so long is its end.
SILENCE_S: Final = 2.0
PARTITIONS_LOOKED_UP_S: Final = 30.0
# What a partition answers whose leader is new, or not yet chosen, and how long to wait before asking again.
_LEADERLESS: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
LEADER_WAIT_S: Final = 0.1
# A consumer that has asked for a commit does not go before the broker's answer: 45 s and more where it is away.
CLOSE_S: Final = 1.0
LostPolicy = Literal["stop", "earliest", "latest"]


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster, the names of the job's topics in it, and settings of librdkafka that go before ours."""

    address: str
    naming: Naming = field(default_factory=Naming)
    settings: Mapping[str, Setting] = field(default_factory=dict)


class Lane:
    """One consumer and the partitions assigned to it; one that `gathers` hears of a message up to 30 ms later."""

    def __init__(
        self, connection: Connection, starts: Mapping[Place, int], lost: LostPolicy, gathers: bool = False
    ) -> None:
        self.starts = dict(starts)
        self._naming, self._lost = connection.naming, lost
        self._names = {connection.naming.of(topic): topic for topic, _ in starts}
        overrides = {**(GATHERING if gathers else {}), **connection.settings}
        settings = consumer_settings(connection.address, overrides)
        self._consumer: Consumer = open_consumer(settings, error_cb=_log_error)
        self._consumer.assign([self._place(place, offset) for place, offset in starts.items()])
        self.heard_at_s = time.monotonic()

    def _place(self, place: Place, offset: int) -> TopicPartition:
        return TopicPartition(self._naming.of(place[0]), place[1], offset)

    def add(self, place: Place) -> None:
        """Read one more partition, from its first message ever: one that retention took counts as lost."""
        self.starts[place] = 0
        self._names[self._naming.of(place[0])] = place[0]
        self._consumer.incremental_assign([self._place(place, 0)])

    def start_at(self, place: Place, offset: int) -> None:
        """Begin a partition elsewhere, before anything was read of it."""
        self.starts[place] = offset
        self._consumer.assign([self._place(one, at) for one, at in self.starts.items()])

    def poll(self, count: int) -> list[Message]:
        """Return at most `count` messages that are here already; never waits."""
        messages = self._consumer.consume(count, 0)
        if messages:
            self.heard_at_s = time.monotonic()
            if any(message.error() for message in messages):
                messages = [message for message in messages if not self._failed(message)]
        return messages

    def table_name(self, full_name: str) -> str:
        """Return the table's name of a topic of this lane."""
        return self._names[full_name]

    def _failed(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._restart(message)
        else:
            log.warning("partition_error", topic=message.topic(), partition=message.partition(), reason=error.str())
        return True

    def _restart(self, message: Message) -> None:
        """Go on after messages that retention took before they were read, if the policy says so."""
        topic, partition = str(message.topic()), int(message.partition() or 0)
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), ANSWER_TIMEOUT_S)
        at = self.starts.get((self._names[topic], partition), message.offset())
        if self._lost == "stop":
            raise KafkaRefused(
                f"{topic}[{partition}] holds offsets {low} to {high}, and the job stands elsewhere (it began at {at}): "
                "what it had to read is gone. Start with --on-lost-offsets earliest to go on with what is left, or "
                "latest to pass over all of it; or restore the state from a copy that is as old as the topic."
            )
        offset = low if self._lost == "earliest" else high
        log.warning("offsets_lost", topic=topic, partition=partition, low=low, high=high, goes_on_at=offset)
        # librdkafka has stopped reading the partition and can't seek in it: it is given up and taken again.
        self._consumer.incremental_unassign([TopicPartition(topic, partition)])
        self._consumer.incremental_assign([TopicPartition(topic, partition, offset)])

    def ends(self) -> dict[Place, int]:
        """Return the end of each partition now: one past its last message. Raises KafkaRefused."""
        return {place: self.bounds(place)[1] for place in self.starts}

    def bounds(self, place: Place) -> tuple[int, int]:
        """Return the first offset of a partition and one past its last; raises KafkaRefused."""
        end_s = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(self._place(place, 0), ANSWER_TIMEOUT_S)
                return low, high
            except KafkaException as error:
                if error.args[0].code() not in _LEADERLESS or time.monotonic() > end_s:
                    raise KafkaRefused(f"{place[0]}[{place[1]}] can't be read: {error.args[0].str()}.") from None
                time.sleep(LEADER_WAIT_S)

    def known_end(self, place: Place) -> int:
        """Return the end of a partition as last heard of, -1 where nothing was; asks nobody."""
        return int(self._consumer.get_watermark_offsets(self._place(place, 0), cached=True)[1])

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has now; 0 where the broker does not say."""
        try:
            found = self._consumer.list_topics(self._naming.of(topic), ANSWER_TIMEOUT_S).topics
        except KafkaException:
            return 0
        return len(found[self._naming.of(topic)].partitions)

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Tell the group, for tools that look at lag; the job itself starts from its stores."""
        mine = [self._place(place, offset) for place, offset in offsets.items() if place in self.starts and offset >= 0]
        if mine:
            self._consumer.commit(offsets=mine, asynchronous=True)

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


class Inbox:
    """All topics as polls, and how far each was handed out.

    It reads the partitions of `starts`, whichever topics they are of. Until every other topic is read to where it ended
    at the start, requests stay where they are. More than `waiting_max` of them at once are too many: the oldest are
    marked to be shed. Polls say whether some have waited without a break for `interval_s`.
    """

    def __init__(
        self,
        connection: Connection,
        starts: Mapping[Place, int],
        waiting_max: int,
        lost: LostPolicy = "stop",
        owns: Callable[[int], bool] = lambda _partition: True,
        interval_s: float = math.inf,
    ) -> None:
        self._lost = lost
        self._owns = owns
        self._waiting = WaitingRequests(waiting_max, interval_s)
        self._published_ms: dict[str, int] = {}
        nobody_asks = all(topic != REQUESTS for topic, _ in starts)
        self._lanes = {
            name: Lane(connection, places, lost, gathers=nobody_asks)
            for name, topics in LANES.items()
            if (places := {place: at for place, at in starts.items() if place[0] in topics})
        }
        named = {(connection.naming.of(place[0]), place[1]): place for place in starts}
        asked = bounds(connection.address, list(named), connection.settings)
        found = {named[one]: both for one, both in asked.items()}
        # Where a partition is new to the job, what retention takes before its first message is read counts as lost.
        self.positions = {place: low if starts[place] < 0 else starts[place] for place, (low, _) in found.items()}
        self._loading = {
            name: {place: found[place][1] for place in lane.starts}
            for name, lane in self._lanes.items()
            if name != "requests"
        }
        self.to_load = sum(self._left(name) for name in self._loading)
        self._looked_up_s = time.monotonic()
        self._bulk_due_s = 0.0

    @property
    def waiting(self) -> int:
        """The requests read and not yet handed out."""
        return len(self._waiting)

    @property
    def loaded(self) -> bool:
        """Whether all that was there at the start has been handed out."""
        return not self._loading

    def left_to_load(self) -> int:
        """Return about how many messages are still to be read before requests are."""
        return sum(self._left(name) for name in self._loading)

    def _left(self, lane: str) -> int:
        return sum(max(0, end - self.positions[place]) for place, end in self._loading[lane].items())

    def poll(self, room: int) -> RawPoll | None:
        """Return what has come, with at most `room` requests at its end and those that are shed; None for nothing."""
        read_at_s = time.perf_counter()
        taken: list[tuple[Lane, list[Message]]] = []
        shed = 0
        if self.loaded:
            more_asked = self._read_requests()
            requests, shed = self._waiting.take(room)
            if time.monotonic() >= self._bulk_due_s or (requests and not more_asked):
                taken += self._read_bulk()
                if more_asked:
                    self._bulk_due_s = time.monotonic() + BULK_WAITS_S
            if requests:
                taken.append((self._lanes["requests"], requests))
            self._look_for_partitions()
        else:
            name = next(iter(self._loading))
            taken.append((self._lanes[name], self._lanes[name].poll(BULK_PER_POLL_LOADING)))
            self._load(name)
        return self._as_poll(taken, shed, read_at_s)

    def _read_requests(self) -> bool:
        """Read what requests there are; return whether there seem to be more."""
        if "requests" not in self._lanes:
            return False
        room = self._waiting.room()
        found = self._lanes["requests"].poll(room) if room > 0 else []
        self._waiting.add(found)
        return len(found) == room

    def _read_bulk(self) -> list[tuple[Lane, list[Message]]]:
        """Read the lanes that are not requests, and again at once where there is more than one poll takes."""
        taken = [(lane, lane.poll(BULK_PER_POLL)) for name, lane in self._lanes.items() if name != "requests"]
        full = any(len(messages) == BULK_PER_POLL for _, messages in taken)
        self._bulk_due_s = time.monotonic() + (0 if full else BULK_GATHERS_S)
        return taken

    def _load(self, name: str) -> None:
        """See whether a lane has been read to where it ended at the start."""
        lane = self._lanes[name]
        if self._left(name) and time.monotonic() - lane.heard_at_s < SILENCE_S:
            return
        if not self._left(name) or self._answers(lane):
            del self._loading[name]
            for other in self._loading:
                self._lanes[other].heard_at_s = time.monotonic()

    def _answers(self, lane: Lane) -> bool:
        """Return whether the broker is there: its silence is no end."""
        try:
            lane.bounds(next(iter(lane.starts)))
        except KafkaRefused:
            lane.heard_at_s = time.monotonic()
            return False
        return True

    def _as_poll(self, taken: Iterable[tuple[Lane, list[Message]]], shed: int, read_at_s: float) -> RawPoll | None:
        messages = [message for _, some in taken for message in some]
        if not messages:
            return None
        topics = [lane.table_name(str(message.topic())) for lane, some in taken for message in some]
        partitions = [int(message.partition() or 0) for message in messages]
        offsets = [int(message.offset() or 0) for message in messages]
        values = [message.value() for message in messages]
        for topic, partition, offset in zip(topics, partitions, offsets, strict=True):
            self.positions[topic, partition] = offset + 1
        published_ms = [max(0, message.timestamp()[1]) for message in messages]
        self._published_ms.update(zip(topics, published_ms, strict=True))
        first = topics.index(REQUESTS) if topics[-1] == REQUESTS else len(messages)
        return RawPoll(
            raw=[value or b"" for value in values],
            topics=topics,
            partitions=partitions,
            offsets=offsets,
            read_at_s=read_at_s,
            at_max=latest_accepted_ms(),
            errors={place: "no value" for place, value in enumerate(values) if not value},
            keys=[message.key() for message in messages],
            published_ms=published_ms,
            headers={place: _headers(messages[place]) for place, topic in enumerate(topics) if topic in WITH_HEADERS},
            shed=frozenset(range(first, first + shed)),
            standing=self._waiting.standing,
        )

    def _look_for_partitions(self) -> None:
        """Take in partitions that were added to a topic; viewers whose partition changes by that start anew there."""
        if time.monotonic() - self._looked_up_s < PARTITIONS_LOOKED_UP_S:
            return
        self._looked_up_s = time.monotonic()
        for lane in self._lanes.values():
            for topic in {topic for topic, _ in lane.starts}:
                known = 1 + max(partition for name, partition in lane.starts if name == topic)
                for partition in range(known, lane.partitions(topic)):
                    if topic in CONTEXT or self._owns(partition):
                        log.warning("partition_added", topic=topic, partition=partition)
                        lane.add((topic, partition))
                        self.positions[topic, partition] = 0

    def at_end(self, place: Place) -> bool:
        """Return whether all of a partition that is known of has been handed out."""
        known = max((lane.known_end(place) for lane in self._lanes.values() if place in lane.starts), default=-1)
        return self.loaded and 0 <= known <= self.positions.get(place, 0)

    def lags(self) -> dict[str, int]:
        """Return for each topic how many messages have come and are not handed out, as last heard of."""
        behind: dict[str, int] = {}
        for (topic, _), left in self.lags_by_partition().items():
            behind[topic] = behind.get(topic, 0) + left
        return behind

    def lags_by_partition(self) -> dict[Place, int]:
        """Return for each partition how many messages have come and are not handed out, as last heard of."""
        behind: dict[Place, int] = {}
        for lane in self._lanes.values():
            for place in lane.starts:
                left = lane.known_end(place) - self.positions.get(place, 0) if lane.known_end(place) >= 0 else 0
                behind[place] = max(0, left)
        return behind

    def lags_s(self) -> dict[str, float]:
        """Return for each topic how old, in seconds, its latest message was that was handed out; 0 without lag."""
        ages_s = {topic: time.time() - at_ms / 1000 for topic, at_ms in self._published_ms.items()}
        return {topic: max(0.0, ages_s.get(topic, 0.0)) if left else 0.0 for topic, left in self.lags().items()}

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Tell the group how far the state is."""
        for lane in self._lanes.values():
            lane.commit(offsets)

    def close(self) -> None:
        """Leave, without waiting for a broker that is away."""
        leaving = [threading.Thread(target=lane.close, daemon=True) for lane in self._lanes.values()]
        for one in leaving:
            one.start()
        end_s = time.monotonic() + CLOSE_S
        for one in leaving:
            one.join(max(0.0, end_s - time.monotonic()))


def _headers(message: Message) -> Headers:
    return cast(Headers, message.headers() or ())


def _log_error(error: KafkaError) -> None:
    """Say what librdkafka reports; it tries again by itself."""
    log.warning("kafka", reason=error.str(), code=error.name(), fatal=error.fatal())
