"""The flow of post counts: how often each post was shown and acted on so far, by everybody, for everybody to read.

    engagements, served ─▶ decode ─▶ count ─▶ post-counts

One instance counts for all. Every few seconds it sends the totals of the posts that changed, and once the broker has
them stores totals and offsets in one commit. After a kill it counts again from there and sends the same totals.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import bytewax.operators as op
import msgspec
import numpy as np
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
from operators.decode import engagement_columns
from operators.posts.counts import Counting as CountingRule
from operators.posts.counts import CountTable
from schemas.actions import ACTIONS, Action
from schemas.codec import decode_batch, encode
from schemas.events import Engagement, Served
from schemas.feeds import PostCounts
from schemas.ids import Id, key_of
from schemas.message_keys import key_of_id, partition_of_id
from schemas.polls import RawPoll

log = get_log("post_counts")

INPUTS: Final = ("engagements", "served")
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


class Counter:
    """Totals by post, and which of them changed since they were last taken."""

    def __init__(self) -> None:
        self._table = CountTable()
        self._rule = CountingRule(self._table)
        # Of each post its id, and the time of its latest action or feed.
        self.latest: dict[int, tuple[Id, int]] = {}
        self.clock_ms = 0
        self._changed: set[int] = set()

    def take(self, events: Iterable[object]) -> None:
        """Count engagements and what was served, as the rule says."""
        taken = [event for event in events if isinstance(event, Engagement | Served)]
        acts = [event for event in taken if isinstance(event, Engagement)]
        self._rule.take(
            engagement_columns(acts) if acts else None, [event for event in taken if isinstance(event, Served)]
        )
        for event in taken:
            self.clock_ms = max(self.clock_ms, event.at)
            for post in event.posts if isinstance(event, Served) else (event.post,):
                key = key_of(post)
                _, at_ms = self.latest.get(key, (post, 0))
                self.latest[key] = post, max(at_ms, event.at)
                self._changed.add(key)

    def take_changed(self) -> list[int]:
        """Return the posts whose totals may have changed since the last call."""
        changed, self._changed = self._changed, set()
        return sorted(changed)

    def message(self, key: int) -> PostCounts:
        """Return a post's totals as they are sent."""
        post, at_ms = self.latest[key]
        *_, shown = self.counts(key)
        return PostCounts(at_ms, post, self._table.of(key), shown)

    def counts(self, key: int) -> list[int]:
        """Return a post's totals: by ACTIONS, then how often it was shown."""
        counts: list[int] = self._table.columns(np.array([key], np.uint64))[0].tolist()
        return counts

    def put(self, key: int, post: Id, at_ms: int, counts: list[int]) -> None:
        """Take in totals as they were stored; older ones do not say how often a post was shown."""
        told: dict[Action, int] = dict(zip(ACTIONS, counts, strict=False))
        self._table.put([PostCounts(at_ms, post, told, *counts[len(ACTIONS) :])])
        self.latest[key] = post, at_ms

    def forget(self, before_ms: int) -> list[int]:
        """Forget, and return, the posts whose latest action or feed lies before a time."""
        gone = [key for key, (_, at_ms) in self.latest.items() if at_ms < before_ms]
        for key in gone:
            del self.latest[key]
        if gone:
            self._table.keep(~np.isin(self._table.keys(), np.array(gone, np.uint64)))
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
        if not all(topics[topic] for topic in (*INPUTS, COUNTS)):
            raise KafkaRefused("the topics are not there: create them with `topics create`.")
        self._partitions = topics[COUNTS]
        self._store = PartitionStore.open(what.state / COUNTS, FORMAT_VERSION)
        self.counter = Counter()
        for key, raw in self._store.items():
            post, at_ms, counts = msgspec.msgpack.decode(raw, type=tuple[Id, int, list[int]])
            self.counter.put(key, post, at_ms, counts)
        positions = Positions.decoded(self._store.meta)
        self.counter.clock_ms = positions.clock_ms
        starts = {(topic, one): positions.of(topic, one) for topic in INPUTS for one in range(topics[topic])}
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
            message = counter.message(key)
            place = (COUNTS, partition_of_id(message.post, self._partitions))
            self._outbox.send(Outgoing(place, key_of_id(message.post), encode(message), self._headers))
        if not self._outbox.drain(DRAIN_S):
            raise KafkaRefused(f"the broker took no counts for {DRAIN_S:g} s: start again when it is back.")
        gone = counter.forget(counter.clock_ms - self._what.retention_s * 1000)
        positions: dict[str, dict[int, int]] = {topic: {} for topic in INPUTS}
        for (topic, partition), offset in self._inbox.positions.items():
            positions[topic][partition] = offset
        meta = Positions(positions, clock_ms=counter.clock_ms).encoded()
        if changed or gone or meta != self._store.meta:
            kept = [key for key in changed if key in counter.latest]
            records = [(key, msgspec.msgpack.encode((*counter.latest[key], counter.counts(key)))) for key in kept]
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
