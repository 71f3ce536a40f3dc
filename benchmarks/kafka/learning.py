"""From an engagement to a model that has learned from it, beside serving: the case `learning`.

Four processes and a broker: `serve`, `join-examples`, `learn`, and a generator whose people read the feeds that come.
In a quick run they do so five times as fast, and the seconds to be reached are a fifth: it shows that all works.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.kafka.bench import QUICK, RANKED_FEW, SETTLE_S, Bench, Measured, Outcome, Session, Verdict
from benchmarks.kafka.figures import Latency, Spread, latency
from benchmarks.kafka.learning_lags import (
    KINDS_OF_WAIT,
    Trace,
    Waits,
    closing,
    join_lag_s,
    learn_lag,
    read_trace,
    waits,
)
from benchmarks.kafka.plans import Bulk, Seconds
from benchmarks.kafka.processes import Job, Process
from benchmarks.kafka.readers import Readers
from infra.kafka.inbox import Connection
from infra.kafka.topics import Naming
from operators.parameters import DEFAULTS

# The demo's log has 41 served feeds, 68 posts and 830 engagements among 1,000 events. Engagements come of the feeds:
# those ranked for people get 24 each, where those of the log, drawn for many reasons, get 20, so that 37 feeds make as
# many events. The rest are changes of the graph there, and engagements on posts nobody was served here.
EVENTS_HZ: Final = 1_000.0
REQUESTS_HZ: Final = 37.0
ACTS_A_FEED: Final = 24.0
POSTS_HZ: Final = 68.0
REACH_S: Final = 300.0
INACTIVITY_S: Final = 90.0
# As many posts and viewers as --quick has: all live posts are embedded anew for each model, 12 us of CPU time each.
SIZES: Final = QUICK
# What is measured lasts from until people have gone through their first feeds to long before the end.
RAMP_S: Final = 180.0
MEASURED_S: Final = 120.0
WINDOWS: Final = 4
# Half of the default: 14 s, which is the least time between two models.
INTERVAL_EXAMPLES: Final = 512
STEP_EXAMPLES: Final = DEFAULTS.trainer.examples_a_step
# A join may be this much behind the moment at which a feed was to close: it waits 5 s where a partition is quiet.
JOIN_LAG_MAX_S: Final = 7.5
INACTIVITIES_S: Final = (60, 90, 120, 240, 1800)
ALL: Final = "all of the machine: broker and others, too"
FEEDS_DRAWN: Final = 5_000
SLATE: Final = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How much sooner everything happens than people do it: five times in a quick run, so that it lasts two minutes."""

    faster: float

    @property
    def inactivity_s(self) -> int:
        """After which a feed closes."""
        return round(INACTIVITY_S / self.faster)

    @property
    def interval_examples(self) -> int:
        """As many whole steps as last so much shorter, two at least."""
        return max(2, round(INTERVAL_EXAMPLES / STEP_EXAMPLES / self.faster)) * STEP_EXAMPLES

    @property
    def ramp_s(self) -> float:
        """Until engagements come at their rate."""
        return RAMP_S / self.faster

    @property
    def measured_s(self) -> float:
        """For how long it is measured."""
        return MEASURED_S / self.faster

    @property
    def run_s(self) -> float:
        """For how long the load goes on where all is to be learned from that was measured."""
        return (RAMP_S + MEASURED_S + REACH_S) / self.faster


class Learning:
    """`join-examples` and `learn` on a session's topics."""

    def __init__(self, bench: Bench, session: Session, registry: Path, pace: Pace) -> None:
        on = ["--kafka", bench.address, "--prefix", session.prefix, "--log", "json"]
        self.log = bench.new_log("learn")
        inactivity = ["--set", f"learning.inactivity_s={pace.inactivity_s}"]
        join = ["run_flow.py", "join-examples", "--state", str(bench.folder / f"join-{session.prefix}"), *inactivity]
        learn = ["run_flow.py", "learn", "--registry", str(registry), "--checkpoint", str(bench.checkpoint)]
        learn += ["--set", f"trainer.interval_examples={pace.interval_examples}"]
        self.processes = {
            "join-examples": Process([*join, *on], bench.new_log("join")),
            "learn": Process([*learn, *on], self.log),
        }

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each so far. Raises RuntimeError where one has ended."""
        for process in self.processes.values():
            process.check()
        return {name: process.cpu_s() for name, process in self.processes.items()}

    def close(self) -> None:
        """Stop them."""
        for process in self.processes.values():
            if process.runs():
                process.stop()


def learning(bench: Bench) -> Outcome:
    """From an engagement to feeds of a model that has learned from it, at 1,000 events/s; 100,000 posts, 200 ranked."""
    outcome, pace = Outcome(), Pace(1.0 if bench.sizes.window_s > QUICK.window_s else 5.0)
    from_s, to_s = pace.ramp_s, pace.ramp_s + pace.measured_s
    with _session(bench, []) as session:
        alone = _run(session, to_s, pace)
    told = _between(alone, from_s, to_s)
    outcome.add("requests", told.row("without learning"))
    registry = bench.folder / f"models-{time.time_ns()}"
    registry.mkdir()
    with _session(bench, ["--models", str(registry), "--set", "learning.features_enabled=true"]) as session:
        beside = Learning(bench, session, registry, pace)
        with ExitStack() as ends:
            ends.callback(beside.close)
            before_s = beside.cpu_s()
            one = _run(session, pace.run_s, pace)
            taken_s = {name: cpu_s - before_s[name] for name, cpu_s in beside.cpu_s().items()}
            trace = read_trace(Connection(bench.address, Naming(session.prefix)), beside.log)
    # Models are published from about here on.
    from_late_s = min(to_s, pace.run_s - pace.measured_s)
    outcome.add("requests", _between(one, from_late_s, pace.run_s).row("beside learning"))
    _add_cpu(outcome, alone, one, taken_s)
    start_ms = int((one.told.start_s + SETTLE_S) * 1000)
    from_ms, to_ms = (start_ms + int(at_s * 1000) for at_s in (from_s, to_s))
    done_hz = sum(from_ms <= done.at_ms < to_ms for done in trace.done) / pace.measured_s
    events_hz = f"{done_hz + REQUESTS_HZ + POSTS_HZ:,.0f}, of which {done_hz:,.0f} engagements"
    outcome.verdicts.append(Verdict("events/s, requests among them", events_hz, f"about {EVENTS_HZ:,.0f}", None))
    _add_waits(outcome, waits(trace, from_ms, to_ms, pace.inactivity_s), pace)
    _add_lags(outcome, one, trace, pace)
    _add_models(outcome, trace, session.job)
    _add_choices(outcome)
    return outcome


@contextmanager
def _session(bench: Bench, options: list[str]) -> Iterator[Session]:
    bench.end_session()
    session = bench.new_session(SIZES.posts, SIZES.viewers, options=options)
    session.start()
    try:
        yield session
    finally:
        session.close()


def _run(session: Session, duration_s: float, pace: Pace) -> Measured:
    """Let people ask and read, and fill up to the rate of events."""
    others_hz = EVENTS_HZ - REQUESTS_HZ * (1 + ACTS_A_FEED)
    bulk = Bulk(others_hz, -SETTLE_S, duration_s, POSTS_HZ / others_hz)
    return session.run(REQUESTS_HZ, duration_s, RANKED_FEW, (bulk,), pace=pace.faster)


def _between(one: Measured, from_s: float, to_s: float) -> Latency:
    return latency(one.told, SETTLE_S + from_s, SETTLE_S + to_s, WINDOWS)


def _add_cpu(outcome: Outcome, alone: Measured, one: Measured, learning_s: dict[str, float]) -> None:
    """Add what each process takes, in CPU seconds a second: that is for about 1,000 events."""
    beside_s = {"serve": one.job_cpu_s, **learning_s, "the generator": one.told.cpu_s, ALL: one.busy_s}
    without_s = {"serve": alone.job_cpu_s, "the generator": alone.told.cpu_s, ALL: alone.busy_s}
    for name, cpu_s in beside_s.items():
        without = f"{without_s[name] / alone.wall_s:.2f}" if name in without_s else ""
        row = {"process": name, "beside learning": f"{cpu_s / one.wall_s:.2f}", "without": without}
        outcome.add("cores taken: CPU seconds for 1,000 events", row)


def _add_waits(outcome: Outcome, found: Waits, pace: Pace) -> None:
    """Add how long it took."""
    for name, what in KINDS_OF_WAIT.items():
        seconds: Seconds = getattr(found, name)
        row: dict[str, object] = {"seconds from an engagement until": what, "engagements": f"{len(seconds):,}"}
        for percent in (50, 90, 99, 100):
            at = np.percentile(seconds, percent, method="inverted_cdf") if len(seconds) else np.nan
            row["worst" if percent == 100 else f"p{percent}"] = f"{at:.1f}"
        within = float((seconds <= REACH_S).mean()) if len(seconds) else np.nan
        row[f"within {REACH_S:.0f} s"] = f"{within:.1%}"
        row["not by the end"] = int(np.isinf(seconds).sum())
        outcome.add("waits", row)
    if not len(found.served):
        outcome.verdicts.append(Verdict("engagements that were learned from", "none", "", False))
        return
    for name, seconds, percent in (
        ("median from an engagement to feeds of a model that learned it", found.served, 50),
        ("p99", found.served, 99),
        ("p99 from the last act on its feed", found.closing, 99),
    ):
        at_s = float(np.percentile(seconds, percent, method="inverted_cdf"))
        # A run in which people are quicker has the broker and the machine as they are.
        reach, reached = (f"<= {REACH_S:.0f} s", at_s <= REACH_S) if pace.faster == 1 else ("", None)
        outcome.verdicts.append(Verdict(name, f"{at_s:.0f} s", reach, reached))
    more_s = DEFAULTS.learning.inactivity_s - pace.inactivity_s
    usual = f"{np.percentile(found.served, 50, method='inverted_cdf') + more_s:,.0f} s, by arithmetic"
    name = f"the median with inactivity_s at its default of {DEFAULTS.learning.inactivity_s:,}"
    outcome.verdicts.append(Verdict(name, usual, "", None))
    share = found.late / max(1, found.late + len(found.served))
    outcome.verdicts.append(Verdict("engagements on a feed that had closed", f"{share:.2%}", "", None))


def _add_lags(outcome: Outcome, one: Measured, trace: Trace, pace: Pace) -> None:
    """Add how far behind each consumer was, in the thirds of the time in which all of them had work."""
    start_s = one.told.start_s + SETTLE_S
    edges = start_s + np.linspace(pace.ramp_s + pace.inactivity_s, pace.run_s, 4)
    bounds = {
        "serve: messages not read": (_serve_lag(one, start_s), EVENTS_HZ),
        "join-examples: seconds from when a feed was to close": (join_lag_s(trace), JOIN_LAG_MAX_S),
        "learn: examples not learned from, at the ends of intervals": (learn_lag(trace), pace.interval_examples),
    }
    for what, ((at_s, lag), bound) in bounds.items():
        row: dict[str, object] = {"consumer": what}
        medians = []
        for third in range(3):
            part = lag[(at_s >= edges[third]) & (at_s < edges[third + 1])]
            medians.append(float(np.median(part)) if len(part) else np.inf)
            row[f"third {third + 1}, median (most)"] = f"{medians[-1]:,.1f} ({max(part, default=np.inf):,.1f})"
        outcome.add("lags", row)
        name = f"{what.partition(':')[0]} keeps up: its last third's lag"
        reached = medians[2] <= max(medians[0], bound)
        outcome.verdicts.append(Verdict(name, f"{medians[2]:,.1f}", f"<= {max(medians[0], bound):,.1f}", reached))


def _add_models(outcome: Outcome, trace: Trace, job: Job) -> None:
    """Add how many models there were, and how long serving took to take one up."""
    published = sum(1 for end in trace.ended if end.published is not None)
    told = f"{published} models in {len(trace.ended)} intervals, of which {len(trace.served_ms) - 1} had feeds"
    outcome.verdicts.append(Verdict("published", told, "", None))
    took_s = [float(line["seconds"]) for line in job.logged("model_taken_up")]
    measured = f"{Spread.of(took_s).text()} s, {len(took_s)} models"
    outcome.verdicts.append(Verdict("taking one up, median (least to most)", measured, "", None))


def _add_choices(outcome: Outcome) -> None:
    """Add what other settings of `learning.inactivity_s` would do to what the same people do, with no machine in it."""
    rng = np.random.default_rng(0)
    people, slates = Readers(SIZES.posts, 1.0, rng), rng.integers(1, SIZES.posts + 1, (FEEDS_DRAWN, SLATE)).tolist()
    feeds = [[at_s for at_s, _, _ in people.read(viewer, slate, 0.0)] for viewer, slate in enumerate(slates)]
    for inactivity_s in INACTIVITIES_S:
        waits_s, late = closing(feeds, inactivity_s)
        row: dict[str, object] = {"learning.inactivity_s": inactivity_s}
        row["engagements that come too late"] = f"{late / (late + len(waits_s)):.2%}"
        for name, at_s in zip(("median", "p90", "p99"), np.percentile(waits_s, (50, 90, 99)).tolist(), strict=True):
            row[f"{name} s until the feed closes"] = f"{at_s:.0f}"
        outcome.add("what inactivity_s does to feeds of posts at random, no machine in it", row)


def _serve_lag(one: Measured, start_s: float) -> tuple[Seconds, Seconds]:
    at_s, lag = (np.array([sample[column] for sample in one.lags], float) for column in (0, 1))
    return start_s + at_s, lag
