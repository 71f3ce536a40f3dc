"""A component that fails on one candidate: that one keeps its defaults, and its explanation says so (1.1)."""

import numpy as np
import pytest

from operators.parameters import DEFAULTS
from operators.pipeline import scorers
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.filters import Filter
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import HEADS, Scored, Scorer, Scores
from operators.slate import Ranked, make_feed
from operators.viewers.query import Query
from operators.viewers.viewers import Viewers
from schemas.events import FeedRequest
from schemas.feeds import Feed, ScoreExplanation
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table


class Ids:
    def original_id(self, key: int) -> int:
        return key


def halves(_asked: Query, rows: CandidateTable, _found: Scored) -> Scores:
    """Halve scores, and fail on post 3."""
    if (rows.post == 3).any():
        raise LookupError("post 3")
    return np.full(len(rows), 0.5)


def odd_ones(_asked: Query, rows: CandidateTable) -> np.ndarray:
    """Keep odd posts, and fail on post 2."""
    if (rows.post == 2).any():
        raise LookupError("post 2")
    return rows.post % 2 == 1


def explained(asked: Query, rows: CandidateTable) -> Feed:
    probabilities = np.zeros((len(rows), len(HEADS)), np.float32)
    probabilities[:, 0] = np.linspace(0.9, 0.5, len(rows))
    return make_feed(Ranked(asked, rows, probabilities, Accounting(True), Ids(), "model"), Viewers(DEFAULTS))[0]


def told(feed: Feed) -> dict[object, ScoreExplanation]:
    return {item.post: item.explanation for item in feed.items if item.explanation is not None}


def asking() -> Query:
    off = DEFAULTS.overridden({"dpp.enabled": False})
    return query(parameters=off, event=FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, explain=True))


def test_a_scorer_that_fails_on_one_post_is_named_in_that_posts_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scorers.SCORERS, "weighted", (Scorer(halves, "times", "this test"),))
    feed = explained(asking(), table(post=[1, 2, 3, 4, 5]))
    assert feed.degraded == ("scorer.halves",)
    assert {post: one.failed for post, one in told(feed).items()} == {
        1: (), 2: (), 3: ("scorer.halves",), 4: (), 5: (),
    }  # fmt: skip
    # Its score stays as it was, and adds up: the step says "times 1".
    assert told(feed)[3].steps[0].value == 1.0
    assert told(feed)[2].steps[0].value == 0.5


def test_a_scorer_that_compares_posts_fails_on_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Scorer(halves, "times", "this test", compares_rows=True)
    monkeypatch.setitem(scorers.SCORERS, "weighted", (whole,))
    feed = explained(asking(), table(post=[1, 2, 3]))
    assert {one.failed for one in told(feed).values()} == {("scorer.halves",)}


def test_a_filter_that_fails_on_one_post_keeps_that_one_and_its_explanation_says_so() -> None:
    asked = asking()
    kept, _ = run_filters([Filter(odd_ones, "this test")], asked, table(post=[1, 2, 3, 4]), Accounting(True))
    assert kept.post.tolist() == [1, 2, 3]
    feed = explained(asked, kept)
    assert feed.degraded == ("filter.odd_ones",)
    assert {post: one.failed for post, one in told(feed).items()} == {1: (), 2: ("filter.odd_ones",), 3: ()}


def test_explanations_carry_the_largest_output_of_each_head() -> None:
    # 2023-generation.md 1, stage 2: of favorite .9, .7 and .5 it is .9, on every candidate alike
    feed = explained(asking(), table(post=[1, 2, 3]))
    maxima = [one.head_maxima for one in told(feed).values()]
    assert len(maxima) == 3
    assert maxima[0] == maxima[1] == maxima[2]
    assert list(maxima[0]) == list(HEADS)
    assert maxima[0]["favorite"] == pytest.approx(0.9)
    assert maxima[0]["reply"] == 0.0
