"""The load: an open-loop generator, in a process of its own.

`python -m benchmarks.kafka.generator PLAN OUT`. Every message has a time at which it is sent whether or not answers
came; a request's latency counts from that time, so a generator or a broker that falls behind shows as latency and
hides none (no coordinated omission). All messages are made before the first is sent. Bulk leaves in ticks of 5 ms, as
a producer with `linger.ms` of 5 sends it.
"""

import heapq
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.kafka.plans import POSTS_PER_AUTHOR, Plan, Told, write
from benchmarks.kafka.readers import Readers
from benchmarks.kafka.trials import Trials
from infra.kafka.headers import schema_header
from infra.kafka.settings import consumer_settings, open_consumer, open_producer, producer_settings
from infra.kafka.topics import PARTITIONS, TOPIC, Naming
from schemas.actions import ACTIONS
from schemas.codec import encode
from schemas.events import Engagement, FeedRequest, PostCreated
from schemas.feeds import StageCount
from schemas.message_keys import key_of_id

TICK_S: Final = 0.005
# Bulk messages between two looks at the feeds that came: 100 take 0.5 ms.
BULK_AT_ONCE: Final = 100
# For answers after the last request, and for all messages to be made before the first.
TAIL_S: Final = 3.0
LEAD_S: Final = 1.0
MAKING_S: Final = 25e-6  # of one message; measured 8 us on a quiet machine
RANKED: Final = "candidates_max"  # the stage that says how many candidates were ranked


class Item(msgspec.Struct):
    """One post of a feed."""

    post: int


class FeedHead(msgspec.Struct):
    """What the generator reads of a feed."""

    request: int
    viewer: int
    items: list[Item]
    stages: list[StageCount] = []
    degraded: list[str] = []
    error: str | None = None


class Outgoing(NamedTuple):
    """A message with its time, in seconds from the beginning."""

    due_s: float
    topic: str
    key: bytes
    value: bytes
    number: int  # of a request; -1 for bulk


class Generator:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._naming = plan, Naming(plan.prefix)
        quick = producer_settings(plan.address)
        self._requests = open_producer(quick)
        bulk = {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
        self._bulk = open_producer(producer_settings(plan.address, bulk))
        self._consumer = self._reading()
        self._headers = {name: [schema_header(topic.schema)] for name, topic in TOPIC.items()}
        self._decoder = msgspec.json.Decoder(FeedHead)
        self._rng = np.random.default_rng([plan.seed, time.time_ns()])
        self._number0 = time.time_ns() // 1000 * 1000  # of requests and new posts: no run has those of another
        self.bulk_sent, self.bulk_late_s, self.feed_bytes = 0, 0.0, 0
        self._trials = Trials() if plan.effects else None
        self._readers = Readers(plan.posts, plan.pace, self._rng) if plan.pace else None
        self._acts: list[Outgoing] = []  # a heap of what people are going to do

    def _reading(self) -> Consumer:
        consumer = open_consumer(consumer_settings(self._plan.address, {"group.id": "bench-generator"}))
        feeds = self._naming.of("feeds")
        consumer.assign([TopicPartition(feeds, one, OFFSET_END) for one in range(PARTITIONS)])
        end_s = time.monotonic() + LEAD_S
        while time.monotonic() < end_s:  # the first polls look up where the ends are
            consumer.poll(0.1)
        return consumer

    def run(self) -> Told:
        """Send everything at its time and take in what comes back."""
        plan = self._plan
        due = self._due_times()
        messages_to_make = len(due) + sum(one.rate_hz * (one.to_s - one.from_s) for one in plan.bulk)
        self.start_s = time.time() + LEAD_S + MAKING_S * messages_to_make
        self._due = due
        self._sent, self._received = np.full(len(due), np.nan), np.full(len(due), np.nan)
        self._ranked, self._whole = np.full(len(due), np.nan), np.zeros(len(due))
        messages = sorted([*self._request_messages(due), *self._bulk_messages()], key=lambda one: one.due_s)
        cpu_s = time.process_time()
        self._send_all(messages)
        cpu_s = time.process_time() - cpu_s
        self._bulk.flush(TAIL_S)
        self._consumer.close()
        tries = np.zeros(len(due))
        unchanged = 1.0
        if self._trials is not None:
            due, self._received, tries = self._trials.columns(len(due))
            unchanged = self._trials.unchanged
        answered = max(1, int(np.isfinite(self._ranked).sum()))
        return Told(
            due, self._sent, self._received, self._ranked, self._whole, tries, self.start_s, self.bulk_sent,
            self.bulk_late_s, cpu_s, self.feed_bytes / answered, unchanged,
        )  # fmt: skip

    # -- messages

    def _due_times(self) -> Any:
        plan = self._plan
        count = int(plan.requests_hz * plan.duration_s)
        if plan.arrivals == "even":
            return np.arange(count) / max(plan.requests_hz, 1e-9)
        return np.sort(self._rng.random(count)) * plan.duration_s

    def _request_messages(self, due: Any) -> list[Outgoing]:
        viewers = self._rng.permutation(self._plan.asking)[np.arange(len(due)) % self._plan.asking] + 1
        return [
            self._request(place, int(viewer), at_s)
            for place, (viewer, at_s) in enumerate(zip(viewers, due.tolist(), strict=True))
        ]

    def _request(self, place: int, viewer: int, due_s: float, step: int = 0) -> Outgoing:
        event = FeedRequest(
            self._ms(due_s), self._number0 + place * 100 + step, viewer, parameters=self._plan.parameters
        )
        return Outgoing(due_s, "feed-requests", key_of_id(viewer), encode(event), place)

    def _bulk_messages(self) -> list[Outgoing]:
        messages = []
        for bulk in self._plan.bulk:
            count = int(bulk.rate_hz * (bulk.to_s - bulk.from_s))
            due = bulk.from_s + np.floor(np.arange(count) / bulk.rate_hz / TICK_S) * TICK_S
            viewers = self._acting(count)
            posts = self._rng.integers(1, self._plan.posts + 1, count).tolist()
            actions = self._rng.integers(0, len(ACTIONS), count).tolist()
            is_post = (self._rng.random(count) < bulk.posts_share).tolist()
            for place, due_s in enumerate(due.tolist()):
                at_ms = self._ms(due_s)
                if is_post[place]:
                    new = self._new_post(at_ms, place, posts[place])
                    messages.append(Outgoing(due_s, "posts", key_of_id(new.author), encode(new), -1))
                else:
                    act = Engagement(at_ms, viewers[place], posts[place], ACTIONS[actions[place]])
                    messages.append(Outgoing(due_s, "engagements", key_of_id(act.viewer), encode(act), -1))
        return messages

    def _acting(self, count: int) -> list[int]:
        """Return viewers who act: how much they do is log-normal with sigma 1.5, as how much authors post."""
        # The same viewers are busy in every run of a plan's seed: those of a run before are in memory already.
        weights = np.random.default_rng(self._plan.seed).lognormal(0, 1.5, self._plan.viewers)
        found: list[int] = (np.searchsorted(np.cumsum(weights / weights.sum()), self._rng.random(count)) + 1).tolist()
        return [min(one, self._plan.viewers) for one in found]

    def _new_post(self, at_ms: int, place: int, other: int) -> PostCreated:
        text = f"word{place % 977} about something that happened number {place}"
        author = other % (self._plan.posts // POSTS_PER_AUTHOR) + 1
        return PostCreated(at_ms, self._number0 + place, author, text, "en", ("news",))

    def _ms(self, at_s: float) -> int:
        return int((self.start_s + at_s) * 1000)

    # -- the run

    def _send_all(self, messages: list[Outgoing]) -> None:
        if time.time() > self.start_s:
            raise RuntimeError("the messages were not made in time")
        place, end_s = 0, self._plan.duration_s + TAIL_S
        while (now_s := time.time() - self.start_s) < end_s:
            left = BULK_AT_ONCE
            while place < len(messages) and messages[place].due_s <= now_s and left:
                self._send(messages[place], now_s)
                place, left = place + 1, left - 1
            while self._acts and self._acts[0].due_s <= now_s and left:
                self._send(heapq.heappop(self._acts), now_s)
                left -= 1
            self._requests.poll(0)
            self._bulk.poll(0)
            next_s = min([end_s, *(one.due_s for one in (*messages[place : place + 1], *self._acts[:1]))])
            self._receive(next_s - (time.time() - self.start_s))
            if place == len(messages) and self._answered():
                return

    def _send(self, message: Outgoing, now_s: float) -> None:
        producer = self._requests if message.number >= 0 else self._bulk
        producer.produce(
            self._naming.of(message.topic),
            key=message.key,
            value=message.value,
            headers=list(self._headers[message.topic]),
            timestamp=self._ms(message.due_s),
        )
        if message.number >= 0:
            self._sent[message.number] = now_s
        else:
            self.bulk_sent += 1
            self.bulk_late_s = max(self.bulk_late_s, now_s - message.due_s)

    def _receive(self, wait_s: float) -> None:
        """Take in what has come, and wait for it no longer than until the next message is due."""
        # librdkafka counts whole milliseconds.
        found = self._consumer.poll(int(wait_s * 1000) / 1000 if wait_s > 0.001 else 0)
        if found is None and 0 < wait_s <= 0.001:
            time.sleep(wait_s)
        while found is not None:
            if found.error() is None:
                self._take(found.value() or b"", time.time() - self.start_s)
            found = self._consumer.poll(0)

    def _take(self, value: bytes, now_s: float) -> None:
        feed = self._decoder.decode(value)
        place, step = divmod(feed.request - self._number0, 100)
        if not 0 <= place < len(self._due):
            return  # of a run before
        if step == 0:
            self._received[place] = now_s
            self.feed_bytes += len(value)
            self._whole[place] = not feed.degraded and feed.error is None
            self._ranked[place] = next((stage.kept for stage in feed.stages if stage.stage == RANKED), 0)
        if self._readers is not None:
            self._read(self._readers, feed, now_s)
        if self._trials is not None:
            self._go_on(place, step, feed, now_s)

    def _read(self, readers: Readers, feed: FeedHead, now_s: float) -> None:
        """Put by what a viewer is going to do with a feed, up to the plan's end."""
        key = key_of_id(feed.viewer)
        for at_s, post, act in readers.read(feed.viewer, [item.post for item in feed.items], now_s):
            if at_s > self._plan.duration_s:
                return
            event = Engagement(self._ms(at_s), feed.viewer, post, act.action, dwell_s=act.dwell_s)
            heapq.heappush(self._acts, Outgoing(at_s, "engagements", key, encode(event), -1))

    def _go_on(self, place: int, step: int, feed: FeedHead, now_s: float) -> None:
        assert self._trials is not None
        asked = self._trials.take(place, step, [item.post for item in feed.items], now_s)
        viewer = feed.viewer
        if asked.like is not None:
            event = Engagement(self._ms(now_s), viewer, asked.like, "favorite")
            self._send(Outgoing(now_s, "engagements", key_of_id(viewer), encode(event), -1), now_s)
        if asked.again:
            self._send(self._request(place, viewer, now_s, step + 1)._replace(number=place), now_s)

    def _answered(self) -> bool:
        return self._trials is None and self._readers is None and bool(np.isfinite(self._received).all())


def main() -> None:
    """Run a plan."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    write(Path(sys.argv[2]), Generator(plan).run())


if __name__ == "__main__":
    main()
