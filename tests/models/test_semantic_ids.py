"""Semantic IDs: numbers by hand, the same in every batch, and read by both models where they are switched on."""

from dataclasses import replace
from pathlib import Path

import jax
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.codebooks import codebook_from
from models.config import DEMO, PhoenixConfig
from models.evaluation import predictions_of
from models.phoenix import Phoenix, PhoenixParameters
from models.run_files import load_run, save_run
from models.semantic_ids import Codebook, SemanticIds, learn_codebook
from models.serving import TILES
from models.training import Trainer, TrainingConfig, fit
from tests.models.conftest import random_context, random_posts, shaken
from tests.models.toy_world import batch

# Terms 1 to 3 are table rows 1 to 3. Two levels of two centroids.
BY_HAND = Codebook(
    np.array([[0, 0], [10, 0], [0, 10], [1, 1]], np.float32),
    np.array([[[20, 0], [0, 20]], [[0, 9], [1, -1]]], np.float32),
)


@pytest.fixture(scope="module")
def with_ids(small_config: PhoenixConfig) -> Phoenix:
    """Return a model with random weights and a codebook that tells posts apart."""
    config = msgspec.structs.replace(small_config, layers=1, semantic_levels=3, semantic_codes=8)
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (config.term_buckets, config.retrieval_width)).astype(np.float32)
    codebook = learn_codebook(vectors, rng.integers(0, 2**16, (4000, 4), dtype=np.uint16), 3, 8)
    noisy = shaken(Phoenix.untrained(config, seed=3)).parameters
    return Phoenix(config, PhoenixParameters(noisy.ranker, noisy.two_tower, codebook))


def test_numbers_by_hand() -> None:
    ids = SemanticIds(BY_HAND)
    terms = np.array([[1, 0, 0, 0], [2, 3, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], np.uint16)
    # The first place counts twice. (20, 0) is centroid 1 and leaves (0, 0), nearest to (1, -1). (1, 21) is centroid 2
    # and leaves (1, 1), nearer to (1, -1) than to (0, 9). No terms, no numbers. (10, 0): 10 from (20, 0), 22 from the
    # other; leaves (-10, 0), 13.5 from (0, 9) and 11.05 from (1, -1).
    assert ids.rows(terms).tolist() == [[1, 2], [2, 2], [0, 0], [1, 2]]
    # (1, 32) is centroid 2 and leaves (1, 12), 3.2 from (0, 9).
    assert ids.rows(np.array([[2, 2, 3, 0], [2, 3, 2, 0]], np.uint16)).tolist() == [[2, 1], [2, 1]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([2, 4, 16]))
def test_each_level_takes_the_centroid_nearest_to_what_is_left(seed: int, levels: int, codes: int) -> None:
    rng = np.random.default_rng(seed)
    book = Codebook(
        rng.integers(-127, 128, (16, 8)).astype(np.float32), rng.integers(-600, 600, (levels, codes, 8)).astype(float)
    )
    book.terms[0] = 0
    terms = rng.integers(1, 15, (20, 4)).astype(np.uint16)
    found = SemanticIds(book).rows(terms)
    left = (book.terms[terms].astype(np.int64) * np.array([2, 1, 1, 1])[:, None]).sum(axis=1)
    for level in range(levels):
        apart = ((left[:, None].astype(np.int64) - book.centroids[level].astype(np.int64)) ** 2).sum(axis=2)
        assert (apart[np.arange(20), found[:, level] - 1] == apart.min(axis=1)).all()
        left = left - book.centroids[level][found[:, level] - 1].astype(np.int64)


def test_every_size_of_call_gives_the_same_bits_and_training_reads_what_serving_does(with_ids: Phoenix) -> None:
    context, posts = random_context(30, 5), random_posts(max(TILES), 6)
    whole = with_ids.rank(context, posts)
    vectors = with_ids.embed_posts(posts.post, posts.author, posts.terms)
    for size in (TILES[2], TILES[-1]):
        some = posts.take(slice(0, size))
        assert with_ids.rank(context, some).tobytes() == whole[:size].tobytes()
        assert with_ids.embed_posts(some.post, some.author, some.terms).tobytes() == vectors[:size].tobytes()
    made = batch(3, 4, 32, 8)
    predicted = predictions_of(with_ids, made)
    for row in range(4):
        served = with_ids.rank(made.context(row), made.candidates(row))
        np.testing.assert_allclose(predicted[row], served, rtol=2e-4, atol=2e-5)


def test_both_models_read_them_of_candidates_and_of_the_history(with_ids: Phoenix) -> None:
    """Tables of zeros, but for what stands for none, give other scores and vectors, of posts and of viewers."""
    parameters = with_ids.parameters

    def without(part: object) -> object:
        entities = part.entities._replace(semantic=part.entities.semantic.at[:, 1:].set(0.0))  # type: ignore[attr-defined]
        return part._replace(entities=entities)  # type: ignore[attr-defined]

    blind = Phoenix(
        with_ids.config,
        PhoenixParameters(without(parameters.ranker), without(parameters.two_tower), parameters.codebook),
    )
    posts = random_posts(70, 2)
    bare = replace(posts, terms=np.zeros_like(posts.terms))  # no terms, no numbers: only the history has any
    for candidates in (posts, bare):
        assert (with_ids.rank(random_context(9, 1), candidates) != blind.rank(random_context(9, 1), candidates)).all()
    empty = random_context(0, 1)
    assert with_ids.rank(empty, bare).tobytes() == blind.rank(empty, bare).tobytes()
    of_both = [one.embed_posts(posts.post, posts.author, posts.terms) for one in (with_ids, blind)]
    assert (of_both[0] != of_both[1]).any(axis=1).all()
    assert (with_ids.embed_viewer(random_context(9, 1)) != blind.embed_viewer(random_context(9, 1))).any()


def test_a_checkpoint_holds_the_codebook_exactly(with_ids: Phoenix, tmp_path: Path) -> None:
    with_ids.save(tmp_path / "model")
    back = Phoenix.load(tmp_path / "model")
    assert back.version == with_ids.version
    for one, other in zip(with_ids.parameters.codebook, back.parameters.codebook, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(np.rint(one), one)
    context, posts = random_context(9, 1), random_posts(70, 2)
    assert back.rank(context, posts).tobytes() == with_ids.rank(context, posts).tobytes()


def test_models_without_them_are_as_they_were(small: Phoenix) -> None:
    assert not {"semantic_levels", "semantic_codes"} & DEMO.as_dict().keys()
    assert small.parameters.codebook is None
    assert not [path for path, _ in jax.tree_util.tree_leaves_with_path(small.parameters) if "semantic" in str(path)]


def test_a_codebook_is_the_same_again_and_says_the_most_first() -> None:
    rng = np.random.default_rng(1)
    topics, words = rng.integers(1, 9, 3000), rng.integers(10, 200, (3000, 3))
    terms = np.concatenate([topics[:, None], words], axis=1).astype(np.uint16)
    vectors = rng.normal(0, 0.1, (256, 16)).astype(np.float32)
    vectors[1:9] = 3 * np.eye(8, 16)
    one, other = (learn_codebook(vectors, terms, 2, 16) for _ in range(2))
    assert all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))
    first = SemanticIds(one).rows(terms)[:, 0]
    # Eight topics far apart, sixteen numbers: what has a number in common has its topic in common.
    by_number = [np.bincount(topics[first == number], minlength=9) for number in range(1, 17)]
    assert sum(int(counts.max()) for counts in by_number) > 0.98 * 3000


def test_what_no_codebook_can_be_made_of_is_refused(small: Phoenix) -> None:
    vectors, terms = np.ones((16, 8), np.float32), np.ones((50, 4), np.uint16)
    with pytest.raises(ValueError, match="1 posts differ in what they are about: too few for 8"):
        learn_codebook(vectors, terms, 2, 8)
    with pytest.raises(ValueError, match="must be a power of two"):
        learn_codebook(vectors, terms, 2, 7)
    other = msgspec.structs.replace(small.config, term_buckets=64, semantic_levels=2)
    with pytest.raises(ValueError, match="has 128 terms of width 64; 64 of 64 are needed"):
        codebook_from(small, [batch(1, 8, 32, 4)], other)
    with pytest.raises(ValueError, match="those need one"):
        Trainer(other)
    with pytest.raises(ValueError, match="from both sides"):
        msgspec.structs.replace(small.config, semantic_levels=2, retrieval_causal=True)


@pytest.mark.full
def test_training_moves_their_tables_and_goes_on_to_the_bit(tmp_path: Path, small: Phoenix) -> None:
    config = msgspec.structs.replace(
        small.config, layers=1, heads=2, counts=False, co_likers=False, semantic_levels=2, semantic_codes=16
    )
    made = [batch(seed, 16, 32, 8) for seed in range(6)]
    codebook = codebook_from(Phoenix.untrained(config, seed=1), made, config)
    quick = TrainingConfig(warm_up_steps=2)
    with pytest.raises(ValueError, match="those need one"):
        fit(iter(made), config, training=quick)
    whole = Trainer(config, 0, quick, codebook=codebook)
    whole.learn(iter(made))
    phoenix = whole.phoenix()
    for part in (phoenix.parameters.ranker, phoenix.parameters.two_tower):
        assert np.abs(part.entities.semantic).max() > 0
    assert np.array_equal(phoenix.parameters.codebook.centroids, codebook.centroids), "steps do not change it"
    begun = Trainer(config, 0, quick, codebook=codebook)
    begun.learn(iter(made[:3]))
    save_run(tmp_path / "run", begun, {})
    went_on, _ = load_run(tmp_path / "run", config, quick, codebook)
    went_on.learn(iter(made[3:]))
    assert went_on.phoenix().version == phoenix.version
