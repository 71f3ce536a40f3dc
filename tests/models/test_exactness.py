"""Candidate isolation and slot invariance, to the bit: a score depends on the context and on that candidate alone."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import STANDARD
from models.inputs import Candidates
from models.phoenix import POSTS_CHUNK, Phoenix, tiles
from models.serving import TILES
from tests.models.conftest import random_context, random_posts, shaken

POSTS = 1600


@pytest.fixture(scope="module")
def ranked(small: Phoenix) -> np.ndarray:
    """Return the scores of 1,600 posts ranked together."""
    return small.rank(random_context(30, 1), random_posts(POSTS, 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, POSTS), st.integers(0, 2**32 - 1))
def test_a_score_depends_neither_on_the_others_nor_on_the_slot_nor_on_their_number(
    small: Phoenix, ranked: np.ndarray, count: int, seed: int
) -> None:
    rows = np.random.default_rng(seed).permutation(POSTS)[:count]
    scores = small.rank(random_context(30, 1), random_posts(POSTS, 2).take(rows))
    assert scores.tobytes() == ranked[rows].tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 63, 64, 65, 200]))
def test_replacing_all_other_candidates_changes_nothing(small: Phoenix, seed: int, count: int) -> None:
    context = random_context(7, seed)
    one, others, more = random_posts(1, seed), random_posts(count, seed + 1), random_posts(count, seed + 2)

    def with_one_first(rest: Candidates) -> Candidates:
        joined = (np.concatenate([getattr(one, f), getattr(rest, f)]) for f in Candidates.__slots__)
        return Candidates(*joined)

    first = small.rank(context, with_one_first(others))[0]
    assert first.tobytes() == small.rank(context, with_one_first(more))[0].tobytes()
    assert first.tobytes() == small.rank(context, one)[0].tobytes()


def test_every_size_of_call_gives_the_same_bits_at_the_standard_widths() -> None:
    small_tables = {name: 512 for name in ("user_buckets", "post_buckets", "author_buckets", "term_buckets")}
    phoenix = shaken(
        Phoenix.untrained(
            msgspec.structs.replace(STANDARD, counts=True, co_likers=True, viewer_in_candidates=True, **small_tables),
            seed=1,
        )
    )
    context, posts = random_context(128, 5), random_posts(max(TILES), 6)
    whole = phoenix.rank(context, posts)
    for size in TILES:
        assert phoenix.rank(context, posts.take(slice(0, size))).tobytes() == whole[:size].tobytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 599), min_size=1, max_size=2 * POSTS_CHUNK + 3))
def test_a_post_has_the_same_vector_in_every_batch(small: Phoenix, rows: list[int]) -> None:
    posts = random_posts(600, 9)
    alone = small.embed_posts(posts.post, posts.author, posts.terms)
    together = small.embed_posts(posts.post[rows], posts.author[rows], posts.terms[rows])
    assert together.tobytes() == alone[rows].tobytes()


@given(st.integers(0, 5000))
def test_calls_cover_the_candidates_with_at_most_63_rows_to_spare(count: int) -> None:
    assert 0 <= sum(tiles(count)) - count <= 63
    assert all(size in TILES for size in tiles(count))
    if count >= 320:
        assert sum(tiles(count)) <= 1.25 * count
