"""Every metric of the job that serves: names, labels, what each means, and cheap ways to count on the hot path."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from infra.operations.metric_set import LetterCounts, MetricSet

# The stages whose children exist from the start, so that a dashboard shows them before the first request. The first
# five follow each other; `request` is from read to answered, `end_to_end` from published to delivered.
STAGES: Final = ("queue", "candidates", "filter", "rank", "slate", "request", "end_to_end")
OUTCOMES: Final = ("ranked", "degraded", "late", "shed", "expired")
# A quarter to a half apart where what we promise is decided (p99 of 20, 30 and 100 ms), wider at both ends.
LATENCY_BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1),
    *(0.125, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)


class Metrics(MetricSet):
    """The metrics of one instance that serves. All methods may be called from any thread."""

    def __init__(self, instance: int = 0, instances: int = 1) -> None:
        """Declare all metrics; instance is k of n, counted from 0."""
        super().__init__()
        self._declare_requests()
        self._declare_input()
        self._declare_state()
        self._declare_service()
        self.instance_info.labels(str(instance), str(instances)).set(1)
        for not_known_yet in (self.index_recall, self.state_free_bytes):
            not_known_yet.set(math.nan)  # no alert's threshold compares with it

        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}
        self._feeds = {outcome: self.feeds.labels(outcome) for outcome in OUTCOMES}
        self._letters = LetterCounts(self.dead_letters)
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
        self._letters.count(topic, reason)

    def set_model(self, version: str) -> None:
        """Say which model ranks, and that the one before does not any more."""
        if self._model and self._model != version:
            self.model_info.remove(self._model)
        self.model_info.labels(version).set(1)
        self._model = version

    def watch_disk(self, folder: Path) -> None:
        """Show the bytes free where the state lies whenever the metrics are read."""
        self.state_free_bytes.set_function(lambda: float(shutil.disk_usage(folder).free))
