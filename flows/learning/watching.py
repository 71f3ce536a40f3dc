"""What an operator sees of the processes that learn: metrics and probes, brought up to now about once a second."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from flows.learning.joining import JoinCounts
from flows.learning.partitions import JoinPartition
from flows.learning.trainer import Interval
from infra.kafka.inbox import Inbox
from infra.operations import Health, JoinMetrics, LearnMetrics, get_log, serve_operations
from infra.operations.metric_set import MetricSet
from models.judging import Fit

JOIN_CONDITIONS: Final = ("state", "kafka")
LEARN_CONDITIONS: Final = ("model", "examples")
GAUGES_EVERY_S: Final = 1.0
# An interval is judged and learned from in one go: seconds with our settings on two cores, minutes with larger ones.
LEARN_BEAT_LIMIT_S: Final = 1800.0

log = get_log("learning")


@contextmanager
def answering(port: int | None, health: Health, metrics: MetricSet) -> Iterator[int | None]:
    """Answer on a port as long as this lasts, if there is one, and give it: for 0 any free one.

    Raises OperationsRefused where it can't be had.
    """
    metrics.watch_health(health)
    if port is None:
        yield None
        return
    server = serve_operations(port, health, metrics.exposition)
    log.info("operations", port=server.port)
    try:
        yield server.port
    finally:
        server.close()


class JoinWatch:
    """Watches one instance of the join."""

    def __init__(self) -> None:
        self.metrics, self.health = JoinMetrics(), Health(JOIN_CONDITIONS)
        self._gauged_at_s = -GAUGES_EVERY_S

    def turn(self, parts: Mapping[int, JoinPartition], inbox: Inbox, broker_now_ms: float) -> None:
        """Take a turn of the event loop: all partitions, what is read, and the broker's time now (ms)."""
        self.health.beat()
        now_s = time.monotonic()
        if now_s - self._gauged_at_s >= GAUGES_EVERY_S:
            self._gauged_at_s = now_s
            self._gauge(parts, broker_now_ms)
            self._gauge_input(inbox)

    def _gauge(self, parts: Mapping[int, JoinPartition], broker_now_ms: float) -> None:
        metrics, joinings = self.metrics, [part.joining for part in parts.values()]
        metrics.open_feeds.set(sum(joining.open for joining in joinings))
        opened_ms = [joining.oldest_ms for joining in joinings if joining.oldest_ms is not None]
        oldest_s = (broker_now_ms - min(opened_ms, default=broker_now_ms)) / 1000
        metrics.oldest_open_seconds.set(max(0.0, oldest_s))
        metrics.waiting_messages.set(sum(joining.waiting for joining in joinings))
        until_ms = min((part.until_ms for part in parts.values()), default=broker_now_ms)
        metrics.behind_seconds.set(max(0.0, (broker_now_ms - until_ms) / 1000))
        counts = total_of(parts)
        engagements = {
            "label": counts.labels,
            "late": counts.late,
            "not_served": counts.not_served,
            "repeated": counts.repeated_acts,
        }
        passed = {"repeated": counts.repeated, "replaced": counts.replaced}
        metrics.take_counts(counts.examples, engagements, passed, counts.deleted)

    def _gauge_input(self, inbox: Inbox) -> None:
        for (topic, partition), messages in inbox.lags_by_partition().items():
            self.metrics.lag_messages.labels(topic, str(partition)).set(messages)
        left = inbox.left_to_load()
        self.health.set("state", inbox.loaded, f"{left:,} of {inbox.to_load:,} messages to read")


def total_of(parts: Mapping[int, JoinPartition]) -> JoinCounts:
    """Return what came of all that partitions took since the start."""
    total: Counter[str] = Counter()
    for part in parts.values():
        total.update(asdict(part.joining.counts))
    return JoinCounts(**total)


class LearnWatch:
    """Watches a process that learns."""

    def __init__(self) -> None:
        self.metrics, self.health = LearnMetrics(), Health(LEARN_CONDITIONS, LEARN_BEAT_LIMIT_S)
        self._gauged_at_s = -GAUGES_EVERY_S

    def turn(self, waiting: int, passed_over: Mapping[str, int]) -> None:
        """Take a turn: examples that wait for their interval, and those passed over since the start, by reason."""
        self.health.beat()
        now_s = time.monotonic()
        if now_s - self._gauged_at_s >= GAUGES_EVERY_S:
            self._gauged_at_s = now_s
            self.metrics.waiting_examples.set(waiting)
            self.metrics.take_passed_over(passed_over)

    def interval(self, interval: Interval, seconds: float) -> None:
        """Take an interval and the seconds that judging and learning took."""
        metrics = self.metrics
        metrics.intervals.inc()
        metrics.examples.inc(interval.examples)
        metrics.interval_seconds.set(seconds)
        metrics.skipped_steps.inc(interval.skipped_steps)
        metrics.take_newest(interval.to_ms)
        fits: dict[str, Fit | None] = {"trained": interval.trained, "best": interval.best}
        for model, fit in fits.items():
            if fit is not None:
                metrics.take_losses(model, fit.loss, fit.retrieval_loss)
        if interval.compared is not None:
            metrics.worse_ratio.set(interval.compared.ranker)
        if interval.published is not None:
            metrics.published.inc()
            metrics.feed_to_model_seconds.set(time.time() - interval.published.facts.to_ms / 1000)
        else:
            # What stands behind a colon is numbers, which would make every reason a series.
            metrics.not_published.labels(interval.reason.partition(":")[0]).inc()
