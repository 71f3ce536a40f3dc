"""Random requests through the product and through the slow reference: the same posts, order and scores.

What the reference can't decide, because two choices are as good as each other, is left out (`Undecided`).
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from operators.parameters import Value
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import score
from operators.slate import Ranked, make_feed
from schemas.feeds import Feed
from tests.reference import filters, scorers, selection
from tests.reference.cases import as_query, as_table, draw, outputs_of, vectors_of, viewers_of
from tests.reference.filters import Case, Post

SEEDS = st.integers(0, 2**32 - 1)
CLOSE = 1e-9
# Of a post that stands there twice it is nobody's business which of the two is the better.
ONCE: dict[str, Value] = {"filters.drop_duplicates": True}


class Ids:
    def original_id(self, key: int) -> int:
        return key


def product_keeps(case: Case) -> list[Post]:
    """The candidates that the product's filters keep, those at the slate included."""
    asked = as_query(case)
    asked.served = np.array(sorted(case["viewer"]["served"]), np.uint64)
    posts = case["candidates"]
    rows = as_table(posts, case)
    _, kept = run_filters(PRE_SCORING, asked, rows, Accounting(explain=False))
    posts = [post for post, keep in zip(posts, kept.tolist(), strict=True) if keep]
    _, kept = run_filters(AT_THE_SLATE, asked, as_table(posts, case), Accounting(explain=False))
    assert asked.degraded == []
    return [post for post, keep in zip(posts, kept.tolist(), strict=True) if keep]


def product_feed(case: Case) -> Feed:
    asked, accounting = as_query(case), Accounting(explain=True)
    rows = as_table(case["candidates"], case)
    table, kept = run_filters(PRE_SCORING, asked, rows, accounting)
    posts = [post for post, keep in zip(case["candidates"], kept.tolist(), strict=True) if keep]
    ranked = Ranked(asked, table, outputs_of(posts), accounting, Ids(), "model", vectors_of(posts))
    feed, _ = make_feed(ranked, viewers_of(case))
    assert feed.degraded == ()
    return feed


def facts(posts: list[Post]) -> list[tuple[Any, ...]]:
    return [(post["id"], post["source"]) for post in posts]


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(0, 40))
def test_filters_keep_what_the_reference_keeps(seed: int, posts: int) -> None:
    case = draw(seed, posts)
    assert facts(product_keeps(case)) == facts(filters.run(case))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SEEDS, st.integers(1, 40))
def test_scores_are_those_of_the_reference(seed: int, count: int) -> None:
    case = draw(seed, count, ONCE)
    posts = filters.run(case) or filters.drop_duplicates(case["candidates"], case)
    asked = as_query(case)
    try:
        expected = scorers.run(posts, case)
    except scorers.Undecided:
        assume(False)
    found = score(asked, as_table(posts, case), outputs_of(posts), vectors_of(posts))
    assert asked.degraded == []
    assert found.score.tolist() == pytest.approx(expected, rel=CLOSE, abs=CLOSE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SEEDS, st.integers(0, 40))
def test_feeds_are_those_of_the_reference(seed: int, count: int) -> None:
    case = draw(seed, count, ONCE)
    posts = filters.run(case)
    try:
        expected = selection.run(posts, scorers.run(posts, case), case)
    except scorers.Undecided:
        assume(False)
    feed = product_feed(case)
    assert [(item.post, item.source) for item in feed.items] == [(post["id"], post["source"]) for post, _ in expected]
    assert [item.score for item in feed.items] == pytest.approx([one for _, one in expected], rel=CLOSE, abs=CLOSE)
