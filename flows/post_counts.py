"""The flow of post counts: how often each post was acted on so far, from all engagements, for everybody to read.

    engagements ─▶ decode ─▶ count ─▶ post-counts

One instance counts for all. Every few seconds it sends the totals of the posts that changed, and once the broker has
them stores totals and offsets in one commit. After a kill it counts again from there and sends the same totals.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import bytewax.operators as op
import msgspec
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.serving.positions import Positions
from flows.serving.signals import stopped_by_signals
from infra.kafka import KafkaRefused
from infra.kafka.admin import list_topics
from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection, Inbox
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.source import KafkaSource, Turns
from infra.kafka.topics import TOPIC
from infra.operations import get_log
from infra.polls import EachSink, run
from infra.stores import PartitionStore
from schemas.actions import ACTION_INDEX, ACTIONS
from schemas.codec import decode_batch, encode
from schemas.events import Engagement
from schemas.feeds import PostCounts
from schemas.ids import Id, key_of
from schemas.message_keys import key_of_id, partition_of_id
from schemas.polls import RawPoll

log = get_log("post_counts")

ENGAGEMENTS: Final = "engagements"
COUNTS: Final = "post-counts"
FORMAT_VERSION: Final = 1
DRAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Counting:
    """What to count, where the totals lie, how often they are sent, and when a post without actions is forgotten."""

    connection: Connection
    state: Path
    every_s: float = 2.0
    retention_s: int = 172_800


@dataclass(slots=True)
class Totals:
    """The counts of one post, in the order of ACTIONS, and the time of its latest action."""

    post: Id
    at_ms: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(ACTIONS), np.int64))

    def message(self) -> PostCounts:
        """Return the totals as they are sent."""
        counts: list[int] = self.counts.tolist()
        return PostCounts(self.at_ms, self.post, {name: n for name, n in zip(ACTIONS, counts, strict=True) if n > 0})


class Counter:
    """Totals by post, and which of them changed since they were last taken."""

    def __init__(self) -> None:
        self.totals: dict[int, Totals] = {}
        self.clock_ms = 0
        self._changed: set[int] = set()

    def take(self, events: Iterable[object]) -> None:
        """Count engagements; an undone action counts one less, but never less than none."""
        for event in events:
            if not isinstance(event, Engagement):
                continue
            key = key_of(event.post)
            totals = self.totals.get(key)
            if totals is None:
                totals = self.totals[key] = Totals(event.post)
            totals.at_ms = max(totals.at_ms, event.at)
            self.clock_ms = max(self.clock_ms, event.at)
            place = ACTION_INDEX[event.action]
            totals.counts[place] = max(0, totals.counts[place] + (-1 if event.undo else 1))
            self._changed.add(key)

    def take_changed(self) -> set[int]:
        """Return the posts whose totals changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def forget(self, before_ms: int) -> list[int]:
        """Forget, and return, the posts whose latest action lies before a time."""
        gone = [key for key, totals in self.totals.items() if totals.at_ms < before_ms]
        for key in gone:
            del self.totals[key]
        return gone


def post_counts(source: Source[RawPoll], counter: Counter, sink: Sink[None]) -> Dataflow:
    """Return the dataflow."""
    flow = Dataflow("post_counts")
    polls = op.input("source", flow, source)
    decoded = op.map("decode", polls, lambda poll: decode_batch(poll.raw, poll.at_max))
    op.output("out", op.map("count", decoded, counter.take), sink)
    return flow


class CountingJob:
    """The flow at work on Kafka. Raises KafkaRefused and StoreRefused where it can't begin."""

    def __init__(self, what: Counting) -> None:
        self._what = what
        cluster = what.connection
        states = list_topics(cluster.address, cluster.naming, overrides=cluster.settings)
        topics = {one.name: one.partitions for one in states}
        if not topics[ENGAGEMENTS] or not topics[COUNTS]:
            raise KafkaRefused("the topics are not there: create them with `topics create`.")
        self._partitions = topics[COUNTS]
        self._store = PartitionStore.open(what.state / COUNTS, FORMAT_VERSION)
        self.counter = Counter()
        for key, raw in self._store.items():
            post, at_ms, counts = msgspec.msgpack.decode(raw, type=tuple[Id, int, list[int]])
            self.counter.totals[key] = Totals(post, at_ms, np.array(counts, np.int64))
        positions = Positions.decoded(self._store.meta)
        self.counter.clock_ms = positions.clock_ms
        starts = {(ENGAGEMENTS, one): positions.of(ENGAGEMENTS, one) for one in range(topics[ENGAGEMENTS])}
        self._inbox = Inbox(what.connection, starts, waiting_max=1)
        self._outbox = Outbox(what.connection)
        self._headers = [schema_header(TOPIC[COUNTS].schema)]
        self._sent_at_s = time.monotonic()
        self._stopping = False

    def run(self) -> None:
        """Count until told to stop, then send and store what is left."""
        turns = Turns(lambda: self._inbox.poll(0), self._before, lambda: None, lambda: self._stopping)
        source = KafkaSource(turns)
        run(post_counts(source, self.counter, EachSink(_pass)), timedelta(seconds=self._what.every_s))
        if source.failure is not None:
            raise source.failure
        self._send()
        self._inbox.close()
        self._store.close()

    def stop(self) -> None:
        """Take no more polls."""
        self._stopping = True

    def _before(self) -> None:
        # A poll passes the whole flow before the next is taken, so the totals are those of the positions.
        self._outbox.poll()
        if time.monotonic() - self._sent_at_s >= self._what.every_s:
            self._sent_at_s = time.monotonic()
            self._send()

    def _send(self) -> None:
        """Send the totals that changed, wait for the broker, and store them with the offsets they hold."""
        counter = self.counter
        changed = counter.take_changed()
        for key in changed:
            message = counter.totals[key].message()
            place = (COUNTS, partition_of_id(message.post, self._partitions))
            self._outbox.send(Outgoing(place, key_of_id(message.post), encode(message), self._headers))
        if not self._outbox.drain(DRAIN_S):
            raise KafkaRefused(f"the broker took no counts for {DRAIN_S:g} s: start again when it is back.")
        gone = counter.forget(counter.clock_ms - self._what.retention_s * 1000)
        positions: dict[int, int] = {partition: offset for (_, partition), offset in self._inbox.positions.items()}
        meta = Positions({ENGAGEMENTS: positions}, clock_ms=counter.clock_ms).encoded()
        if changed or gone or meta != self._store.meta:
            kept = [(key, counter.totals[key]) for key in changed if key in counter.totals]
            records = [(key, msgspec.msgpack.encode((one.post, one.at_ms, one.counts.tolist()))) for key, one in kept]
            self._store.commit(records, gone, meta)
            log.debug("counted", posts=len(changed), forgotten=len(gone))
        self._inbox.commit(self._inbox.positions)


def count(what: Counting) -> None:
    """Count until SIGTERM or SIGINT; raises KafkaRefused and StoreRefused where it can't begin."""
    job = CountingJob(what)
    with stopped_by_signals(job.stop):
        job.run()


def _pass(_done: list[None]) -> None:
    return
