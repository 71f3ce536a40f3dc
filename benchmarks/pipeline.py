"""One request through the whole chain but the model: the CPU time of each part, and of all together.

`run_flow.py bench pipeline [--quick]`. The model's answers are made once and given back at no cost, so that what is
left is the pipeline beside the model. CPU time of the process, all threads: a busy machine does not change it much.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from flows.for_you import ForYou
from flows.intake import Intake
from models.config import STANDARD
from models.inputs import Candidates, Context
from models.phoenix import Phoenix
from operators.clusters import Clusters
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING
from operators.pipeline.hydration import hydrate
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import SCORERS, best_first, score_alone
from operators.pipeline.scorers.steps import OPERATIONS, LikelyVectors, Scored
from operators.pipeline.scorers.value import contributions_of, weighted_sum
from operators.pipeline.sources import IN_ORDER, Asked
from operators.posts.columns import Rows
from operators.ranking import VECTORS_MAX, Ranker
from operators.slate import Ranked
from operators.state import MemoryState, live_posts
from operators.viewers.query import Origin, Query, Request
from schemas.actions import ACTIONS
from schemas.codec import encode
from schemas.events import Block, Engagement, Event, FeedRequest, Follow, MuteKeyword, PostCreated
from schemas.polls import RawPoll

NOW_MS: Final = 1_770_000_000_000
HISTORY: Final = 128
FOLLOWS: Final = 1000
# With Thunder's 1,200 and the 400 of co-likers so many that, without duplicates and what filters drop, the 2,800 are
# left that are ranked at most (x-algorithm.md 1.5).
RETRIEVED: Final = 1480
OTHERS: Final = 400
# Answers of the model to choose among, so that no request meets the same order twice.
ANSWERS: Final = 16
TOTAL: Final = "all of it"
# What a request costs beside the model and the look-ups of candidates, which have benchmarks of their own.
BESIDE_SOURCES: Final = ("hydrate", "filters as they are run", "vectors of the likely best", "slate, scorers included")


class Still:
    """A model that has answered already: the same numbers each time, at the cost of handing them out."""

    def __init__(self, phoenix: Phoenix) -> None:
        rng = np.random.default_rng(1)
        self.version, self.dimensions, self.config = phoenix.version, phoenix.dimensions, phoenix.config
        self._outputs = [(rng.random((20_000, len(ACTIONS))) ** 3).astype(np.float32) for _ in range(ANSWERS)]
        vectors = rng.standard_normal((VECTORS_MAX, phoenix.dimensions)).astype(np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._asked = 0

    def rank(self, _context: Context, candidates: Candidates) -> npt.NDArray[np.float32]:
        """Return outputs for candidates."""
        self._asked += 1
        outputs: npt.NDArray[np.float32] = self._outputs[self._asked % ANSWERS]
        return outputs[: len(candidates)]

    def embed_posts(self, post: npt.NDArray[np.uint64], *_rest: object) -> npt.NDArray[np.float32]:
        """Return vectors of posts."""
        vectors: npt.NDArray[np.float32] = self._vectors
        return vectors[: len(post)]

    def embed_viewer(self, _context: Context) -> npt.NDArray[np.float32]:
        """Return the vector of a viewer."""
        vector: npt.NDArray[np.float32] = self._vectors[self._asked % VECTORS_MAX]
        return vector


def job(posts: int, seed: int = 0) -> ForYou:
    """Return the job with live posts by 10,000 authors, and viewer 1 with 1,000 follows and a full history."""
    rng = np.random.default_rng(seed)
    parameters = DEFAULTS.overridden({"retrieval.posts_max": RETRIEVED})
    phoenix = Phoenix.untrained(STANDARD)
    state = MemoryState(parameters, live_posts(parameters, phoenix, co_likers=True))
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
                    quote_of=n - 9 if n % 30 == 11 else None,
                    video_ms=15_000 if n % 6 == 0 else 0,
                )
                for n in range(start, min(start + 4096, posts))
            ],
        )
    followed = rng.choice(np.arange(10, 10_010), FOLLOWS, replace=False).tolist()
    _take(intake, [Follow(at=0, viewer=1, author=author) for author in followed])
    _take(intake, [Block(at=0, viewer=1, author=author) for author in range(10, 40)])
    _take(intake, [MuteKeyword(at=0, viewer=1, keyword=word) for word in ("word7", "word77 and", "never said")])
    times = [NOW_MS - (HISTORY - n) * 600_000 for n in range(HISTORY)]
    _take(intake, [_like(1, at, posts - n * 7) for n, at in enumerate(times)])
    # Others liked some of the same and more of what is new.
    for viewer in range(100_000, 100_000 + OTHERS):
        same = (posts - rng.integers(0, HISTORY, 4) * 7).tolist()
        new = rng.integers(max(posts - 8000, 1), posts, 12).tolist()
        _take(intake, [_like(viewer, NOW_MS - 3_600_000 + n, post) for n, post in enumerate(same + new)])
    still = cast(Phoenix, Still(phoenix))
    return ForYou(intake, Clusters(still), Ranker(1, 1))


def _like(viewer: int, at: int, post: int) -> Engagement:
    return Engagement(at=at, viewer=viewer, post=post, action="favorite")


def _take(intake: Intake, events: Sequence[Event]) -> None:
    count = len(events)
    raw = RawPoll([encode(one) for one in events], [""] * count, [0] * count, list(range(count)), 0.0, 2**53)
    for poll in intake.update_posts(intake.decode(raw)):
        intake.update_viewers(poll)


def _request(one: ForYou, number: int, explain: bool) -> Request:
    seen = tuple(range(number * 50 + 1, number * 50 + 51))
    event = FeedRequest(at=NOW_MS + number, request=number, viewer=1, seen_ids=seen, explain=explain)
    return Request(event, 1, one.intake.parameters, Origin("feed-requests", 0, number), time.perf_counter())


class Times:
    """The CPU time of each part, run by run, in seconds."""

    def __init__(self) -> None:
        self.by_part: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.process_time()
        yield
        self.by_part.setdefault(name, []).append(time.process_time() - start)


def whole(one: ForYou, request: Request, times: Times) -> None:
    """Take one request through the chain as the flow does."""
    with times.part(TOTAL):
        hydrated = one.filter(one.candidates(one.state.viewers.query(request)))
        one.rank(hydrated)
        (ranked,) = one.ranker.finished(wait=True)
        one.slate(ranked)


def parts(one: ForYou, request: Request, times: Times) -> int:
    """Take one request through the chain part by part; return how many were ranked."""
    posts, accounting, still = one.state.posts, Accounting(request.event.explain), one.clusters.prod
    with times.part("query"):
        query = one.state.viewers.query(request)
    with times.part("co-likers' circle"):
        circle = posts.co_likers.circle(1, query.at_ms) if posts.co_likers is not None else None
    asked = Asked(query, posts, still, accounting, circle)
    rows: list[Rows] = []
    codes: list[npt.NDArray[np.uint8]] = []
    for source in IN_ORDER:
        if source.wanted(query, sum(map(len, rows))):
            with times.part(f"source {source.name}"):
                rows.append(source.brings(asked))
            codes.append(np.full(len(rows[-1]), source.code, np.uint8))
    read = circle if still.config.co_likers else None
    with times.part("hydrate"):
        table = hydrate(query, posts, np.concatenate(rows), np.concatenate(codes), read)
    for rule in PRE_SCORING:
        if rule.enable(query):
            with times.part(f"filter {rule.name}"):
                rule.keeps(query, table)
    with times.part("filters as they are run"):
        table, _ = run_filters(PRE_SCORING, query, table, accounting)
    with times.part("cut to candidates_max"):
        table = table.take(slice(0, query.parameters.selection.candidates_max))
        probabilities = still.rank(query.context, table.rank_columns())
    with times.part("vectors of the likely best"):
        likely = best_first(score_alone(query, table, probabilities), table, VECTORS_MAX)
        made = still.embed_posts(table.rank_post[likely], table.rank_author[likely], table.rank_terms[likely])
        vectors = LikelyVectors.of(len(table), likely, made)
    _scorers(query, table, probabilities, vectors, times)
    for at_slate in AT_THE_SLATE:
        with times.part(f"filter {at_slate.name}"):
            run_filters((at_slate,), query, table, accounting)
    ranked = Ranked(query, table, probabilities, accounting, posts.table, "model", vectors)
    with times.part("slate, scorers included"):
        one.slate(ranked)
    return len(table)


def _scorers(
    query: Query,
    table: CandidateTable,
    probabilities: npt.NDArray[np.float32],
    vectors: LikelyVectors,
    times: Times,
) -> None:
    with times.part("scorer weighted_sum"):
        contributions = contributions_of(query, table, probabilities)
        weighted = weighted_sum(contributions)
    scored = Scored(probabilities, contributions, weighted, weighted, vectors)
    for scorer in SCORERS[query.parameters.scoring.value_model]:
        if scorer.enable(query):
            with times.part(f"scorer {scorer.name}"):
                values = scorer.values(query, table, scored)
            score = OPERATIONS[scorer.operation](scored.score, values)
            scored = Scored(probabilities, contributions, weighted, score, vectors)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the median and spread of each part in ms of CPU time, and the median of explained requests."""
    one = job(20_000 if quick else 200_000)
    plain, explained, ranked = Times(), Times(), 0
    for number in range(20 if quick else 80):
        for times, explain in ((plain, False), (explained, True)):
            ranked = parts(one, _request(one, 4 * number + 2 * explain, explain), times)
            whole(one, _request(one, 4 * number + 2 * explain + 1, explain), times)
    for times in (plain, explained):
        # The first few touch memory for the first time.
        times.by_part = {name: values[3:] for name, values in times.by_part.items()}
        beside = [times.by_part[name] for name in BESIDE_SOURCES]
        times.by_part[f"these: {', '.join(BESIDE_SOURCES)}"] = [sum(each) for each in zip(*beside, strict=True)]
        times.by_part[f"{TOTAL}, {ranked} ranked"] = times.by_part.pop(TOTAL)
    return [_row(name, sorted(values), explained.by_part[name]) for name, values in plain.by_part.items()]


def _row(name: str, values: list[float], explained: list[float]) -> dict[str, Any]:
    return {
        "part": name,
        "median_ms": statistics.median(values) * 1000,
        "p10_ms": values[len(values) // 10] * 1000,
        "p90_ms": values[len(values) * 9 // 10] * 1000,
        "explained_ms": statistics.median(explained) * 1000,
    }
