"""The candidate index keeps its promises at sizes where every path is taken in seconds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts.index import CandidateIndex, IndexSettings
from operators.posts.index_segment import FIXED_POINT, OffsetColumn, inner_products

D = 16
FOREVER = 2**62
# Encoding begins at 192 posts, a segment holds 256, and 40 posts are rescored for 10 results.
SMALL = IndexSettings(
    exact_max=192, tail_rows=64, block_rows=32, segment_rows=256, lists=8, rescored_min=40, training_rounds=4
)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_units(count, dimensions=D, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, dimensions)))


def clustered_units(count, dimensions, seed=0, topics=60):
    generator = np.random.default_rng(seed)
    centres = random_units(topics, dimensions, seed)
    weights = 1 / np.arange(1, topics + 1)
    mine = centres[generator.choice(topics, count, p=weights / weights.sum())]
    posts = unit(mine + 0.6 * unit(generator.standard_normal((count, dimensions))))
    viewers = unit(centres[generator.choice(topics, (20, 3))].sum(axis=1))
    return posts, viewers


def filled(count, *, settings=SMALL, seed=0, step_ms=1):
    index = CandidateIndex(D, settings)
    vectors = random_units(count, seed=seed)
    index.add(np.arange(count), np.arange(count) * step_ms, vectors)
    return index, vectors


def brute(vectors, query, k, keep=None):
    """The same answer the plain way: fixed-point rows, float64 sums, ties by greater row."""
    scores = np.rint(vectors * np.float32(FIXED_POINT)).astype(np.float64) @ query.astype(np.float64) / FIXED_POINT
    rows = np.arange(len(vectors)) if keep is None else np.flatnonzero(keep)
    return rows[np.lexsort((-rows, -scores[rows]))][:k], scores


# -- exact answers


@pytest.mark.parametrize("count", [1, 5, 31, 32, 33, 192])
def test_small_set_is_searched_exactly(count):
    index, vectors = filled(count)
    query = random_units(1, seed=9)[0]
    rows, scores = index.search(query, 10, FOREVER, 0)
    expected, all_scores = brute(vectors, query, 10)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, all_scores[rows], atol=1e-6)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32


def test_exact_search_of_a_large_set_equals_brute_force():
    index, vectors = filled(1_500)
    query = random_units(1, seed=9)[0]
    rows, _ = index.search_exact(query, 50, FOREVER, 0)
    assert rows.tolist() == brute(vectors, query, 50)[0].tolist()


def test_equal_scores_go_by_greater_row():
    index = CandidateIndex(D, SMALL)
    index.add(np.arange(700), np.zeros(700, np.int64), np.tile(random_units(1), (700, 1)))
    rows, scores = index.search(random_units(1)[0], 5, FOREVER, 0)
    assert rows.tolist() == [699, 698, 697, 696, 695]
    assert len(set(scores.tolist())) == 1


def test_scores_near_zero_and_below_are_in_order():
    index = CandidateIndex(2, SMALL)
    vectors = np.array([[-1, 0], [0, 1], [1, 0], [-0.6, 0.8], [0, -1]], np.float32)
    index.add(np.arange(5), np.zeros(5, np.int64), vectors)
    rows, scores = index.search(np.array([1, 0], np.float32), 5, FOREVER, 0)
    assert rows.tolist() == [2, 4, 1, 3, 0]
    np.testing.assert_allclose(scores, [1, 0, 0, -0.6, -1], atol=2e-5)


def test_more_asked_than_there_are():
    index, _ = filled(700)
    rows, scores = index.search(random_units(1)[0], 5_000, FOREVER, 0)
    assert sorted(rows.tolist()) == list(range(700))
    assert (np.diff(scores) <= 0).all()


def test_empty_index_and_no_results_asked():
    index = CandidateIndex(D, SMALL)
    for result in (index.search(random_units(1)[0], 10, FOREVER, 0), filled(9)[0].search(random_units(1)[0], 0, 9, 0)):
        assert [part.size for part in result] == [0, 0]
    assert len(index) == 0
    assert index.recall(random_units(3), 5) == 1.0


# -- approximate answers


def test_recall_on_clustered_vectors():
    posts, viewers = clustered_units(6_000, 32)
    index = CandidateIndex(
        32, IndexSettings(exact_max=1_024, tail_rows=256, block_rows=128, segment_rows=1_024, lists=32)
    )
    index.add(np.arange(6_000), np.arange(6_000), posts)
    assert index.recall(viewers, 100) >= 0.98
    found = sum(
        np.isin(index.search(viewer, 100, FOREVER, 0)[0], brute(posts, viewer, 100)[0]).sum() for viewer in viewers
    )
    assert found / (100 * len(viewers)) >= 0.98


def test_segment_holding_all_the_nearest_is_asked_as_deep_as_it_takes():
    """The 200 best posts stand in one of eight segments, far more than an even share of the rescored ones."""
    posts = random_units(2_000)
    query = random_units(1, seed=5)[0]
    posts[300:500] = unit(query + 0.3 * random_units(200, seed=6))
    index = CandidateIndex(D, SMALL)
    index.add(np.arange(2_000), np.arange(2_000), posts)
    rows, _ = index.search(query, 150, FOREVER, 0)
    assert np.isin(rows, np.arange(300, 500)).mean() > 0.9
    assert np.isin(brute(posts, query, 150)[0], rows).mean() > 0.9


def test_odd_dimensions_and_row_numbers_with_gaps():
    index = CandidateIndex(7, SMALL)
    rows = np.cumsum(np.random.default_rng(1).integers(1, 2**34, 900))
    vectors = random_units(900, 7)
    index.add(rows, np.arange(900), vectors)
    assert index.search(vectors[5], 1, FOREVER, 0)[0].tolist() == [rows[5]]
    index.remove(rows[5:6])
    assert rows[5] not in index.search(vectors[5], 900, FOREVER, 0)[0]


# -- removal, time, age


@pytest.mark.parametrize("count", [100, 1_500])
def test_removed_posts_never_return(count):
    index, vectors = filled(count)
    gone = np.arange(0, count, 3)
    index.remove(gone)
    index.remove(np.array([0, -5, count + 7, 10**15]))  # again, and unknown
    assert len(index) == count - gone.size
    assert not np.isin(index.search(vectors[0], count, FOREVER, 0)[0], gone).any()
    index.add(np.arange(count, 2 * count), np.arange(count, 2 * count), vectors)
    for post in gone[:20]:
        assert not np.isin(index.search(vectors[post], 20, FOREVER, 0)[0], gone).any()


def test_added_post_is_found_and_removed_post_lost_at_the_next_search():
    index, _ = filled(1_000)
    query = random_units(1, seed=77)[0]
    index.add(np.array([1_000]), np.array([1_000]), query[None])
    assert index.search(query, 1, FOREVER, 0)[0].tolist() == [1_000]
    index.remove(np.array([1_000]))
    assert index.search(query, 1, FOREVER, 0)[0].tolist() != [1_000]


@pytest.mark.parametrize(
    ("newest", "oldest"), [(900, 100), (1_499, 1_490), (40, 0), (700, 700), (5, 9), (2**60, 1_400)]
)
def test_only_posts_within_the_time_range(newest, oldest):
    index, vectors = filled(1_500)
    rows, _ = index.search(vectors[7], 2_000, newest, oldest)
    assert sorted(rows.tolist()) == list(range(oldest, min(newest, 1_499) + 1))


def test_times_far_apart_and_out_of_order():
    index = CandidateIndex(D, SMALL)
    created = np.arange(600)
    created[[10, 300, 590]] = 10**15, 2**40, 5
    index.add(np.arange(300), created[:300], random_units(300))
    index.remove(np.array([3]))
    index.add(np.arange(300, 600), created[300:], random_units(300, seed=2))
    wanted = [row for row in range(600) if row not in {3, 10, 300}]
    assert sorted(index.search(random_units(1)[0], 600, 10_000, 0)[0].tolist()) == wanted
    assert index.search(random_units(1)[0], 5, 2**41, 2**39)[0].tolist() == [300]
    assert index.search(random_units(1)[0], 5, FOREVER, 10**14)[0].tolist() == [10]


def test_expired_posts_are_not_found_and_their_segments_freed():
    index, vectors = filled(1_500)
    before = index.memory_bytes()
    index.expire(600)
    index.expire(100)  # an earlier limit changes nothing
    assert len(index) == 900
    assert index.memory_bytes() < before - 500 * 2 * D  # 512 posts stood in segments that are all expired
    assert sorted(index.search(vectors[0], 2_000, FOREVER, 0)[0].tolist()) == list(range(600, 1_500))
    index.remove(np.array([20, 700]))  # one that is gone already, one that is not
    assert len(index) == 899
    index.expire(FOREVER)
    assert len(index) == 0
    assert index.search(vectors[0], 10, FOREVER, 0)[0].size == 0
    index.add(np.arange(1_500, 1_600), np.full(100, FOREVER + 1), vectors[:100])
    assert len(index) == 100


@pytest.mark.parametrize(("code_width", "most"), [(1, 400), (2, 350)])
def test_memory_a_vector_beyond_the_tail(code_width, most):
    """At 128 dimensions: 256 bytes of vector, 64 or 32 of code, 16 of columns, and FAISS's spare room."""
    index = CandidateIndex(128, IndexSettings(exact_max=2_048, lists=64, code_width=code_width, training_rounds=2))
    for start in range(0, 40_960, 8_192):
        index.add(np.arange(start, start + 8_192), np.arange(8_192), random_units(8_192, 128, seed=start))
    encoded = index.memory_bytes() - 2_048 * 128 * 4
    assert 256 < encoded / 40_960 <= most


# -- refusals


def test_wrong_shapes_are_refused_and_nothing_is_added():
    index, vectors = filled(10)
    late, now = np.array([10]), np.array([0])
    for rows, created, given_vectors, words in [
        (late, now, vectors[:1, :8], "16 dimensions"),
        (late, now, vectors[:2], r"need \(1, 16\)"),
        (late, np.array([0, 1]), vectors[:1], "creation times"),
        (np.array([9]), now, vectors[:1], "above 9"),
        (np.array([12, 11]), np.array([0, 0]), vectors[:2], "must increase"),
        (late, np.array([-1]), vectors[:1], "negative"),
        (late, now, vectors[:1] * np.nan, "row 10 is not finite"),
        (late, now, vectors[:1] * 2, "longer than 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            index.add(rows, created, given_vectors)
    for query in (vectors[0, :8], vectors[:1]):
        with pytest.raises(ValueError, match=r"needs \(16,\)"):
            index.search(query, 5, FOREVER, 0)
    assert len(index) == 10
    index.add(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, D), np.float32))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"block_rows": 33}, "multiple of"),
        ({"segment_rows": 1_000}, "segment_rows must be a multiple"),
        ({"exact_max": 512, "tail_rows": 1_024}, "at least tail_rows"),
        ({"exact_max": 512, "tail_rows": 512, "lists": 600}, "and lists"),
        ({"block_rows": 48, "exact_max": 480, "tail_rows": 480, "segment_rows": 480}, "multiple of 32"),
        ({"code_width": 3}, "code_width must be 1 or 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        IndexSettings(**sizes)
    with pytest.raises(ValueError, match="at least 1"):
        CandidateIndex(0)


# -- one state, however it came about

POSTS = random_units(1_400, seed=3)
QUERIES = random_units(4, seed=4)
REMOVED = np.arange(5, 1_300, 41)


def grown(cuts, searches, removals_late):
    """Add the same posts cut at `cuts`, searching after those batches whose number is in `searches`."""
    index = CandidateIndex(D, SMALL)
    bounds = [0, *sorted(cuts), len(POSTS)]
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        index.add(np.arange(start, stop), np.arange(start, stop), POSTS[start:stop])
        if number in searches:
            index.search(QUERIES[0], 7, stop, 0)
        if not removals_late:
            index.remove(REMOVED[(start <= REMOVED) & (stop > REMOVED)])
            index.expire(stop // 4)
    index.remove(REMOVED)
    index.expire(len(POSTS) // 4)
    return index


REFERENCE = grown([], set(), True)
ANSWERS = [REFERENCE.search(query, 10, 1_390, 10) for query in QUERIES]


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.sets(st.integers(1, len(POSTS) - 1), max_size=60),
    searches=st.sets(st.integers(0, 60)),
    removals_late=st.booleans(),
)
def test_answers_do_not_depend_on_batches_searches_or_when_posts_went(cuts, searches, removals_late):
    index = grown(cuts, searches, removals_late)
    for query, (rows, scores) in zip(QUERIES, ANSWERS, strict=True):
        again_rows, again_scores = index.search(query, 10, 1_390, 10)
        assert again_rows.tobytes() == rows.tobytes()
        assert again_scores.tobytes() == scores.tobytes()


def test_score_of_a_post_is_the_same_in_the_tail_and_in_a_segment():
    index, vectors = filled(100)
    _, before = index.search(vectors[3], 1, FOREVER, 0)
    index.add(np.arange(100, 900), np.arange(100, 900), random_units(800, seed=8))
    rows, after = index.search(vectors[3], 1, FOREVER, 0)
    assert rows.tolist() == [3]
    assert before.tobytes() == after.tobytes()


@settings(max_examples=60, deadline=None)
@given(dimensions=st.integers(1, 200), start=st.integers(0, 60), count=st.integers(1, 40), seed=st.integers(0, 99))
def test_inner_products_do_not_depend_on_place(dimensions, start, count, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((100, dimensions), dtype=np.float32)
    query = generator.standard_normal(dimensions, dtype=np.float32)
    whole = inner_products(vectors, query)
    assert inner_products(vectors[start : start + count], query).tobytes() == whole[start : start + count].tobytes()
    assert inner_products(vectors[::-1].copy(), query)[::-1].tobytes() == whole.tobytes()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(0, 2**40), st.integers(0, 2**40))
def test_offset_column_holds_any_values(values, low, high):
    column = OffsetColumn(20, values[0])
    column.put(0, np.array(values[:1]))
    column.clear(0)
    if values[1:]:
        column.put(1, np.array(values[1:]))
        assert column.values(np.arange(1, len(values))).tolist() == values[1:]
    marks = column.within(slice(len(values)), low, high)
    assert marks.tolist() == [False, *[low <= value <= high for value in values[1:]]]
    assert not column.clear(0)
