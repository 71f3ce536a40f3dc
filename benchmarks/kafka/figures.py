"""From a run to figures: percentiles by window with their spread, and what the job's histograms say in between."""

import itertools
import re
from typing import Final, NamedTuple

import numpy as np

from benchmarks.kafka.plans import Seconds, Told
from benchmarks.kafka.processes import Metrics

PERCENTILES: Final = (50, 90, 99)


class Spread(NamedTuple):
    """The median of several windows, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Seconds | list[float]) -> "Spread":
        """Return the spread of some values, NaN where there are none."""
        found = np.asarray(values, float)
        found = found[np.isfinite(found)]
        return (
            cls(float(np.median(found)), float(found.min()), float(found.max())) if len(found) else cls(*[np.nan] * 3)
        )

    def text(self, digits: int = 1) -> str:
        """Return "12.3 (11.9 to 14.0)"."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.most:.{digits}f})"


class Latency(NamedTuple):
    """Latencies of a stretch of a run, in ms, over its windows; one that never came counts as infinite."""

    p50: Spread
    p90: Spread
    p99: Spread
    max_ms: float
    feeds_hz: float
    lost: int
    whole_share: float
    ranked: float
    late_ms: float  # the most that a request was sent after its time: what the generator itself adds

    def row(self, what: str) -> dict[str, object]:
        """Return a row of the table of latencies."""
        return {
            "what": what,
            "p50 ms": self.p50.text(),
            "p90 ms": self.p90.text(),
            "p99 ms": self.p99.text(),
            "max ms": f"{self.max_ms:.0f}",
            "feeds/s": f"{self.feeds_hz:.1f}",
            "ranked": f"{self.ranked:.0f}",
            "whole": f"{self.whole_share:.1%}",
            "unanswered": self.lost,
        }


def latency(told: Told, from_s: float, to_s: float, windows: int) -> Latency:
    """Return the latencies of requests due between two times, in so many windows."""
    edges = np.linspace(from_s, to_s, windows + 1)
    # Trials without a like have no time of their own.
    mine = (told.due >= from_s) & (told.due < to_s)
    ms = np.where(np.isnan(told.received), np.inf, told.received - told.due)[mine] * 1000
    due = told.due[mine]
    parts = [ms[(due >= first) & (due < last)] for first, last in itertools.pairwise(edges.tolist())]
    p50, p90, p99 = (Spread.of([_percentile(part, one) for part in parts if len(part)]) for one in PERCENTILES)
    answered = np.isfinite(ms)
    return Latency(
        p50,
        p90,
        p99,
        max_ms=float(ms.max(initial=0)),
        feeds_hz=float(answered.sum()) / (to_s - from_s),
        lost=int((~answered).sum()),
        whole_share=float(told.whole[mine].mean()) if mine.any() else 0.0,
        ranked=float(np.nanmedian(told.ranked[mine])) if answered.any() else 0.0,
        late_ms=float(np.nanmax(told.sent[mine] - due, initial=0) * 1000),
    )


def _percentile(values: Seconds, percent: int) -> float:
    """Return the value that so many percent do not exceed; never between two of them, of which one may be infinite."""
    return float(np.sort(values)[max(0, int(np.ceil(len(values) * percent / 100)) - 1)])


class Histogram(NamedTuple):
    """What a histogram of the job counted between two looks: mean and percentiles in ms, from its buckets."""

    observed: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float  # the upper end of the last bucket that holds anything

    def text(self) -> str:
        """Return "mean 3.1, p99 < 7.5"."""
        return f"mean {self.mean_ms:.1f}, p50 {self.p50_ms:.1f}, p99 {self.p99_ms:.1f}, max <= {self.max_ms:g}"


def histogram(before: Metrics, after: Metrics, name: str, label: str = "") -> Histogram:
    """Return what a histogram (`foryou_stage_seconds`), and one label of it (`stage="rank"`), counted in between."""
    inner = f",{label}" if label else ""
    pattern = re.compile(re.escape(f"{name}_bucket{{") + r'le="([^"]+)"' + re.escape(f"{inner}}}"))
    bounds = {key: float(found[1]) for key in after if (found := pattern.fullmatch(key))}
    keys = sorted(bounds, key=lambda key: bounds[key])
    counts = np.array([after[key] - before.get(key, 0) for key in keys])
    end = f"{{{label}}}" if label else ""
    total = after[f"{name}_count{end}"] - before.get(f"{name}_count{end}", 0)
    sum_s = after[f"{name}_sum{end}"] - before.get(f"{name}_sum{end}", 0)
    if not total:
        return Histogram(0, np.nan, np.nan, np.nan, np.nan)
    upper = np.array([bounds[key] for key in keys])
    lower = np.concatenate([[0], upper[:-1]])
    p50, p99 = (_between(counts, lower, upper, share * total) for share in (0.5, 0.99))
    last = upper[int(np.searchsorted(counts, total))]
    return Histogram(int(total), sum_s / total * 1000, p50 * 1000, p99 * 1000, float(last) * 1000)


def _between(counts: Seconds, lower: Seconds, upper: Seconds, rank: float) -> float:
    place = int(np.searchsorted(counts, rank))
    below = counts[place - 1] if place else 0.0
    if not np.isfinite(upper[place]):
        return float(lower[place])
    return float(lower[place] + (upper[place] - lower[place]) * (rank - below) / (counts[place] - below))
