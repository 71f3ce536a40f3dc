"""Events beside requests: the cases about bulk load, bursts and commits."""

import numpy as np

from benchmarks.kafka.bench import RANKED_FEW, SETTLE_S, Bench, Measured, Outcome, Verdict
from benchmarks.kafka.cases import latency_row
from benchmarks.kafka.figures import Spread, histogram, latency
from benchmarks.kafka.plans import Bulk

REQUESTS_HZ = 20.0
POSTS_SHARE = 0.1  # of bulk, as in benchmarks/ingest.py
EVENTS_HZ = 10_000.0
STALL_EVENTS_HZ = 5_000.0
BURST_HZ = 20_000.0
# Bulk that is not read yet at any moment of a steady stream: a second of it is far from growing without end.
LAG_MAX_S = 1.0


def _events_hz(one: Measured, duration_s: float) -> float:
    """Return the bulk events that the job read, a second of the time they were sent in."""
    topics = ("posts", "engagements")
    read = sum(one.after[key] - one.before.get(key, 0) for topic in topics
               if (key := f'foryou_events_total{{topic="{topic}"}}') in one.after)  # fmt: skip
    return read / duration_s


def events(bench: Bench) -> Outcome:
    """10,000 engagements and posts a second beside 20 requests a second, 200 ranked."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    duration_s = sizes.window_s * sizes.windows
    bulk = Bulk(EVENTS_HZ, -SETTLE_S, duration_s, POSTS_SHARE)
    session.run(REQUESTS_HZ, duration_s / 2, RANKED_FEW, (Bulk(EVENTS_HZ, -SETTLE_S, duration_s / 2),))  # warm up
    for what, load in (("without", ()), ("beside 10,000 events/s", (bulk,))):
        one = session.run(REQUESTS_HZ, duration_s, RANKED_FEW, load)
        outcome.add("requests", latency_row(what, one))
    lags = np.array([lag for at_s, lag in one.lags if 0 <= at_s < duration_s])
    first, last = (float(np.median(part)) if len(part) else np.nan for part in np.array_split(lags, 2))
    events_hz = _events_hz(one, duration_s + SETTLE_S)
    reached = events_hz >= 0.99 * EVENTS_HZ and last <= max(first, LAG_MAX_S * EVENTS_HZ)
    measured = f"{events_hz:,.0f}/s; lag {first:,.0f}, later {last:,.0f} messages, most {lags.max(initial=0):,.0f}"
    outcome.verdicts.append(Verdict("events/s beside 20 requests/s, no lag growth", measured, ">= 10,000", reached))
    late = f"{one.told.bulk_late_s * 1000:.0f} ms"
    outcome.verdicts.append(Verdict("the generator's own delay of bulk, at most", late, "", None))
    return outcome


def stall(bench: Bench) -> Outcome:
    """Commits with 1 M viewers in the store and 5,000 events a second, 200 ranked."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.many_viewers)
    duration_s = sizes.window_s * sizes.windows
    session.run(REQUESTS_HZ, duration_s / 2, RANKED_FEW, (Bulk(STALL_EVENTS_HZ, -SETTLE_S, duration_s / 2),))  # warm up
    bulk = Bulk(STALL_EVENTS_HZ, -SETTLE_S, duration_s, POSTS_SHARE)
    runs = {"without": session.run(REQUESTS_HZ, duration_s, RANKED_FEW)}
    runs["beside 5,000 events/s"] = session.run(REQUESTS_HZ, duration_s, RANKED_FEW, (bulk,))
    for what, one in runs.items():
        outcome.add("requests", latency_row(what, one))
        stood = histogram(one.before, one.after, "foryou_commit_stall_seconds")
        wrote = histogram(one.before, one.after, "foryou_commit_seconds").text()
        outcome.add("commits, ms", {"what": what, "flow stands still": stood.text(), "writing, beside it": wrote})
    outcome.verdicts.append(
        Verdict("p99 of the stall at an epoch's end", f"{stood.p99_ms:.1f} ms", "<= 20 ms", stood.p99_ms <= 20)
    )
    with_events, without = (runs[key].latency.p99.median for key in ("beside 5,000 events/s", "without"))
    added_ms = with_events - without
    outcome.verdicts.append(
        Verdict("p99 added to requests", f"{added_ms:.1f} ms ({without:.1f} to {with_events:.1f})", "<= 20 ms",
                added_ms <= 20)
    )  # fmt: skip
    return outcome


def burst(bench: Bench) -> Outcome:
    """20,000 engagements a second for 10 s beside requests, 200 ranked."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    calm_s, burst_s = 2 * sizes.window_s, min(10.0, 2 * sizes.window_s)
    usual, during, drained_s = [], [], []
    session.run(REQUESTS_HZ, burst_s, RANKED_FEW, (Bulk(BURST_HZ / 2, 0.0, burst_s),))  # warm up
    for _ in range(max(3, sizes.windows // 2)):
        bulk = Bulk(BURST_HZ, calm_s, calm_s + burst_s)
        one = session.run(REQUESTS_HZ, calm_s + 2 * burst_s, RANKED_FEW, (bulk,))
        edges = [SETTLE_S, SETTLE_S + calm_s, SETTLE_S + calm_s + burst_s]
        usual.append(latency(one.told, edges[0], edges[1], 1))
        during.append(latency(one.told, edges[1], edges[2], 1))
        behind = [at_s for at_s, lag in one.lags if lag > BURST_HZ * LAG_MAX_S]
        drained_s.append(max([0.0, *(at_s - calm_s - burst_s for at_s in behind)]))
    for what, found in (("usual", usual), ("during the burst", during)):
        p50, p99 = (Spread.of([getattr(one, name).median for one in found]) for name in ("p50", "p99"))
        row = {
            "what": what,
            "p50 ms": p50.text(),
            "p99 ms": p99.text(),
            "max ms": f"{max(one.max_ms for one in found):.0f}",
        }
        outcome.add("requests", row)
    ratio = Spread.of([late.p99.median / early.p99.median for early, late in zip(usual, during, strict=True)])
    outcome.verdicts.append(Verdict("p99 during the burst over the usual", ratio.text(2), "<= 2", ratio.median <= 2))
    drained = Spread.of(drained_s)
    outcome.verdicts.append(Verdict("seconds until the burst is taken in, after it", drained.text(), "", None))
    return outcome
