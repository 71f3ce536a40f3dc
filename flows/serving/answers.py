"""From answers and dead letters to messages: keys, partitions and headers, each sent once."""

import time
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace as replace_fields

from flows.for_you import Answer
from flows.serving.counts import Counts
from flows.serving.earlier import Answered, Earlier
from flows.serving.positions import DEAD_LETTERS, FEEDS, SERVED, SERVED_FEATURES, SHADOW_SCORES
from infra.kafka.headers import TRACEPARENT, origin_headers, schema_header, trace_headers
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import MESSAGE_BYTES_MAX, TOPIC
from infra.operations import Metrics, Tracing
from operators.clusters import Compared
from operators.slate import EXPIRED
from operators.viewers.query import DEADLINE, Request
from schemas.codec import encode
from schemas.events import Served
from schemas.feeds import DeadLetter, Feed
from schemas.message_keys import key_of_id


class Answers:
    """Sends what the flow makes; `answers` and `letters` count what it was given."""

    def __init__(
        self,
        outbox: Outbox,
        earlier: Earlier,
        counts: Counts,
        metrics: Metrics,
        tracing: Tracing,
        owns: Callable[[int], bool],
    ) -> None:
        self._outbox = outbox
        self._earlier = earlier
        self._counts = counts
        self._metrics = metrics
        self._tracing = tracing
        self._owns = owns
        sent = (FEEDS, SERVED, SERVED_FEATURES, SHADOW_SCORES, DEAD_LETTERS)
        self._schemas = {topic: schema_header(TOPIC[topic].schema) for topic in sent}
        self.answers = 0
        self.letters = 0

    def send(self, answers: list[Answer]) -> None:
        """Send feeds, and after each what it showed; before it what the model saw, where that is asked for.

        Features can't be made again with the same bits, feeds and what they showed can be told again: sent in this
        order, no feed is out without its features, whenever the process dies.
        """
        for answer in answers:
            self.answers += 1
            request, feed = answer.request, answer.feed
            if request.event.explain:
                feed = self._counts.shown(feed)
            origin = request.origin
            self._metrics.count_feed(_outcome(feed))
            self._metrics.observe_stages(answer.durations_s)
            for component in feed.degraded:
                self._metrics.degraded.labels(component).inc()
            headers = origin_headers(origin.topic, origin.partition, origin.offset, origin.published_ms)
            trace = trace_headers(origin.headers)
            if self._tracing.enabled:
                onward = self._tracing.request(trace[0][1] if trace else None, answer.durations_s)
                trace = [(TRACEPARENT, onward)] if onward else []
            key = key_of_id(feed.viewer)
            served = None
            if answer.served is not None:
                about = [*headers, self._schemas[SERVED], *trace]
                served = Outgoing((SERVED, origin.partition), key, encode(answer.served), about, patient=True)
            outgoing = Outgoing(
                (FEEDS, origin.partition),
                key,
                encode(feed),
                [*headers, self._schemas[FEEDS], *trace],
                delivered=partial(self._delivered, origin.published_ms),
                then=served,
            )
            if answer.features is not None:
                features = replace_fields(answer.features, served_at=time.time_ns() // 1_000_000)
                about = [*headers, self._schemas[SERVED_FEATURES], *trace]
                place = (SERVED_FEATURES, origin.partition)
                outgoing = Outgoing(place, key, encode(features), about, then=outgoing)
            self._outbox.send(outgoing)
            # A turn may last a tenth of a second, and features and feeds before this one have been taken by then.
            self._outbox.advance()

    def _delivered(self, published_ms: int) -> None:
        if published_ms:
            self._metrics.observe_stages({"end_to_end": max(0.0, time.time() - published_ms / 1000)})

    def compare(self, compared: list[Compared]) -> None:
        """Send what shadow models say; nothing depends on it, and it may come twice after a restart, or not at all."""
        for one in compared:
            origin = one.request.origin
            headers = origin_headers(origin.topic, origin.partition, origin.offset, origin.published_ms)
            about = [*headers, self._schemas[SHADOW_SCORES], *trace_headers(origin.headers)]
            place, key = (SHADOW_SCORES, origin.partition), key_of_id(one.scores.viewer)
            self._outbox.send(Outgoing(place, key, encode(one.scores), about, patient=True, optional=True))
            self._metrics.observe_stages({"shadow": one.duration_s})

    def answered(self, request: Request) -> Feed | None:
        """Return the feed that an earlier process answered a request with; None where there is none.

        If that process did not come to say what the feed showed, it is said now.
        """
        found = self._earlier.answer(request.origin.partition, request.origin.offset)
        if found is None:
            return None
        if found.feed.error is None and not found.served and found.feed.feed != "score_posts":
            self._send_served(request, found)
        return found.feed

    def _send_served(self, request: Request, found: Answered) -> None:
        event, origin = request.event, request.origin
        served = Served(event.at, event.request, event.viewer, found.feed.shown, event.surface, found.feed.model)
        headers = origin_headers(origin.topic, origin.partition, origin.offset, origin.published_ms)
        trace = trace_headers(origin.headers)
        self._outbox.send(
            Outgoing(
                (SERVED, origin.partition),
                key_of_id(event.viewer),
                encode(served),
                [*headers, self._schemas[SERVED], *trace],
                patient=True,
            )
        )

    def bury(self, letters: list[DeadLetter]) -> None:
        """Send dead letters, on the partition of what was refused; its owner does where all instances read it."""
        for letter in letters:
            self.letters += 1
            if not self._owns(letter.partition):
                continue
            self._metrics.count_dead_letter(letter.topic, letter.reason)
            if self._earlier.has_letter(letter.topic, letter.partition, letter.offset):
                continue
            headers = origin_headers(
                letter.topic, letter.partition, letter.offset, letter.published_ms, f"{letter.path}: {letter.reason}"
            )
            place = (DEAD_LETTERS, letter.partition)
            cut = _cut(letter)
            self._outbox.send(
                Outgoing(place, cut.key, encode(cut), [*headers, self._schemas[DEAD_LETTERS]], patient=True)
            )


def _cut(letter: DeadLetter) -> DeadLetter:
    """Return a letter that Kafka takes: brokers count compressed bytes, and so let larger messages in than we send.

    A key and a value of the largest message allowed both fit in ours, in base64.
    """
    raw, key = letter.raw, letter.key
    if max(len(raw), len(key or b"")) <= MESSAGE_BYTES_MAX:
        return letter
    return replace_fields(
        letter,
        raw=raw[:MESSAGE_BYTES_MAX],
        key=None if key is None else key[:MESSAGE_BYTES_MAX],
        reason=f"{letter.reason} (of its {len(raw):,} bytes and its key's {len(key or b''):,} "
        f"only the first {MESSAGE_BYTES_MAX:,} are kept)",
    )


def _outcome(feed: Feed) -> str:
    if feed.error is not None:
        return "expired" if feed.error == EXPIRED else "shed"
    if DEADLINE in feed.degraded:
        return "late"
    return "degraded" if feed.degraded else "ranked"
