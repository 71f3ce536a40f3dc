"""What the metrics of every process have in common: a registry, readiness, the text that Prometheus reads, a table."""

import re
from functools import partial
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


class MetricSet:
    """The metrics of one process, in a registry of their own. All methods may be called from any thread."""

    # Whether a condition of /readyz holds, by `condition`.
    ready: Gauge

    def __init__(self) -> None:
        """Make a registry that holds what there is to say of any process."""
        # Else each series brings another for when it began, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def watch_health(self, health: Health) -> None:
        """Show the conditions of readiness as they are whenever the metrics are read."""
        for name in health.conditions:
            self.ready.labels(name).set_function(partial(health.holds, name))

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


class LetterCounts:
    """Counts dead letters by `topic` and `reason`, in no more series than REASONS_MAX reasons make."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, str], Counter] = {}
        self._reasons: set[str] = set()

    def count(self, topic: str, reason: str) -> None:
        """Count one refused message. What the reason quotes, and its numbers, do not make it another reason."""
        child = self._children.get((topic, reason))
        if child is None:
            child = self._counter.labels(topic, self._bounded(reason))
            if len(self._children) < REASONS_MAX * 10:
                self._children[topic, reason] = child
        child.inc()

    def _bounded(self, reason: str) -> str:
        plain = plain_reason(reason)
        if plain in self._reasons:
            return plain
        if len(self._reasons) >= REASONS_MAX:
            return OTHER_REASONS
        self._reasons.add(plain)
        return plain
