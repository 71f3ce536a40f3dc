"""What the candidate index holds follows from the log alone, not from when somebody asks it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts.index import CandidateIndex, IndexSettings
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from schemas.events import PostCreated, PostDeleted, PostEvent

NOW_MS = 1_770_000_000_000
DAY_MS = 86_400_000
DIMENSIONS = 16
SMALL = IndexSettings(exact_max=128, tail_rows=64, block_rows=64, segment_rows=256, lists=4)


def embed(post: np.ndarray, author: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Return a unit vector for each post that depends on its key alone."""
    rows = [np.random.default_rng(int(key)).normal(size=DIMENSIONS) for key in post]
    vectors = np.array(rows).reshape(len(rows), DIMENSIONS)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def live() -> LivePosts:
    return LivePosts(PostTable(), CandidateIndex(DIMENSIONS, SMALL), embed)


batches = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from([1, 1000, DAY_MS, 3 * DAY_MS]), st.booleans(), st.booleans()),
    min_size=8,
    max_size=24,
)


@settings(max_examples=25, deadline=None)
@given(batches)
def test_asking_early_changes_nothing(made: list[tuple[int, int, bool, bool]]) -> None:
    asked, left_alone = live(), live()
    at, number = NOW_MS, 0
    for count, gap, deletes, asks in made:
        at += gap
        events: list[PostEvent] = [PostCreated(at=at + n, post=number + n + 1, author=n % 7 + 1) for n in range(count)]
        number += count
        if deletes:
            events.append(PostDeleted(at=at + count, post=number, author=1))
        for posts in (asked, left_alone):
            posts.apply(events, at + count)
        if asks:
            asked.refresh_index()
    vector = embed(np.array([1]), np.array([1]), np.zeros((1, 4)))[0]
    found = []
    for posts in (asked, left_alone):
        posts.refresh_index()
        assert posts.index is not None
        found.append(posts.index.search(vector, 50, at + 100, at - 2 * DAY_MS))
    assert found[0][0].tolist() == found[1][0].tolist()
    assert found[0][1].tobytes() == found[1][1].tobytes()


def test_a_reply_to_a_deleted_authors_post_does_not_name_the_author() -> None:
    posts = live()
    posts.apply([PostCreated(NOW_MS, 1, 7, "tea"), PostCreated(NOW_MS + 1, 2, 8, "yes", reply_to=1)])
    assert posts.table.gather(posts.table.rows_of(np.array([2], np.uint64))).reply_to_author.tolist() == [7]
    posts.delete_author(7)
    posts.apply([PostCreated(NOW_MS + 2, 3, 9, "no", reply_to=1)])
    rows = posts.table.rows_of(np.array([2, 3], np.uint64))
    assert posts.table.gather(rows).reply_to_author.tolist() == [0, 0]
