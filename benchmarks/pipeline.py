"""One request through the whole chain, stage by stage, with the model beside all that is not the model.

`python -m benchmarks.pipeline [--quick]`
"""

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flows.for_you import ForYou, Hydrated
from flows.intake import Intake
from flows.terminal import console, rows_table
from models.config import STANDARD
from models.phoenix import Phoenix
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.pipeline.candidates import RETRIEVAL, THUNDER
from operators.pipeline.hydration import hydrate
from operators.pipeline.runner import Accounting
from operators.pipeline.sources import Asked, phoenix_retrieval, thunder
from operators.ranking import Ranker
from operators.slate import Ranked
from operators.state import MemoryState, live_posts
from operators.viewers.query import Origin, Query, Request
from schemas.codec import encode
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated
from schemas.polls import RawPoll

NOW_MS = 1_770_000_000_000
HISTORY = 128
FOLLOWS = 1000
# 1,200 of Thunder, and of the index's answer about 300 that Thunder did not bring: 1,500 to rank.
RETRIEVED = 300


def job(posts: int, seed: int = 0) -> ForYou:
    """Return the job with live posts by 10,000 authors, and viewer 1 with 1,000 follows and a full history."""
    rng = np.random.default_rng(seed)
    parameters = DEFAULTS.overridden({"retrieval.posts_max": RETRIEVED})
    phoenix = Phoenix.untrained(STANDARD)
    state = MemoryState(parameters, live_posts(parameters, phoenix))
    intake = Intake(state, parameters, Ownership())
    authors = rng.integers(10, 10_010, posts).tolist()
    step = 40 * 3600 * 1000 / posts
    for start in range(0, posts, 4096):
        _take(
            intake,
            [
                PostCreated(
                    at=NOW_MS - 40 * 3600 * 1000 + int(n * step),
                    post=n + 1,
                    author=authors[n],
                    text=f"a word{n % 811} and a word{n % 1931}",
                    reply_to=n - 3 if n % 10 == 5 else None,
                    repost_of=n - 7 if n % 10 == 8 else None,
                    video_ms=15_000 if n % 6 == 0 else 0,
                )
                for n in range(start, min(start + 4096, posts))
            ],
        )
    followed = rng.choice(np.arange(10, 10_010), FOLLOWS, replace=False).tolist()
    _take(intake, [Follow(at=0, viewer=1, author=author) for author in followed])
    times = [NOW_MS - (HISTORY - n) * 600_000 for n in range(HISTORY)]
    _take(intake, [Engagement(at=at, viewer=1, post=n * 7 + 1, action="favorite") for n, at in enumerate(times)])
    return ForYou(intake, phoenix, Ranker(phoenix, 1, 1))


def _take(intake: Intake, events: Sequence[Event]) -> None:
    count = len(events)
    raw = RawPoll([encode(one) for one in events], [""] * count, [0] * count, list(range(count)), 0.0, 2**53)
    for poll in intake.update_posts(intake.decode(raw)):
        intake.update_viewers(poll)


def _query(one: ForYou, number: int) -> Query:
    event = FeedRequest(at=NOW_MS + number * 700_000, request=number, viewer=1)
    request = Request(event, 1, one.intake.parameters, Origin("feed-requests", 0, number), time.perf_counter())
    return one.state.viewers.query(request)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the median and spread of each stage, in ms, and the share of the model's time it takes."""
    one = job(20_000 if quick else 200_000)
    times: dict[str, list[float]] = {}

    def timed(stage: str, start: float) -> float:
        now = time.perf_counter()
        times.setdefault(stage, []).append(now - start)
        return now

    ranked_rows = 0
    for number in range(10 if quick else 60):
        if number == 2:
            times.clear()  # the first two compile and touch memory
        at = time.perf_counter()
        query = _query(one, number)
        at = timed("query", at)
        posts = one.state.posts
        asked = Asked(query, posts, one.phoenix, Accounting(False), None)
        followed = thunder(asked)
        at = timed("thunder", at)
        one.phoenix.embed_viewer(query.context)
        at = timed("model: viewer", at)
        retrieved = phoenix_retrieval(asked)
        at = timed("retrieval, viewer included", at)
        source = np.repeat(np.array([THUNDER, RETRIEVAL], np.uint8), [len(followed), len(retrieved)])
        table = hydrate(query, posts, np.concatenate([followed, retrieved]), source)
        at = timed("hydrate", at)
        hydrated = one.filter(Hydrated(query, table, Accounting(False)))
        at = timed("filter", at)
        ranked_rows = len(hydrated.table)
        probabilities = one.phoenix.rank(query.context, hydrated.table.rank_columns())
        at = timed("model: rank", at)
        one.slate(Ranked(query, hydrated.table, probabilities, hydrated.accounting, posts.table, "model"))
        timed("slate", at)
    medians = {stage: statistics.median(values) for stage, values in times.items()}
    medians["retrieval, viewer included"] -= medians["model: viewer"]
    model = medians["model: rank"] + medians["model: viewer"]
    rest = sum(value for stage, value in medians.items() if not stage.startswith("model"))
    rows = [
        {
            "stage": stage.replace(", viewer included", ""),
            "median_ms": medians[stage] * 1000,
            "fastest_ms": min(values) * 1000,
            "slowest_ms": max(values) * 1000,
            "share_of_model": medians[stage] / model,
        }
        for stage, values in times.items()
    ]
    total = {"fastest_ms": 0.0, "slowest_ms": 0.0}
    rows.append(
        {"stage": f"model, {ranked_rows} candidates", "median_ms": model * 1000, **total, "share_of_model": 1.0}
    )
    rows.append({"stage": "all but the model", "median_ms": rest * 1000, **total, "share_of_model": rest / model})
    return rows


if __name__ == "__main__":
    console.print(rows_table("one request", run("--quick" in sys.argv)))
