"""The slate: order, selection, what is remembered, and explanations that add up (x-algorithm.md 1.2, 1.5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.parameters import DEFAULTS, Parameters
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.runner import Accounting
from operators.pipeline.scorers import HEADS
from operators.pipeline.scorers.value import squeezed
from operators.pipeline.selection import (
    ancillary_visibility,
    conversation_of,
    dedup_conversation,
    slate_diversity,
    visibility,
)
from operators.slate import Ranked, make_feed
from operators.viewers.viewers import Viewers
from schemas.actions import COUNTS
from schemas.events import FeedRequest
from schemas.feeds import Feed
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table


class Ids:
    def original_id(self, key: int) -> int:
        return key


def viewers(parameters: Parameters = DEFAULTS) -> Viewers:
    return Viewers(parameters)


def favorites(*values: float) -> np.ndarray:
    out = np.zeros((len(values), len(HEADS)), np.float32)
    out[:, 0] = values
    return out


def served(
    rows: CandidateTable,
    probabilities: np.ndarray | None,
    partition: Viewers | None = None,
    explain: bool = False,
    limit: int | None = None,
    at_ms: int = NOW_MS,
) -> Feed:
    event = FeedRequest(at=at_ms, request="r", viewer=VIEWER, explain=explain, limit=limit)
    vectors = np.eye(len(rows), dtype=np.float32)
    ranked = Ranked(query(event=event), rows, probabilities, Accounting(explain), Ids(), "model", vectors)
    return make_feed(ranked, viewers() if partition is None else partition)[0]


def test_best_first_with_the_factors() -> None:
    # .5 p + .001, times diversity (second post of author 1: .625) and .75 where out of network
    rows = table(author=[1, 1, 2], in_network=[1, 1, 0])
    feed = served(rows, favorites(0.8, 0.6, 0.7))
    assert [item.post for item in feed.items] == [1, 3, 2]
    scores = [item.score for item in feed.items]
    assert scores == pytest.approx([0.401, 0.351 * 0.75, 0.301 * 0.625], rel=1e-6)


def test_served_posts_are_not_served_again_within_the_window() -> None:
    partition = viewers()
    rows = table(post=[1, 2, 3])
    assert [item.post for item in served(rows, favorites(0.3, 0.2, 0.1), partition, limit=2).items] == [1, 2]
    assert [item.post for item in served(rows, favorites(0.3, 0.2, 0.1), partition).items] == [3]
    later = served(rows, favorites(0.3, 0.2, 0.1), partition, at_ms=NOW_MS + 600_001)
    assert [item.post for item in later.items] == [1, 2, 3]


def test_top_k_comes_before_the_last_filters_and_truncation_after() -> None:
    count = 80
    verdict = [4 * (row < 20) for row in range(count)]
    feed = served(table(post=list(range(1, count + 1)), verdict=verdict), favorites(*np.linspace(0.9, 0.1, count)))
    # 50 selected, 20 of them dropped by visibility: 30 left, no more are fetched from behind.
    assert [item.post for item in feed.items] == list(range(21, 51))
    counts = {stage.stage: (stage.given, stage.kept) for stage in feed.stages}
    assert counts["top_k"] == (80, 50)
    assert counts["visibility"] == (50, 30)
    assert counts["truncate"] == (30, 30)


def test_a_longer_limit_keeps_its_head_room() -> None:
    count = 120
    feed = served(table(post=list(range(1, count + 1))), favorites(*np.linspace(0.9, 0.1, count)), limit=60)
    assert len(feed.items) == 60
    assert {stage.stage: stage.kept for stage in feed.stages}["top_k"] == 75


def test_a_rule_that_drops_drops_and_a_notice_does_not() -> None:
    assert visibility(query(), table(verdict=[2, 0, -6, 7]), np.zeros(4)).tolist() == [1, 2]


def test_a_post_goes_with_the_bad_post_it_answers_or_quotes() -> None:
    assert ancillary_visibility(query(), table(ancillary_verdict=[0, 2, 0]), np.zeros(3)).tolist() == [0, 2]


def test_conversation_dedup_replaces_in_place() -> None:
    rows = table(post=[1, 2, 3, 4], is_reply=[1, 0, 1, 1], reply_to=[9, 0, 9, 7], conversation=[9, 0, 9, 0])
    assert conversation_of(rows).tolist() == [9, 2, 9, 7]
    assert dedup_conversation(query(), rows, np.array([0.3, 0.2, 0.5, 0.1])).tolist() == [2, 1, 3]
    assert dedup_conversation(query(), rows, np.array([0.5, 0.2, 0.3, 0.1])).tolist() == [0, 1, 3]
    assert dedup_conversation(query(), rows, np.array([0.5, 0.2, 0.5, 0.1])).tolist() == [0, 1, 3], (
        "the first of equals"
    )


def test_slate_diversity_caps_an_author_at_the_top_and_parts_topics() -> None:
    # Author 1 has the four best; two may stand in the first four. Topic 9 is on posts 1, 2 and 6.
    rows = table(
        post=[1, 2, 3, 4, 5, 6],
        author=[1, 1, 1, 1, 2, 3],
        rank_author=[1, 1, 1, 1, 2, 3],
        rank_terms=[[9] * 4, [9] * 4, [0] * 4, [0] * 4, [5] * 4, [9] * 4],
    )
    capped = query(parameters=DEFAULTS.overridden({"slate_diversity.top": 4}))
    assert slate_diversity(capped, rows, np.zeros(6)).tolist() == [0, 2, 4, 5, 1, 3]
    near = query(parameters=DEFAULTS.overridden({"slate_diversity.top": 4, "slate_diversity.look_ahead": 2}))
    # Two places ahead there is nobody but author 1 for the third and fourth place: the cap gives way.
    assert slate_diversity(near, rows, np.zeros(6)).tolist() == [0, 2, 1, 4, 3, 5]


def test_without_the_model_the_newest_come_first_and_the_feed_says_so() -> None:
    rows = table(post=[1, 2, 3], created_ms=[NOW_MS - 3, NOW_MS - 1, NOW_MS - 2])
    feed = served(rows, None, explain=True)
    assert [item.post for item in feed.items] == [2, 3, 1]
    assert all(item.explanation is None and "did not answer" in item.why for item in feed.items)


def test_no_candidates_make_an_empty_feed() -> None:
    assert served(table(post=[]), np.zeros((0, len(HEADS)), np.float32)).items == ()


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_explanations_add_up_to_the_score_exactly(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = table(
        post=list(range(1, count + 1)),
        author=rng.integers(1, 8, count).tolist(),
        in_network=(rng.random(count) < 0.5).tolist(),
        is_repost=(rng.random(count) < 0.2).tolist(),
        video_ms=rng.integers(0, 30_000, count).tolist(),
        mutual_follow=(rng.random(count) < 0.3).tolist(),
        author_followers=rng.integers(-1, 2000, count).tolist(),
        rank_counts=rng.integers(0, 1500, (count, COUNTS)).tolist(),
    )
    feed = served(rows, (rng.random((count, len(HEADS))) ** 3).astype(np.float32), explain=True)
    weights, offset = DEFAULTS.weights, DEFAULTS.scoring.negative_offset
    for item in feed.items:
        told = item.explanation
        assert told is not None
        weighted = 0.0
        for contribution in told.contributions.values():
            weighted += contribution
        assert weighted == told.weighted
        first, *others = told.steps
        assert first.operation == "is"
        assert float(squeezed(np.array([weighted]), weights, offset)[0]) == first.value
        score = first.value
        for step in others:
            assert step.operation == ("at_least" if step.name == "author_cold_start" else "times")
            score = max(score, step.value) if step.operation == "at_least" else score * step.value
        assert score == item.score
    ranks = [item.explanation.rank_before for item in feed.items if item.explanation]
    assert len(set(ranks)) == len(ranks)
    assert all(1 <= rank <= count for rank in ranks)
