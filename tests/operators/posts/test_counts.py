"""Counts of live posts: the last word on a post holds, and posts that are gone are forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from operators.posts.counts import CountTable
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
