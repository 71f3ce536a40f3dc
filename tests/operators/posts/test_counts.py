"""Counts of live posts: the last word on a post holds, and posts that are gone are forgotten."""

from collections import Counter, deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.past_counts import Past
from operators.posts.counts import COLUMNS, LARGE, ONE_BY_ONE, SHOWN, Counting, CountTable
from operators.recent import RecentEvents, event_hashes
from schemas.actions import ACTION_INDEX, COUNT_NAMES
from schemas.events import Served
from schemas.feeds import PostCounts
from schemas.ids import key_of

counted = st.builds(
    PostCounts,
    st.integers(0, 9),
    st.integers(1, 3000) | st.sampled_from(["a", "b"]),
    st.dictionaries(st.sampled_from(["favorite", "reply", "report"]), st.integers(1, 2**40), max_size=3),
)


@given(st.lists(st.lists(counted, max_size=30), max_size=6), st.sets(st.integers(1, 3000)))
def test_the_last_counts_of_each_post_hold_until_it_is_forgotten(
    batches: list[list[PostCounts]], gone: set[int]
) -> None:
    table, expected = CountTable(), {}
    for batch in batches:
        table.put(batch)
        expected |= {key_of(one.post): {name: min(n, 2**32 - 1) for name, n in one.counts.items()} for one in batch}
    assert {key: table.of(key) for key in expected} == expected
    assert set(table.keys().tolist()) == set(expected)
    assert table.of(4000) == {}
    table.keep([key not in gone for key in table.keys().tolist()])  # type: ignore[arg-type]
    assert {key: table.of(key) for key in expected} == {k: {} if k in gone else v for k, v in expected.items()}
    assert len(table) == len(expected.keys() - gone)


steps = st.tuples(st.integers(1, 9), st.integers(0, COLUMNS - 1), st.sampled_from([1, 1, 1, -1]))


@given(st.lists(st.lists(steps, max_size=3 * ONE_BY_ONE), max_size=6))
def test_however_they_are_cut_counts_are_those_of_one_after_the_other(
    batches: list[list[tuple[int, int, int]]],
) -> None:
    table, expected = CountTable(), Counter[tuple[int, int]]()
    for batch in batches:
        table.add(*columns(batch))
        for key, column, amount in batch:
            expected[key, column] = max(0, expected[key, column] + amount)
    found = table.columns(np.arange(1, 10, dtype=np.uint64))
    assert {(key + 1, column): int(found[key, column]) for key in range(9) for column in range(COLUMNS)} == {
        (key, column): expected[key, column] for key in range(1, 10) for column in range(COLUMNS)
    }


def columns(batch: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys, columns, amounts = np.array(batch, np.int64).reshape(-1, 3).T
    return keys.astype(np.uint64), columns, amounts


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-3, 3)), max_size=20), st.sets(st.integers(1, 5)))
def test_counts_beyond_two_bytes_are_kept_apart_and_go_with_their_posts(
    moves: list[tuple[int, int]], gone: set[int]
) -> None:
    table = CountTable()
    table.put([PostCounts(0, key, {"reply": LARGE}, LARGE - 1 + key % 3) for key in range(1, 6)])
    expected = {key: LARGE - 1 + key % 3 for key in range(1, 6)}
    for key, amount in moves:
        table.add(np.array([key], np.uint64), np.array([SHOWN]), np.array([amount]))
        expected[key] += amount
    table.keep(np.array([key not in gone for key in table.keys().tolist()]))
    left = {key: 0 if key in gone else count for key, count in expected.items()}
    keys = np.array(list(left), np.uint64)
    assert dict(zip(keys.tolist(), table.kinds(keys)[:, COUNT_NAMES.index("shown")].tolist(), strict=True)) == left
    assert all(table.of(key) == ({} if key in gone else {"reply": LARGE}) for key in left)


@given(st.lists(st.lists(steps, max_size=12), min_size=1, max_size=6), st.integers(0, 5))
def test_counts_of_the_past_are_those_that_were(batches: list[list[tuple[int, int, int]]], first: int) -> None:
    table = CountTable()
    past = Past(table)
    keys = np.arange(9, 0, -1, dtype=np.uint64)
    marks, then = [], []
    for batch in batches:
        marks.append(past.mark())
        then.append(table.kinds(keys))
        table.add(*columns(batch))
    first = min(first, len(marks) - 1)
    past.forget(marks[first])
    for mark, expected in list(zip(marks, then, strict=True))[first:]:
        assert np.array_equal(past.kinds(mark, keys), expected)
        assert np.array_equal(past.kinds(mark, keys[[3, 3]]), expected[[3, 3]])
    past.stop()
    table.add(*columns([(1, 1, 1)]))
    assert past.mark() == past.mark()


def test_a_feed_shows_each_of_its_posts_once_however_often_it_is_told() -> None:
    table = CountTable()
    rule = Counting(table)
    for _ in range(2):
        rule.take(None, [Served(5, "r", 1, ("a", 7, 7)), Served(6, "r", 1, (7,)), Served(5, "r", 2, (7,))])
    assert [one.tolist()[SHOWN] for one in table.columns(np.array([key_of("a"), 7], np.uint64))] == [1, 3]
    assert ACTION_INDEX["favorite"] != SHOWN


@given(st.lists(st.lists(st.integers(1, 200), max_size=40), max_size=8))
def test_an_event_that_came_a_moment_ago_is_not_new(batches: list[list[int]]) -> None:
    recent, before = RecentEvents(1 << 12), deque[int]()
    for batch in batches:
        new = recent.new(event_hashes(np.array(batch, np.int64), np.ones(len(batch), np.uint8)))
        for event, is_new in zip(batch, new.tolist(), strict=True):
            # What took another's place may let that one count again, but nothing is passed over that never came.
            assert is_new == (event not in before) or is_new
            before.append(event)
    assert len(set(before)) <= 200
