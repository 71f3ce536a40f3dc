"""`python -m benchmarks.kafka.soak [--minutes 60]`: the job at half of what it is built for, for long.

Prints the resident memory of the job every minute and the latencies of every tenth of the time. Ends with status 1
where the memory of the last third is more than 5 % above that of the second, or a request had no feed: the first third
is for caches to fill.
"""

import argparse
import sys
from typing import Final

import numpy as np

from benchmarks.kafka.bench import QUICK, SETTLE_S, Bench, Measured, Session
from benchmarks.kafka.plans import Bulk, Seconds
from benchmarks.kafka.worlds import SPAN_MS
from flows.options import checkpoint_path
from flows.terminal import console, rows_table
from infra.kafka import KafkaRefused

# Half of the 50 feeds a second, 1,500 ranked, that `many` asks for.
REQUESTS_HZ: Final = 25.0
# A few engagements for each request. The broker keeps them all: 300 MB in an hour.
EVENTS_HZ: Final = 250.0
TENTHS: Final = 10
# The generator makes all messages of a run before the first, so a run is short; the load pauses 10 s between two.
RUN_S: Final = 60.0
GROWTH_MAX: Final = 0.05
MIB: Final = 1 << 20


def soak(session: Session, minutes: float, requests_hz: float, events_hz: float) -> bool:
    """Let the load go on for so long; print what comes of it and return whether all is well."""
    tenth_s = minutes * 60 / TENTHS
    runs = max(1, round(tenth_s / RUN_S))
    # As many new posts as make a world of this age.
    posts_share = min(1.0, session.posts / (SPAN_MS / 1000) / events_hz)
    memory: list[float] = []
    rows: list[dict[str, object]] = []
    lost = 0
    for tenth in range(1, TENTHS + 1):
        found = []
        for _ in range(runs):
            bulk = Bulk(events_hz, 0.0, tenth_s / runs, posts_share)
            one = session.run(requests_hz, tenth_s / runs, bulk=(bulk,))
            found.append(_latencies_ms(one))
            memory.append(session.job.memory_bytes() / MIB)
            console.print(f"{len(memory) * tenth_s / runs / 60:.1f} min: {memory[-1]:,.0f} MiB")
        ms = np.concatenate(found)
        lost += int(np.isinf(ms).sum())
        p50, p99 = np.percentile(ms, (50, 99), method="inverted_cdf")
        rows.append({"tenth": tenth, "requests": len(ms), "p50 ms": f"{p50:.1f}", "p99 ms": f"{p99:.1f}",
                     "max ms": f"{ms.max():.0f}", "MiB": f"{memory[-1]:,.0f}"})  # fmt: skip
    console.print(rows_table(f"{requests_hz:g} requests/s beside {events_hz:g} events/s", rows))
    _, second, last = (float(np.median(part)) for part in np.array_split(memory, 3))
    growth = last / second - 1
    console.print(f"memory: {second:,.0f} MiB in the second third, {last:,.0f} in the last ({growth:+.1%}); "
                  f"{lost} requests without a feed")  # fmt: skip
    return growth <= GROWTH_MAX and not lost


def _latencies_ms(one: Measured) -> Seconds:
    """Return the latencies of a run once it has settled, infinite for a request without a feed."""
    told = one.told
    settled = told.due >= SETTLE_S
    ms = (told.received - told.due)[settled] * 1000
    return np.where(np.isnan(ms), np.inf, ms)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kafka.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="how long the load goes on (60)")
    parser.add_argument("--requests", type=float, default=REQUESTS_HZ, help=f"a second ({REQUESTS_HZ:g})")
    parser.add_argument("--events", type=float, default=EVENTS_HZ, help=f"a second ({EVENTS_HZ:g})")
    parser.add_argument("--posts", type=int, default=QUICK.posts, help=f"live posts ({QUICK.posts:,})")
    parser.add_argument("--viewers", type=int, default=QUICK.viewers, help=f"viewers ({QUICK.viewers:,})")
    parser.add_argument("--model", default="demo", help="a checkpoint")
    told = parser.parse_args()
    try:
        with Bench(QUICK, checkpoint_path(told.model)) as bench:
            session = bench.session(told.posts, told.viewers)
            if not soak(session, told.minutes, told.requests, told.events):
                sys.exit(1)
    except KafkaRefused as refused:
        sys.exit(f"error: {refused}")


if __name__ == "__main__":
    main()
