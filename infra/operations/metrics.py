"""Every metric of the job, in one place: names, labels, what each means, and cheap ways to count on the hot path."""

import math
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from infra.operations.health import Health

# The stages whose children exist from the start, so that a dashboard shows them before the first request. The first
# five follow each other; `request` is from read to answered, `end_to_end` from published to delivered.
STAGES: Final = ("queue", "candidates", "filter", "rank", "slate", "request", "end_to_end")
OUTCOMES: Final = ("ranked", "degraded", "late", "shed", "expired")
# A quarter to a half apart where what we promise is decided (p99 of 20, 30 and 100 ms), wider at both ends.
LATENCY_BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1),
    *(0.125, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)
# Distinct reasons of dead letters that get a series of their own. A schema has some 60 ways to be wrong; hostile
# messages must not make more series than a Prometheus server is happy with.
REASONS_MAX: Final = 100
REASON_CHARACTERS_MAX: Final = 120
OTHER_REASONS: Final = "other"

# What a reason quotes of its message, and its numbers: they would make every reason distinct.
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NUMBER: Final = re.compile(r"\d+")


class Described(NamedTuple):
    """One metric as it is documented."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def plain_reason(reason: str) -> str:
    """Return a reason without what it quotes and with N for numbers: how it is counted."""
    return _NUMBER.sub("N", _QUOTED.sub("'...'", reason[:1000]))[:REASON_CHARACTERS_MAX]


class Metrics:
    """The metrics of one instance, in a registry of their own. All methods may be called from any thread."""

    def __init__(self, instance: int = 0, instances: int = 1) -> None:
        """Declare all metrics; instance is k of n, counted from 0."""
        # Else each series brings another for when it began, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._declare_requests()
        self._declare_input()
        self._declare_state()
        self._declare_service()
        self.instance_info.labels(str(instance), str(instances)).set(1)
        for not_known_yet in (self.index_recall, self.state_free_bytes):
            not_known_yet.set(math.nan)  # no alert's threshold compares with it

        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}
        self._feeds = {outcome: self.feeds.labels(outcome) for outcome in OUTCOMES}
        self._dead_letters: dict[tuple[str, str], Counter] = {}
        self._reasons: set[str] = set()
        self._model = ""

    def _declare_requests(self) -> None:
        registry = self.registry
        self.stage_seconds = Histogram(
            "foryou_stage_seconds",
            "Time a request spent in a stage; request: read to answered; end_to_end: published to delivered",
            ("stage",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.feeds = Counter(
            "foryou_feeds",
            "Requests answered: ranked in full, degraded (a component failed), late (past its deadline), "
            "shed, or expired (its cursor)",
            ("outcome",),
            registry=registry,
        )
        self.degraded = Counter(
            "foryou_degraded", "Failures of a component that a feed went out without", ("component",), registry=registry
        )
        self.requests_in_work = Gauge(
            "foryou_requests_in_work", "Requests read and not yet answered", registry=registry
        )
        self.shadow_lost = Counter(
            "foryou_shadow_lost", "Comparisons with shadow models that were passed over or not taken", registry=registry
        )
        self.requests_waiting = Gauge(
            "foryou_requests_waiting", "Requests in work that wait for a ranker's thread", registry=registry
        )
        self.delivery_errors = Counter(
            "foryou_delivery_errors", "Outputs that the broker did not take", registry=registry
        )

    def _declare_input(self) -> None:
        registry = self.registry
        self.events = Counter("foryou_events", "Messages read", ("topic",), registry=registry)
        self.dead_letters = Counter(
            "foryou_dead_letters",
            "Messages refused, by reason without what it quotes; reasons beyond the first 100 count as other",
            ("topic", "reason"),
            registry=registry,
        )
        self.lag_messages = Gauge(
            "foryou_lag_messages", "Messages of this instance's partitions not yet read", ("topic",), registry=registry
        )
        self.lag_seconds = Gauge(
            "foryou_lag_seconds",
            "Age of the oldest message not yet read, else 0",
            ("topic",),
            registry=registry,
        )

    def _declare_state(self) -> None:
        registry = self.registry
        self.live_posts = Gauge("foryou_live_posts", "Live posts, each a candidate", registry=registry)
        self.viewers = Gauge(
            "foryou_viewers", "Viewers held in memory, and all those in the store", ("where",), registry=registry
        )
        self.store_bytes = Gauge("foryou_store_bytes", "Size of a durable store on disk", ("store",), registry=registry)
        self.state_free_bytes = Gauge(
            "foryou_state_free_bytes", "Bytes free on the file system that holds the state", registry=registry
        )
        self.commit_seconds = Histogram(
            "foryou_commit_seconds",
            "Time to make an epoch durable, beside the event loop",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.commits = Counter("foryou_commits", "Epochs made durable", registry=registry)
        self.commit_stall_seconds = Histogram(
            "foryou_commit_stall_seconds",
            "Time the event loop stood still at an epoch's end",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    def _declare_service(self) -> None:
        registry = self.registry
        self.index_recall = Gauge(
            "foryou_index_recall", "Recall of the candidate index against exact search, last probe", registry=registry
        )
        self.warm_up_ratio = Gauge(
            "foryou_warm_up_ratio", "Share of state, index and model loaded, 0 to 1", registry=registry
        )
        self.ready = Gauge("foryou_ready", "Whether a condition of /readyz holds", ("condition",), registry=registry)
        self.model_info = Gauge("foryou_model_info", "1 for the model that ranks", ("version",), registry=registry)
        self.model_swap_seconds = Gauge(
            "foryou_model_swap_seconds", "Time from the last announced model to its first request", registry=registry
        )
        self.models_refused = Counter(
            "foryou_models_refused", "Announced models that could not be taken up", registry=registry
        )
        self.instance_info = Gauge(
            "foryou_instance_info",
            "1; which instance this is, of how many",
            ("ordinal", "instances"),
            registry=registry,
        )

    def observe_stages(self, durations_s: Mapping[str, float]) -> None:
        """Count what one request spent in each stage, in seconds. A new stage is a new series: names come from code."""
        for stage, duration_s in durations_s.items():
            child = self._stages.get(stage)
            if child is None:
                child = self._stages[stage] = self.stage_seconds.labels(stage)
            child.observe(duration_s)

    def count_feed(self, outcome: str) -> None:
        """Count one answer; raises KeyError for an outcome that is none of OUTCOMES."""
        self._feeds[outcome].inc()

    def count_dead_letter(self, topic: str, reason: str) -> None:
        """Count one refused message. What the reason quotes, and its numbers, do not make it another reason."""
        child = self._dead_letters.get((topic, reason))
        if child is None:
            child = self.dead_letters.labels(topic, self._bounded(reason))
            if len(self._dead_letters) < REASONS_MAX * 10:
                self._dead_letters[topic, reason] = child
        child.inc()

    def _bounded(self, reason: str) -> str:
        plain = plain_reason(reason)
        if plain in self._reasons:
            return plain
        if len(self._reasons) >= REASONS_MAX:
            return OTHER_REASONS
        self._reasons.add(plain)
        return plain

    def set_model(self, version: str) -> None:
        """Say which model ranks, and that the one before does not any more."""
        if self._model and self._model != version:
            self.model_info.remove(self._model)
        self.model_info.labels(version).set(1)
        self._model = version

    def watch_health(self, health: Health) -> None:
        """Show the conditions of readiness as they are whenever the metrics are read."""
        for name in health.conditions:
            self.ready.labels(name).set_function(partial(health.holds, name))

    def watch_disk(self, folder: Path) -> None:
        """Show the bytes free where the state lies whenever the metrics are read."""
        self.state_free_bytes.set_function(lambda: float(shutil.disk_usage(folder).free))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def described(self) -> list[Described]:
        """Return name, kind, labels and meaning of every metric of ours, in the order declared."""
        own = [value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram)]
        families = [(metric, next(iter(metric.describe()))) for metric in own]
        return [
            Described(
                # Families are named without the suffix that their series have.
                f"{family.name}_total" if isinstance(metric, Counter) else family.name,
                family.type,
                tuple(metric._labelnames),
                family.documentation,
            )
            for metric, family in families
        ]
