"""An index made anew finds what an index of the new vectors from the beginning would, to the bit."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts.index import CandidateIndex
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from schemas.events import PostCreated, PostDeleted, PostEvent

NOW_MS = 1_770_000_000_000
DAY_MS = 86_400_000
OLD, NEW = 8, 16  # dimensions of the two models, which may differ


def towers(dimensions: int) -> Callable[..., np.ndarray]:
    """Return an embedding of so many dimensions: a unit vector for each post that depends on its key alone."""

    def embed(post: np.ndarray, author: np.ndarray, terms: np.ndarray) -> np.ndarray:
        rows = [np.random.default_rng([dimensions, int(key)]).normal(size=dimensions) for key in post]
        vectors = np.array(rows).reshape(len(rows), dimensions)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return embed


def live(dimensions: int) -> LivePosts:
    return LivePosts(PostTable(), CandidateIndex(dimensions), towers(dimensions))


def found(posts: LivePosts, at: int) -> tuple[list[int], bytes]:
    vector = towers(NEW)(np.array([1]), np.array([1]), np.zeros((1, 4)))[0]
    posts.refresh_index()
    assert posts.index is not None
    rows, scores = posts.index.search(vector, 50, at + 100, at - 2 * DAY_MS)
    return rows.tolist(), scores.tobytes()


batches = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 1000, DAY_MS, 3 * DAY_MS]), st.integers(0, 3), st.booleans()),
    min_size=6,
    max_size=16,
)


@settings(max_examples=25, deadline=None)
@given(batches, st.integers(0, 5), st.integers(1, 30))
def test_a_renewed_index_finds_what_the_new_one_from_the_beginning_does(
    made: list[tuple[int, int, int, bool]], begins: int, rows_max: int
) -> None:
    renewed, from_the_beginning = live(OLD), live(NEW)
    works: list[Callable[[], None]] = []
    at, number, renewal = NOW_MS, 0, None
    for turn, (count, gap, deletes, works_on) in enumerate(made):
        if turn == begins:
            renewal = renewed.renew(NEW, towers(NEW), works.append)
        at += gap
        events: list[PostEvent] = [
            PostCreated(at=at + n, post=number + n + 1, author=n % 7 + 1, reply_to=1 if n % 5 == 4 else None)
            for n in range(count)
        ]
        number += count
        events += [PostDeleted(at=at + count, post=max(1, number - 9 * n), author=1) for n in range(deletes)]
        for posts in (renewed, from_the_beginning):
            posts.apply(events, at + count)
        if renewal is not None:
            renewal.advance(rows_max)
            while works and works_on:
                works.pop(0)()
    assert renewal is not None
    while renewal.left:
        renewal.advance(rows_max)
    for work in works:
        work()
    renewed.adopt(renewal)
    assert found(renewed, at) == found(from_the_beginning, at)
    # It goes on like any other.
    for posts in (renewed, from_the_beginning):
        posts.apply([PostCreated(at + 50, number + 1, 1), PostDeleted(at + 51, number, 1)])
    assert found(renewed, at) == found(from_the_beginning, at)


def test_an_index_that_is_not_ready_is_not_adopted() -> None:
    posts = live(OLD)
    posts.apply([PostCreated(NOW_MS, 1, 1), PostCreated(NOW_MS, 2, 1)])
    renewal = posts.renew(NEW, towers(NEW))
    renewal.advance(1)
    with pytest.raises(ValueError, match="1 rows are left"):
        posts.adopt(renewal)
    renewal.advance(1)
    posts.give_up()
    with pytest.raises(ValueError, match="0 rows are left, or another was begun since"):
        posts.adopt(renewal)
    assert posts.index is not None
    assert posts.index.dimensions == OLD
