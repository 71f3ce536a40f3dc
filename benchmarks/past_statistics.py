"""What was known at each of many impressions, and nothing later: features of the trees that Phoenix stands beside.

An impression is known as shown from its own time on, what came of it from `known_ms` on, when the video had been
played. Every statistic of a row is a difference of two running sums, both of outcomes known before the row's time, so
a row can't see itself, its own outcome or anything later (tests/benchmarks/test_past_statistics.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
# The outcomes of this many latest impressions of a viewer are features one by one.
LATEST: Final = 5
# Made-up impressions at the mean rate in a smoothed rate; the trees also see the counts, so that it matters little.
SMOOTHING: Final = 10.0
# Running sums are of whole numbers of these steps: exact, so that what follows a row can't even show in its rounding.
STEP: Final = 2.0**-20


@dataclass(frozen=True, slots=True)
class Impressions:
    """n impressions in order of time: when shown, when their outcome was known, the outcomes, and whose they are.

    `at_ms`, `known_ms` i64[n] with known > at; `outcomes` f64[n, K], all between 0 and 1; `groups` by name i64[n], the
    number of the viewer, video, ... of each row; `own` f64[n, F], what is known of a row by itself (hour, length, ...).
    """

    at_ms: I64
    known_ms: I64
    outcomes: F64
    groups: dict[str, I64]
    own: F64
    outcome_names: tuple[str, ...]
    own_names: tuple[str, ...]

    def first(self, count: int) -> "Impressions":
        """Return the impressions as they were after the first `count`."""
        return Impressions(
            self.at_ms[:count],
            self.known_ms[:count],
            self.outcomes[:count],
            {name: ids[:count] for name, ids in self.groups.items()},
            self.own[:count],
            self.outcome_names,
            self.own_names,
        )


class Timeline:
    """Rows sorted by group and time, to be asked for those of a group before (or between) times."""

    def __init__(self, group: I64, at_ms: I64) -> None:
        self._start_ms = int(at_ms.min())
        self._span_ms = int(at_ms.max()) - self._start_ms + 2
        self.order = np.lexsort((at_ms, group))
        self._keys = self._key(group, at_ms)[self.order]

    def _key(self, group: I64, at_ms: I64) -> I64:
        return group * self._span_ms + np.clip(at_ms - self._start_ms, 0, self._span_ms - 1)

    def before(self, group: I64, at_ms: I64) -> I64:
        """Return how many rows stand before the first row of the group that is not earlier than the time."""
        return np.searchsorted(self._keys, self._key(group, at_ms), side="left")


@dataclass(frozen=True, slots=True)
class Past:
    """What was known of one group at each row: how many outcomes, and their sums f64[n, K]."""

    count: F64
    sums: F64

    def rates(self, prior: F64, smoothing: float = SMOOTHING) -> F64:
        """Return the rates [n, K], smoothed towards `prior` [n, K]."""
        return (self.sums + smoothing * prior) / (self.count[:, None] + smoothing)


def past(group: I64, at_ms: I64, known_ms: I64, values: F64, window_ms: int | None = None) -> Past:
    """Return count and sums of `values` f64[n, K] known of each row's group before it, within a window if given."""
    line = Timeline(group, known_ms)
    steps = np.rint(values[line.order] / STEP).astype(np.int64)
    running = np.concatenate([np.zeros((1, values.shape[1]), np.int64), np.cumsum(steps, axis=0)])
    end = line.before(group, at_ms)
    start = line.before(group, at_ms - window_ms if window_ms else np.full_like(at_ms, np.iinfo(np.int64).min // 4))
    return Past((end - start).astype(np.float64), (running[end] - running[start]) * STEP)


def latest(group: I64, at_ms: I64, known_ms: I64, values: F64, count: int) -> F64:
    """Return the last `count` known values of each row's group [n, count, K], the newest first, NaN where none."""
    line = Timeline(group, known_ms)
    end = line.before(group, at_ms)
    start = line.before(group, np.full_like(at_ms, np.iinfo(np.int64).min // 4))
    place = end[:, None] - 1 - np.arange(count)
    found: F64 = values[line.order][np.maximum(place, 0)]
    found[place < start[:, None]] = np.nan
    return found


def features(
    rows: Impressions, pairs: Sequence[tuple[str, str]], lately: Sequence[str], frequent: int
) -> tuple[F64, list[str]]:
    """Return the features f64[n, F] and their names.

    For each group: how often it was shown, how often the outcome was known, and smoothed rates of all outcomes. For
    the groups of `lately` within the last day, and for `pairs` of groups counted together (viewer and tag), the same
    with the first `frequent` outcomes. Then what the viewer did more or less than the videos' rates had led to expect,
    the latest outcomes of the viewer one by one, the times since, and `own`. There must be groups called viewer and
    video.
    """
    everything = np.zeros(len(rows.at_ms), np.int64)
    prior = past(everything, rows.at_ms, rows.known_ms, rows.outcomes).rates(np.full_like(rows.outcomes, 0.1))
    columns, names = [rows.own], list(rows.own_names)
    often = slice(0, frequent)
    asked: list[tuple[str, I64, int | None, slice]] = [
        (name, group, None, slice(None)) for name, group in rows.groups.items()
    ]
    asked += [(f"{name} of a day", rows.groups[name], DAY_MS, often) for name in lately]
    asked += [(f"{a} x {b}", _paired(rows.groups[a], rows.groups[b]), None, often) for a, b in pairs]
    expected = prior
    for name, group, window_ms, some in asked:
        known = past(group, rows.at_ms, rows.known_ms, rows.outcomes[:, some], window_ms)
        shown = past(group, rows.at_ms, rows.at_ms, rows.outcomes[:, :0], window_ms)
        rates = known.rates(prior[:, some])
        columns += [shown.count[:, None], known.count[:, None], rates]
        names += [f"{name} {what}" for what in ("shown", "known", *rows.outcome_names[some])]
        expected = rates if name == "video" else expected
    viewer, outcomes = rows.groups["viewer"], rows.outcomes[:, often]
    beyond = outcomes - expected[:, often]
    columns.append(past(viewer, rows.at_ms, rows.known_ms, beyond).rates(np.zeros_like(beyond)))
    names += [f"viewer beyond video {outcome}" for outcome in rows.outcome_names[often]]
    columns.append(latest(viewer, rows.at_ms, rows.known_ms, outcomes, LATEST).reshape(len(outcomes), -1))
    names += [f"latest {back} {outcome}" for back in range(LATEST) for outcome in rows.outcome_names[often]]
    before_ms = latest(viewer, rows.at_ms, rows.at_ms, rows.at_ms[:, None].astype(np.float64), LATEST)[:, :, 0]
    columns.append(rows.at_ms[:, None] - before_ms)
    names += [f"ms since shown {back}" for back in range(LATEST)]
    return np.concatenate(columns, axis=1), names


def _paired(one: I64, other: I64) -> I64:
    """Return a number for each pair of numbers."""
    return one * (int(other.max()) + 1) + other
