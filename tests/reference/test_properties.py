"""What holds of the pipeline whatever comes: over random requests of tests/reference/cases.py."""

import itertools
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.parameters import Value
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.scorers import SCORERS, score
from operators.presets import FOLDER, NAMES, differences, preset
from schemas.feeds import ScoreExplanation
from tests.reference.cases import as_query, as_table, draw, outputs_of, parameters_of, vectors_of
from tests.reference.filters import FILTERS, Case
from tests.reference.test_pipeline import ONCE, SEEDS, product_feed

COUNTS = st.integers(1, 40)
# Two rules compare posts: a repost that leaves makes room for another of the same original, and posts without actions
# stay where none has any. Enabling another rule may so let a post in.
COMPARING = {"drop_duplicates", "retweet_deduplication", "new_user_min_engagement"}


def kept_rows(case: Case) -> list[int]:
    """The rows of the candidates that pass all filters."""
    asked, rows = as_query(case), as_table(case["candidates"], case)
    asked.served = np.array(sorted(case["viewer"]["served"]), np.uint64)
    table, kept = run_filters(PRE_SCORING, asked, rows, Accounting(explain=False))
    _, still = run_filters(AT_THE_SLATE, asked, table, Accounting(explain=False))
    return np.flatnonzero(kept)[still].tolist()


def added_up(told: ScoreExplanation) -> float:
    weighted = 0.0
    for value in told.contributions.values():
        weighted += value
    assert weighted == told.weighted
    found = weighted
    for step in told.steps:
        if step.operation == "is":
            found = step.value
        elif step.operation == "at_least":
            found = max(found, step.value)
        else:
            found *= step.value
    return found


@settings(max_examples=100, deadline=None)
@given(SEEDS, COUNTS)
def test_filters_keep_the_order_and_change_nothing(seed: int, count: int) -> None:
    case = draw(seed, count)
    rows = as_table(case["candidates"], case)
    kept, mask = run_filters(PRE_SCORING, as_query(case), rows, Accounting(explain=False))
    assert len(mask) == len(rows)
    assert kept.post.tolist() == rows.post[mask].tolist()
    assert kept.row.tolist() == sorted(kept.row.tolist())


@settings(max_examples=100, deadline=None)
@given(SEEDS, COUNTS)
def test_scorers_give_one_score_a_post_and_the_order_stays(seed: int, count: int) -> None:
    case = draw(seed, count, ONCE)
    posts = case["candidates"]
    rows = as_table(posts, case)
    before = rows.post.tolist()
    told = score(as_query(case), rows, outputs_of(posts), vectors_of(posts))
    assert told.score.shape == told.weighted.shape == (len(posts),)
    assert all(step.value.shape == (len(posts),) for step in told.steps)
    assert rows.post.tolist() == before
    assert np.isfinite(told.score).all()


@settings(max_examples=100, deadline=None)
@given(SEEDS, COUNTS)
def test_a_removed_post_is_not_scored_and_not_served(seed: int, count: int) -> None:
    case = draw(seed, count, ONCE)
    feed = product_feed(case)
    removed = {post for one in feed.dropped if one.stage != "drop_duplicates" for post in one.posts}
    assert not removed & {item.post for item in feed.items}
    counts = {stage.stage: stage for stage in feed.stages}
    for one, two in itertools.pairwise(feed.stages):
        assert two.given == one.kept
    before = {name for name, _ in FILTERS}
    dropped = sum(len(one.posts) for one in feed.dropped if one.stage in before)
    assert counts["top_k"].given == len(case["candidates"]) - dropped


@settings(max_examples=150, deadline=None)
@given(SEEDS, COUNTS, st.sampled_from([name for name, _ in FILTERS if name not in COMPARING]))
def test_enabling_a_filter_never_adds_a_post(seed: int, count: int, name: str) -> None:
    plain: dict[str, Value] = {f"filters.{other}": False for other in COMPARING}
    off = kept_rows(draw(seed, count, plain | {f"filters.{name}": False}))
    on = kept_rows(draw(seed, count, plain | {f"filters.{name}": True}))
    assert set(on) <= set(off)


@settings(max_examples=100, deadline=None)
@given(SEEDS, COUNTS, st.sampled_from(sorted(COMPARING)))
def test_nor_does_enabling_one_that_compares_posts_where_no_other_does(seed: int, count: int, name: str) -> None:
    plain: dict[str, Value] = {f"filters.{other}": False for other in COMPARING}
    off = kept_rows(draw(seed, count, plain))
    on = kept_rows(draw(seed, count, plain | {f"filters.{name}": True}))
    assert set(on) <= set(off)


@settings(max_examples=100, deadline=None)
@given(SEEDS, COUNTS)
def test_explanations_add_up_to_the_score_to_the_last_bit(seed: int, count: int) -> None:
    for item in product_feed(draw(seed, count)).items:
        assert item.explanation is not None
        assert added_up(item.explanation) == item.score


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(2, 40), st.data())
def test_others_do_not_matter_before_posts_are_compared(seed: int, count: int, data: st.DataObject) -> None:
    case = draw(seed, count, ONCE)
    posts, asked = case["candidates"], as_query(case)
    rows = data.draw(st.lists(st.sampled_from(range(len(posts))), min_size=1, unique=True))
    few = [posts[row] for row in rows]
    together = score(asked, as_table(posts, case), outputs_of(posts), vectors_of(posts))
    alone = score(asked, as_table(few, case), outputs_of(few), vectors_of(few))
    assert alone.contributions.tobytes() == together.contributions[:, rows].tobytes()
    assert alone.weighted.tobytes() == together.weighted[rows].tobytes()
    model = SCORERS[parameters_of(case).scoring.value_model]
    lone = {one.name for one in itertools.takewhile(lambda one: not one.compares_rows, model)}
    for one, two in zip(alone.steps, together.steps, strict=True):
        assert one.name == two.name
        if one.name in lone:
            assert one.value.tobytes() == two.value[rows].tobytes()


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(NAMES, 2)))
def test_presets_differ_only_where_their_tables_differ(one: str, other: str) -> None:
    mine, theirs = preset(one).parameters, preset(other).parameters
    put_back = {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, _) in differences(mine, theirs).items()
    }
    assert theirs.overridden(put_back) == mine
    said: set[str] = set()
    for name in (one, other):
        tables = tomllib.loads((FOLDER / f"{name}.toml").read_text())
        said |= {f"{section}.{key}" for section, values in tables.items() for key in values}
    assert set(put_back) <= said
