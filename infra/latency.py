"""Latencies by stage in histograms of fixed size: however long a run, the memory stays the same."""

from typing import Final

import numpy as np

# Buckets grow by 5 %, the error of a percentile, from 1 us to about 100 s.
GROWTH: Final = 1.05
FIRST_S: Final = 1e-6
BUCKETS: Final = 380


class Latencies:
    """Count durations by stage and answer percentiles. Not for several threads at once."""

    def __init__(self) -> None:
        self._counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums_s: dict[str, float] = {}

    def observe(self, stage: str, duration_s: float) -> None:
        """Count one duration, in seconds."""
        counts = self._counts.get(stage)
        if counts is None:
            counts = self._counts[stage] = np.zeros(BUCKETS, np.int64)
            self._sums_s[stage] = 0.0
        bucket = int(np.log(max(duration_s, FIRST_S) / FIRST_S) / np.log(GROWTH))
        counts[min(bucket, BUCKETS - 1)] += 1
        self._sums_s[stage] += duration_s

    def table(self) -> list[dict[str, float | str]]:
        """Return one row a stage, in the order first seen: count, total seconds, p50, p90 and p99 in milliseconds."""
        return [
            {
                "stage": stage,
                "count": int(counts.sum()),
                "total_s": self._sums_s[stage],
                **{f"latency_ms_p{p}": self._percentile_ms(counts, p / 100) for p in (50, 90, 99)},
            }
            for stage, counts in self._counts.items()
        ]

    @staticmethod
    def _percentile_ms(counts: np.ndarray[tuple[int], np.dtype[np.int64]], share: float) -> float:
        bucket = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
        return float(FIRST_S * GROWTH ** (bucket + 0.5) * 1000)
