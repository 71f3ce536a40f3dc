"""The metrics of the processes that learn: `join-examples` and `learn`. Names begin with whose they are."""

import math
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge

from infra.operations.metric_set import LetterCounts, MetricSet

# What an engagement comes to in the join, and why features that came make no example of their own.
ENGAGEMENT_OUTCOMES: Final = ("label", "late", "not_served", "repeated")
FEATURES_PASSED: Final = ("repeated", "replaced")
# Why an example is not learned from: `deleted` is its viewer; `refused` messages hold none.
PASSED_OVER: Final = ("twice", "late", "unusable", "deleted", "refused")
MODELS: Final = ("trained", "best")


class Totals:
    """Counters that follow totals which somebody else keeps."""

    def __init__(self) -> None:
        self._told: dict[Counter, float] = {}

    def follow(self, counter: Counter, total: float) -> None:
        """Bring a counter up to a total, which never falls."""
        counter.inc(total - self._told.get(counter, 0))
        self._told[counter] = total


class JoinMetrics(MetricSet):
    """The metrics of one instance of the join."""

    def __init__(self) -> None:
        """Declare all metrics."""
        super().__init__()
        registry = self.registry
        self.open_feeds = Gauge("foryou_join_open_feeds", "Served feeds that still take labels", registry=registry)
        self.oldest_open_seconds = Gauge(
            "foryou_join_oldest_open_seconds", "Time since the oldest feed was served that is still open, else 0",
            registry=registry,
        )  # fmt: skip
        self.waiting_messages = Gauge(
            "foryou_join_waiting_messages", "Messages read that wait until the other topic is as far", registry=registry
        )
        self.behind_seconds = Gauge(
            "foryou_join_behind_seconds",
            "How far the partition that is furthest behind is joined, before the broker's clock; about 5 s at rest",
            registry=registry,
        )
        self.lag_messages = Gauge(
            "foryou_join_lag_messages", "Messages not yet read", ("topic", "partition"), registry=registry
        )
        self.examples = Counter("foryou_join_examples", "Examples closed", registry=registry)
        self.engagements = Counter(
            "foryou_join_engagements",
            "Engagements: label of an open feed, late, on what was not_served, or repeated",
            ("outcome",),
            registry=registry,
        )
        self.features_passed = Counter(
            "foryou_join_features_passed",
            "Features that came again (repeated), or gave way to those of the feed that went out (replaced)",
            ("reason",),
            registry=registry,
        )
        self.deleted = Counter(
            "foryou_join_deleted",
            "Feeds and engagements of deleted users, passed over",
            registry=registry,
        )
        self.dead_letters = Counter(
            "foryou_join_dead_letters",
            "Features refused, by reason without what it quotes",
            ("topic", "reason"),
            registry=registry,
        )
        self.ready = Gauge(
            "foryou_join_ready", "Whether a condition of the join's /readyz holds", ("condition",), registry=registry
        )
        self._totals = Totals()
        self._letters = LetterCounts(self.dead_letters)
        for outcome in ENGAGEMENT_OUTCOMES:
            self.engagements.labels(outcome)
        for reason in FEATURES_PASSED:
            self.features_passed.labels(reason)

    def take_counts(
        self, examples: int, engagements: Mapping[str, int], features_passed: Mapping[str, int], deleted: int
    ) -> None:
        """Take what came of all that was taken since the start, by outcome and by reason, and of deleted users."""
        self._totals.follow(self.deleted, deleted)
        self._totals.follow(self.examples, examples)
        for outcome, total in engagements.items():
            self._totals.follow(self.engagements.labels(outcome), total)
        for reason, total in features_passed.items():
            self._totals.follow(self.features_passed.labels(reason), total)

    def count_dead_letter(self, topic: str, reason: str) -> None:
        """Count one refused message, by its reason without what it quotes."""
        self._letters.count(topic, reason)


class LearnMetrics(MetricSet):
    """The metrics of the process that learns. Times of examples are those at which their feeds were asked for."""

    def __init__(self) -> None:
        """Declare all metrics."""
        super().__init__()
        self._newest_ms = 0
        self._totals = Totals()
        self._declare_examples()
        self._declare_models()
        for reason in PASSED_OVER:
            self.passed_over.labels(reason)
        self.newest_example_age_seconds.set_function(self._age_s)
        for not_known_yet in (
            self.worse_ratio,
            self.feed_to_model_seconds,
            *(gauge.labels(model) for gauge in (self.loss, self.retrieval_loss) for model in MODELS),
        ):
            not_known_yet.set(math.nan)  # no alert's threshold compares with it

    def _declare_examples(self) -> None:
        registry = self.registry
        self.examples = Counter("foryou_learn_examples", "Examples learned from", registry=registry)
        self.waiting_examples = Gauge(
            "foryou_learn_waiting_examples", "Examples that wait until their interval is full", registry=registry
        )
        self.passed_over = Counter(
            "foryou_learn_passed_over",
            "Examples not learned from: come twice, late, unusable, of deleted users; refused messages hold none",
            ("reason",),
            registry=registry,
        )
        self.newest_example_age_seconds = Gauge(
            "foryou_learn_newest_example_age_seconds",
            "Time since the newest feed that was learned from was asked for",
            registry=registry,
        )
        self.intervals = Counter("foryou_learn_intervals", "Intervals judged and learned from", registry=registry)
        self.interval_seconds = Gauge(
            "foryou_learn_interval_seconds", "Time that judging and learning of the last interval took",
            registry=registry,
        )  # fmt: skip
        self.skipped_steps = Counter(
            "foryou_learn_skipped_steps", "Steps of learning passed over, not being finite", registry=registry
        )

    def _declare_models(self) -> None:
        registry = self.registry
        self.loss = Gauge(
            "foryou_learn_loss",
            "The ranker's loss on the last interval before it was learned from, in nats a head, of the model that is"
            " trained and the best one published",
            ("model",),
            registry=registry,
        )
        self.retrieval_loss = Gauge(
            "foryou_learn_retrieval_loss", "The towers' loss, likewise", ("model",), registry=registry
        )
        self.worse_ratio = Gauge(
            "foryou_learn_worse_ratio",
            "By what share the trained ranker's loss is larger than the best one's, since the last verdict",
            registry=registry,
        )
        self.published = Counter("foryou_learn_published", "Models published", registry=registry)
        self.not_published = Counter(
            "foryou_learn_not_published", "Intervals after which no model was published, and why", ("reason",),
            registry=registry,
        )  # fmt: skip
        self.feed_to_model_seconds = Gauge(
            "foryou_learn_feed_to_model_seconds",
            "Time from the newest feed that the last published model learned from to its publication",
            registry=registry,
        )
        self.ready = Gauge(
            "foryou_learn_ready",
            "Whether a condition of /readyz of the process that learns holds",
            ("condition",),
            registry=registry,
        )

    def take_losses(self, model: str, ranker: float, retrieval: float | None) -> None:
        """Take what `trained` or `best` lost on an interval; None where the towers do not learn."""
        self.loss.labels(model).set(ranker)
        self.retrieval_loss.labels(model).set(math.nan if retrieval is None else retrieval)

    def take_passed_over(self, totals: Mapping[str, int]) -> None:
        """Take how many examples were passed over since the start, by the reasons of PASSED_OVER."""
        for reason, total in totals.items():
            self._totals.follow(self.passed_over.labels(reason), total)

    def take_newest(self, at_ms: int) -> None:
        """Take the time of the newest feed that was learned from, in ms."""
        self._newest_ms = max(self._newest_ms, at_ms)

    def _age_s(self) -> float:
        return time.time() - self._newest_ms / 1000 if self._newest_ms else math.nan
