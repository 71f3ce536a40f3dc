"""Start, instances and sizes: the cases about what grows."""

import math

from benchmarks.kafka.bench import RANKED_FEW, Bench, Outcome, Overrides, Session, Verdict
from benchmarks.kafka.figures import Spread
from benchmarks.kafka.plans import Bulk
from benchmarks.kafka.worlds import POSTS_PER_CHUNK

# As a million posts in two days come, 5.8 a second: polls that bring any bring one, or a few.
FEW_POSTS = 3
ONE_CORE_HZ = 10.0
COST_HZ = 20.0
# Fewer authors have few posts for Thunder; retrieval fills up, so that every size ranks 200.
COST_PARAMETERS: Overrides = {**RANKED_FEW, "thunder.posts_max": 100, "retrieval.posts_max": 250}
# How much of a difference between two costs is none: what repeated windows of the same run differ by.
NOISE = 1.25


def start(bench: Bench) -> Outcome:
    """Start to ready after kill -9, with 1 M viewers; posts that came in a few at a time, and in large batches."""
    outcome, sizes = Outcome(), bench.sizes
    bench.end_session()
    for what, at_once in (("3 at a time", FEW_POSTS), ("2,048 at a time", POSTS_PER_CHUNK)):
        session = bench.new_session(sizes.posts, sizes.many_viewers, posts_at_once=at_once)
        try:
            session.start()
            session.run(5.0, 2.0, RANKED_FEW, (Bulk(1000.0, 0.0, 2.0, 0.1),))
            session.kill()
            found = session.start()
            times = session.job.log_times_s()
        finally:
            session.close()
        conditions = {f"{name} holds, s": f"{at_s:.1f}" for name, at_s in found.conditions_s.items()}
        logged = {f"log: {name}": f"{at_s:.1f}" for name, at_s in times.items() if name in ("beginning", "ready")}
        outcome.add("seconds from the start of the process", {"posts taken in": what, **conditions, **logged})
        outcome.verdicts.append(
            Verdict(f"start to ready, posts taken in {what}", f"{found.ready_s:.1f} s", "<= 20 s", found.ready_s <= 20)
        )
    return outcome


def _cost_ms(session: Session, requests_hz: float, parameters: Overrides) -> Spread:
    """Return CPU milliseconds a feed of the instances, in windows, without what they take when idle."""
    sizes = session.bench.sizes
    session.run(requests_hz, sizes.window_s, parameters)
    idle = session.idle_cores()
    costs = []
    for _ in range(sizes.windows):
        one = session.run(requests_hz, sizes.window_s, parameters)
        costs.append((one.job_cpu_s - idle * one.wall_s) / max(1, one.feeds) * 1000)
    return Spread.of(costs)


def instances(bench: Bench) -> Outcome:
    """Two instances against one, each with a core and a thread of its own, 1,500 ranked."""
    outcome, sizes = Outcome(), bench.sizes
    bench.end_session()
    costs, whole = {}, {}
    for count in (1, 2):
        session = bench.new_session(sizes.posts, sizes.viewers, count, pinned=True)
        try:
            session.start()
            idle = session.idle_cores()
            session.run(ONE_CORE_HZ * count, sizes.window_s)
            one = session.run(ONE_CORE_HZ * count, sizes.window_s * sizes.windows)
        finally:
            session.close()
        costs[count] = one.job_cpu_s / one.feeds
        whole[count] = one.latency.whole_share
        row = one.latency.row(f"{count}, {ONE_CORE_HZ * count:g} requests/s")
        outcome.add("instances", row | {"CPU ms/feed": f"{costs[count] * 1000:.1f}", "idle cores": f"{idle:.3f}"})
    gain = 2 * costs[1] / costs[2]
    measured = f"{gain:.2f} ({costs[1] * 1000:.1f} and {costs[2] * 1000:.1f} CPU ms a feed)"
    reached = gain >= 1.8 and min(whole.values()) == 1
    outcome.verdicts.append(Verdict("feeds of two cores over those of one, by CPU time", measured, ">= 1.8", reached))
    return outcome


def scale(bench: Bench) -> Outcome:
    """CPU time a feed by viewers and by live posts, 200 ranked."""
    outcome, scales = Outcome(), bench.sizes.scales
    middle = scales[len(scales) // 2]
    costs: dict[tuple[int, int], Spread] = {}
    for posts, viewers in dict.fromkeys([*((middle, one) for one in scales), *((one, middle) for one in scales)]):
        costs[posts, viewers] = _cost_ms(bench.session(posts, viewers), COST_HZ, COST_PARAMETERS)
        row = {"live posts": f"{posts:,}", "viewers": f"{viewers:,}", "CPU ms/feed": costs[posts, viewers].text()}
        outcome.add("cost", row)
    first, last = scales[0], scales[-1]
    by_viewers = costs[middle, last].median / costs[middle, first].median
    what = f"cost with {last:,} viewers over {first:,}"
    outcome.verdicts.append(Verdict(what, f"{by_viewers:.2f}", f"1, up to {NOISE}", by_viewers <= NOISE))
    by_posts, logs = costs[last, middle].median / costs[first, middle].median, math.log(last) / math.log(first)
    what = f"cost with {last:,} live posts over {first:,}"
    outcome.verdicts.append(Verdict(what, f"{by_posts:.2f}", f"<= {logs:.2f}, as log grows", by_posts <= logs))
    return outcome
