"""The flow of examples on Kafka: what was served, joined with what came of it, for the models to learn from.

    served-features ─┐                    ┌─▶ training-examples
                     ├─▶ decode ─▶ join ──┼─▶ late-engagements
    engagements ─────┘                    └─▶ dead-letters, of features that can't be read

Users who were deleted (`graph`) are forgotten at once: no example is made of their feeds.
Instances share the viewer partitions as those of `serve` do. Each partition has a store: feeds that take labels, and
how far it is. A commit waits until the broker has every output; after a kill, what was sent since the last commit is
read back and not sent again. So there is one example for each served feed, whenever the process dies.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.learning.deletions import GRAPH, Deletions
from flows.learning.messages import decode_features
from flows.learning.partitions import EXAMPLES, INPUTS, LATE, OUTPUTS, JoinPartition
from flows.learning.watching import JoinWatch, answering, total_of
from flows.serving.positions import DEAD_LETTERS, SERVED_FEATURES
from flows.serving.signals import stopped_by_signals
from infra.kafka import KafkaRefused
from infra.kafka.admin import list_topics
from infra.kafka.headers import origin_headers, parse_origin, schema_header
from infra.kafka.inbox import BULK_PER_POLL, ENGAGEMENTS, Connection, Inbox, LostPolicy, Place
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.read_back import read_back
from infra.kafka.source import KafkaSource, Turns
from infra.kafka.topics import MESSAGE_BYTES_MAX, TOPIC
from infra.operations import get_log
from infra.polls import EachSink, run
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.parameters.learning import Learning
from schemas.codec import Refused, decode_batch, encode
from schemas.events import Engagement
from schemas.feeds import DeadLetter
from schemas.ids import Id
from schemas.learning import LateEngagement, ServedFeatures, TrainingExample
from schemas.message_keys import key_of_id
from schemas.polls import RawPoll

log = get_log("join_examples")

DRAIN_S: Final = 30.0
# How often the flow looks at the time where nothing comes.
TICK_S: Final = 0.2
# Nobody waits for an example, and a poll of few messages costs as much as one of hundreds: each partition takes a step.
GATHERS_S: Final = 0.05
# What the broker took so long ago has been read where a partition is read to its end: consumers ask all the time.
SETTLED_S: Final = 5.0
_ANY_TIME: Final = 2**53
_NOTHING: Final = RawPoll((), (), (), (), 0.0, _ANY_TIME)


@dataclass(frozen=True, slots=True)
class Joins:
    """What to join, where the state lies, how often it is written (seconds), and which instance of how many this is.

    Metrics and probes are on `port`, 0 for any free one, if there is one.
    """

    connection: Connection
    state: Path
    learning: Learning = DEFAULTS.learning
    instance: int = 0
    instances: int = 1
    every_s: float = 1.0
    lost: LostPolicy = "stop"
    port: int | None = None


@dataclass(slots=True)
class Taken:
    """A poll decoded, both kinds in their order: places, offsets, times, and what is there.

    Among the features are letters about those that can't be read. Engagements that can't be are left to `serve`, which
    has letters about them.
    """

    features: list[tuple[Place, int, int, Id, ServedFeatures | DeadLetter]] = field(default_factory=list)
    engagements: list[tuple[Place, int, int, Engagement]] = field(default_factory=list)


def training_examples(source: Source[RawPoll], job: "JoinJob", sink: Sink[Outgoing]) -> Dataflow:
    """Return the dataflow."""
    flow = Dataflow("training_examples")
    polls = op.input("source", flow, source)
    op.output("out", op.flat_map("join", op.map("decode", polls, decode), job.join), sink)
    return flow


def decode(poll: RawPoll) -> Taken:
    """Return a poll's features and engagements. Times ahead of the clock are no fault: only the broker's matter."""
    taken = Taken()
    of_engagements = [raw for raw, topic in zip(poll.raw, poll.topics, strict=True) if topic in ENGAGEMENTS]
    engagements = iter(decode_batch(of_engagements, _ANY_TIME))
    for index, topic in enumerate(poll.topics):
        place, offset = (topic, poll.partitions[index]), poll.offsets[index]
        key = None if poll.keys is None else poll.keys[index]
        if topic in ENGAGEMENTS:
            event = next(engagements)
            if isinstance(event, Engagement) and key == key_of_id(event.viewer):
                taken.engagements.append((place, offset, poll.published_ms[index], event))
            continue
        try:
            features = decode_features(poll.raw[index])
            if key != key_of_id(features.viewer):
                raise Refused(f"the message's key must be {key_of_id(features.viewer).decode()}", "$.viewer")
        except Refused as refused:
            letter = _letter(poll, index, refused)
            taken.features.append((place, offset, poll.published_ms[index], 0, letter))
            continue
        origin = parse_origin(poll.headers.get(index))
        # Clients may give two requests the same id; the place of a request is its own.
        asked = features.request if origin is None else f"{origin.topic}/{origin.partition}/{origin.offset}"
        taken.features.append((place, offset, poll.published_ms[index], asked, features))
    return taken


def _letter(poll: RawPoll, index: int, refused: Refused) -> DeadLetter:
    return DeadLetter(
        poll.topics[index],
        poll.partitions[index],
        poll.offsets[index],
        refused.reason,
        refused.path,
        poll.raw[index][:MESSAGE_BYTES_MAX],
        None if poll.keys is None else poll.keys[index],
        poll.published_ms[index],
    )


class JoinJob:
    """The flow at work on Kafka. Raises KafkaRefused and StoreRefused where it can't begin."""

    def __init__(self, what: Joins, watch: JoinWatch) -> None:
        self._what, self._watch = what, watch
        partitions = _checked(what.connection)
        try:
            owned = Ownership(what.instance, what.instances, partitions).owned
        except ValueError as error:
            raise KafkaRefused(f"--instance {what.instance}/{what.instances} can't be: {error}.") from None
        learning = what.learning
        self._parts = {one: JoinPartition(what.state, one, learning.inactivity_s, learning.late_s) for one in owned}
        self._deletions = Deletions(what.connection, owned)
        self._forget()
        self._ends: dict[Place, int] = {}
        self._read_sent()
        starts = {(topic, one): part.positions.of(topic, one) for topic in INPUTS for one, part in self._parts.items()}
        self._inbox = Inbox(what.connection, starts, waiting_max=1, lost=what.lost, owns=self._parts.__contains__)
        self._outbox = Outbox(what.connection)
        self._schemas = {topic: schema_header(TOPIC[topic].schema) for topic in OUTPUTS}
        # The broker's time at the start of our clock: the latest that its messages prove, never ahead of it.
        clock_ms = max((part.until_ms for part in self._parts.values()), default=0)
        self._broker_ms = clock_ms - time.monotonic() * 1000
        self._turned_at_s = self._committed_at_s = self._reads_at_s = time.monotonic()
        self._stopping = False
        watch.health.set("kafka", True)
        log.info("beginning", owned=list(self._parts), to_load=self._inbox.to_load, open=self._open())

    def _read_sent(self) -> None:
        """Find what was sent since the last commit, and is to be made again: that is not sent again."""
        places = [(topic, one) for one in self._parts for topic in OUTPUTS]
        since = {place: self._parts[place[1]].positions.outputs.get(place[0], 0) for place in places}
        for (topic, partition), message in read_back(self._what.connection, since, self._ends):
            origin = parse_origin(message.headers())  # type: ignore[arg-type]
            if origin is not None and origin.topic in INPUTS:
                self._parts[partition].note_sent((topic, origin.topic, origin.offset))

    def run(self) -> None:
        """Join until told to stop, then send and store what is left; raises what ended it otherwise."""
        turns = Turns(self._poll, self._before, lambda: None, lambda: self._stopping, self._rests_s)
        source = KafkaSource(turns)
        run(training_examples(source, self, EachSink(self._send)), timedelta(seconds=self._what.every_s))
        try:
            if source.failure is not None:
                raise source.failure
            self._commit()
            log.info("stopped", open=self._open(), **asdict(total_of(self._parts)))
        finally:
            self._inbox.close()
            self._deletions.close()
            for part in self._parts.values():
                part.close()

    def stop(self) -> None:
        """Take no more polls."""
        self._stopping = True

    def join(self, taken: Taken) -> list[Outgoing]:
        """Take what has come, and return what is known by now."""
        outgoing: list[Outgoing] = []
        for (topic, partition), offset, published_ms, asked, what in taken.features:
            part = self._parts[partition]
            at_ms = part.timed(topic, offset, published_ms)
            if isinstance(what, DeadLetter):
                part.bury(what, at_ms)
            else:
                part.joining.put_features(what, at_ms, offset, asked)
        for (topic, partition), offset, published_ms, engagement in taken.engagements:
            part = self._parts[partition]
            part.joining.put_engagement(engagement, part.timed(topic, offset, published_ms), offset)
        settled_ms = int(self._broker_ms + (time.monotonic() - SETTLED_S) * 1000)
        for partition, part in self._parts.items():
            ended = {topic: settled_ms for topic in INPUTS if self._inbox.at_end((topic, partition))}
            joined = part.advance(ended)
            for letter in part.take_letters():
                self._watch.metrics.count_dead_letter(letter.topic, letter.reason)
                outgoing += self._outgoing_letter(letter)
            for offset, example in joined.examples:
                outgoing += self._outgoing(part, EXAMPLES, example, SERVED_FEATURES, offset)
            for offset, late in joined.late:
                outgoing += self._outgoing(part, LATE, late, ENGAGEMENTS[0], offset)
        return outgoing

    # -- turns

    def _poll(self) -> RawPoll | None:
        self._forget()
        poll, now_s = self._inbox.poll(0), time.monotonic()
        if poll is None or len(poll.raw) < BULK_PER_POLL:
            self._reads_at_s = now_s + GATHERS_S
        if poll is None:
            if now_s - self._turned_at_s < TICK_S:
                return None
            poll = _NOTHING
        self._turned_at_s = now_s
        self._broker_ms = max(self._broker_ms, max(poll.published_ms, default=0) - now_s * 1000)
        return poll

    def _rests_s(self) -> float:
        return self._reads_at_s - time.monotonic()

    def _before(self) -> None:
        self._outbox.poll()
        self._watch.turn(self._parts, self._inbox, self._broker_ms + time.monotonic() * 1000)
        if time.monotonic() - self._committed_at_s >= self._what.every_s:
            self._commit()
            self._committed_at_s = time.monotonic()

    def _forget(self) -> None:
        """Forget the users who were deleted, so that no example of them goes out any more."""
        for viewer, partition in self._deletions.take():
            self._parts[partition].forget(viewer)

    def _commit(self) -> None:
        """Wait until the broker has all outputs, and make durable what they come of."""
        if not self._outbox.drain(DRAIN_S):
            raise KafkaRefused(f"the broker took no examples for {DRAIN_S:g} s: start again when it is back.")
        offsets: dict[Place, int] = {}
        ends = {**self._ends, **self._outbox.ends}
        for part in self._parts.values():
            offsets |= part.commit(self._inbox.positions, ends)
        self._inbox.commit(offsets)

    # -- what goes out

    def _send(self, outgoing: list[Outgoing]) -> None:
        for one in outgoing:
            self._outbox.send(one)

    def _outgoing(
        self, part: JoinPartition, topic: str, message: TrainingExample | LateEngagement, source: str, offset: int
    ) -> Iterator[Outgoing]:
        """Yield a message, unless it was sent before."""
        if not part.is_sent((topic, source, offset)):
            headers = [*origin_headers(source, part.partition, offset, -1), self._schemas[topic]]
            yield Outgoing((topic, part.partition), key_of_id(message.viewer), encode(message), headers, patient=True)

    def _outgoing_letter(self, letter: DeadLetter) -> Iterator[Outgoing]:
        """Yield a letter, unless it was sent before."""
        if self._parts[letter.partition].is_sent((DEAD_LETTERS, letter.topic, letter.offset)):
            return
        told = f"{letter.path}: {letter.reason}"
        headers = origin_headers(letter.topic, letter.partition, letter.offset, letter.published_ms, told)
        place = (DEAD_LETTERS, letter.partition)
        yield Outgoing(place, letter.key, encode(letter), [*headers, self._schemas[DEAD_LETTERS]], patient=True)

    def _open(self) -> int:
        return sum(part.joining.open for part in self._parts.values())


def _checked(connection: Connection) -> int:
    """Return the number of partitions of the topics. Raises KafkaRefused where they are not as the join needs them."""
    states = list_topics(connection.address, connection.naming, overrides=connection.settings)
    needed = [state for state in states if state.name in (*INPUTS, *OUTPUTS, GRAPH)]
    counts = {state.partitions for state in needed}
    if 0 in counts:
        raise KafkaRefused("the topics are not there: create them with `topics create`.")
    if len(counts) > 1:
        raise KafkaRefused("the topics differ in their number of partitions, so that a viewer's do not meet.")
    for state in needed:
        if state.name in INPUTS and not state.broker_time:
            raise KafkaRefused(
                f"topic {state.full_name} carries its producers' times, of which none can be trusted: "
                "set its message.timestamp.type to LogAppendTime (kafka-configs.sh --alter), then start again."
            )
    return counts.pop()


def join_examples(what: Joins) -> None:
    """Join until SIGTERM or SIGINT; raises KafkaRefused, StoreRefused and OperationsRefused where it can't begin."""
    watch = JoinWatch()
    with answering(what.port, watch.health, watch.metrics):
        job = JoinJob(what, watch)
        with stopped_by_signals(job.stop):
            job.run()
