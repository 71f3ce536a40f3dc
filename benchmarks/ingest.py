"""Ingest, file to state: lines of a log through the whole intake, beside reading and decoding alone.

`python -m benchmarks.ingest [--quick]`
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flows.intake import Intake
from flows.terminal import console, rows_table
from infra.logs.reader import LogReader
from infra.logs.writer import LogWriter
from infra.polls import POLL_LINES, EachSink, PollSource, latest_accepted_ms, polls_of
from infra.polls import run as run_flow
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts
from schemas.actions import ACTIONS
from schemas.codec import decode_batch
from schemas.events import Engagement, Event, Follow, PostCreated

START_MS = 1_770_000_000_000
RUNS = 5


def events(count: int, seed: int = 0) -> list[Event]:
    """Return a log of 88 % engagements, 10 % posts and 2 % follows, by 20,000 viewers of 4,000 authors."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, count, p=[0.88, 0.10, 0.02])
    viewers, authors = rng.integers(1, 20_001, count).tolist(), rng.integers(1, 4_001, count).tolist()
    actions = rng.choice(len(ACTIONS), count).tolist()
    out: list[Event] = []
    posts = 1
    for place, kind in enumerate(kinds.tolist()):
        at = START_MS + place * 10
        if kind == 1:
            posts += 1
            text = f"word{place % 977} about something that happened number {place}"
            out.append(PostCreated(at=at, post=posts, author=authors[place], text=text, topics=("news",)))
        elif kind == 2:
            out.append(Follow(at=at, viewer=viewers[place], author=authors[place]))
        else:
            post = max(1, posts - int(viewers[place]) % 500)
            out.append(
                Engagement(
                    at=at, viewer=viewers[place], post=post, author=authors[place], action=ACTIONS[actions[place]]
                )
            )
    return out


def _read(log: Path) -> int:
    return sum(len(batch.raw) for batch in LogReader(log).batches())


def _decode(log: Path) -> int:
    at_max = latest_accepted_ms()
    return sum(len(decode_batch(batch.raw, at_max)) for batch in LogReader(log).batches())


def _intake(log: Path) -> int:
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow

    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())

    def take(raw: Any) -> Any:
        for poll in intake.update_posts(intake.decode(raw)):
            list(intake.update_viewers(poll))
        return raw

    flow = Dataflow("ingest")
    polls = op.input("source", flow, PollSource(polls_of(LogReader(log, POLL_LINES)), lambda: True))
    op.output("out", op.map("intake", polls, take), EachSink(lambda _: None))
    run_flow(flow)
    return intake.events


def run(quick: bool) -> list[dict[str, Any]]:
    """Return rates of each way through the same log, and their share of plain decoding."""
    count = 50_000 if quick else 400_000
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        with LogWriter(log) as writer:
            writer.write(events(count))
        ways: dict[str, Callable[[Path], int]] = {
            "read lines": _read,
            "read and decode": _decode,
            "file to state": _intake,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(2 if quick else RUNS):
            for name, way in ways.items():
                start = time.perf_counter()
                if way(log) != count:
                    raise AssertionError(f"{name} lost events")
                times[name].append(time.perf_counter() - start)
    plain = statistics.median(times["read and decode"])
    return [
        {
            "way": name,
            "events": count,
            "events_per_s": count / statistics.median(values),
            "slowest": count / max(values),
            "fastest": count / min(values),
            "share_of_decoding": plain / statistics.median(values),
        }
        for name, values in times.items()
    ]


if __name__ == "__main__":
    console.print(rows_table("ingest", run("--quick" in sys.argv)))
