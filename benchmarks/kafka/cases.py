"""From request to feed, and from a like to its effect: the cases about latency without other events."""

from benchmarks.kafka.bench import RANKED_FEW, Bench, Measured, Outcome, Overrides, Verdict
from benchmarks.kafka.figures import histogram
from operators.parameters import DEFAULTS

RATES_HZ = (10, 20, 50)
# The part of a request that is the model's: the viewer's vector for the index, and the ranking.
MODEL_STAGES = ("embed_viewer", "rank")
TRIALS_HZ = 10.0
# Half as much again as two cores rank with the broker and the generator on them.
OVERLOAD_HZ = 80.0
SERVING = DEFAULTS.serving


def stages_of(one: Measured) -> list[str]:
    """Return the stages that the job tells of, in the order of their names."""
    marks = (name.partition('stage="')[2].partition('"')[0] for name in one.after if "stage_seconds_count" in name)
    return list(marks)


def latency_row(what: str, one: Measured) -> dict[str, object]:
    """Return a row of the table of latencies."""
    return one.latency.row(what) | {
        "job CPU ms/feed": f"{one.job_cpu_s / max(1, one.feeds) * 1000:.1f}",
        "machine's busy cores": f"{one.busy_s / one.wall_s:.2f}",
        "sent late ms": f"{one.latency.late_ms:.1f}",
    }


def _stage(one: Measured, stage: str) -> float:
    return histogram(one.before, one.after, "foryou_stage_seconds", f'stage="{stage}"').mean_ms


def _feeds(bench: Bench, parameters: Overrides) -> tuple[Outcome, list[tuple[int, Measured]]]:
    """Return the tables of latencies and stages at every rate, with the floor at the last of them."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    duration_s = sizes.window_s * sizes.windows
    session.run(RATES_HZ[0], sizes.window_s, parameters)  # for the memory that a process takes once
    runs = [(rate, session.run(rate, duration_s, parameters)) for rate in RATES_HZ]
    for rate, one in runs:
        outcome.add("latency", latency_row(f"{rate} requests/s", one))
    for stage in stages_of(runs[0][1]):
        found = {
            f"{rate}/s": histogram(one.before, one.after, "foryou_stage_seconds", f'stage="{stage}"').text()
            for rate, one in runs
        }
        outcome.add("stages of the job, ms", {"stage": stage, **found})
    floor = bench.floor(RATES_HZ[-1], duration_s / 2, int(runs[-1][1].told.feed_bytes))
    outcome.add("latency", floor.row(f"floor: an echo, {RATES_HZ[-1]} requests/s"))
    return outcome, runs


def many(bench: Bench) -> Outcome:
    """Request to feed, 1,500 candidates ranked."""
    outcome, runs = _feeds(bench, {})
    for rate, one in runs:
        what = f"p99 at {rate} requests/s, {one.latency.ranked:.0f} ranked"
        reached = one.latency.p99.median <= 100 and not one.latency.lost
        outcome.verdicts.append(Verdict(what, f"{one.latency.p99.text()} ms", "<= 100 ms", reached))
    for rate, one in runs:
        model_ms, all_ms = sum(_stage(one, stage) for stage in MODEL_STAGES), _stage(one, "end_to_end")
        share = all_ms / model_ms - 1
        what = f"time outside the model at {rate}/s over the model's (means)"
        measured = f"{share:.2f} ({all_ms - model_ms:.1f} over {model_ms:.1f} ms)"
        outcome.verdicts.append(Verdict(what, measured, "<= 0.5", share <= 0.5))
    last = runs[-1][1].latency
    measured = f"{last.feeds_hz:.1f}, {last.whole_share:.1%} in full"
    # A run ends between two feeds.
    reached = last.feeds_hz >= 49.5 and last.whole_share == 1
    outcome.verdicts.append(Verdict("feeds/s", measured, ">= 50", reached))
    return outcome


def few(bench: Bench) -> Outcome:
    """The same with 200 candidates ranked."""
    outcome, runs = _feeds(bench, RANKED_FEW)
    for rate, one in runs:
        what = f"p99 at {rate} requests/s, {one.latency.ranked:.0f} ranked"
        reached = one.latency.p99.median <= 30 and not one.latency.lost
        outcome.verdicts.append(Verdict(what, f"{one.latency.p99.text()} ms", "<= 30 ms", reached))
    return outcome


def overload(bench: Bench) -> Outcome:
    """More requests than can be ranked, 200 candidates each, without and with giving up sooner in a standing queue."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    medians_ms = []
    for what, target_ms in (
        ("late after the deadline alone", SERVING.deadline_ms),
        ("as it is", SERVING.wait_target_ms),
    ):
        asked = {**RANKED_FEW, "serving.wait_target_ms": target_ms}
        one = session.run(OVERLOAD_HZ, sizes.window_s * sizes.windows, asked)
        outcome.add("overload", latency_row(f"{OVERLOAD_HZ:g} requests/s, {what}", one))
        medians_ms.append(one.latency.p50.median)
    share = f"{medians_ms[1] / medians_ms[0]:.2f}"
    outcome.verdicts.append(Verdict("median as it is over that with the deadline alone", share, "", None))
    return outcome


def effects(bench: Bench) -> Outcome:
    """A like on Kafka to the first feed without the liked post (previously_seen_backup drops it), 200 ranked."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    again: Overrides = {**RANKED_FEW, "filters.served_every_request": False}
    one = session.run(TRIALS_HZ, sizes.window_s * sizes.windows, again, effects=True)
    outcome.add("like to its effect", latency_row(f"{TRIALS_HZ:g} trials/s", one))
    tries = one.told.tries[one.told.tries > 0]
    at_once = float((tries == 1).mean()) if len(tries) else 0.0
    measured = f"{one.latency.p99.text()} ms; {at_once:.0%} in the first feed asked for beside the like"
    reached = one.latency.p99.median <= 100 and not one.latency.lost
    outcome.verdicts.append(Verdict("p99 from like to effect", measured, "<= 100 ms", reached))
    kept = f"{one.told.unchanged:.0%}"
    outcome.verdicts.append(
        Verdict("feeds that keep the post where it was not liked", kept, ">= 95 %", one.told.unchanged >= 0.95)
    )
    return outcome
