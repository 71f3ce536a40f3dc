"""Phoenix as the pipeline calls it: shapes, ranges, equality with full attention, padding, threads, warm-up."""

from concurrent.futures import ThreadPoolExecutor

import jax
import msgspec
import numpy as np
import pytest

from benchmarks.ranker import rank_naively
from models.config import PhoenixConfig
from models.inputs import Context, History
from models.phoenix import Phoenix, history_slots, init_parameters
from schemas.actions import ACTIONS, DWELL_TIME
from tests.models.conftest import random_context, random_posts


def test_the_factorised_form_equals_full_attention_with_a_shared_position(small: Phoenix) -> None:
    context, posts = random_context(32, 1), random_posts(150, 2)
    factorised, naive = small.rank(context, posts), rank_naively(small, context, posts, shared_position=True)
    assert np.abs(factorised - naive)[:, :DWELL_TIME].max() <= 1e-5
    np.testing.assert_allclose(factorised[:, DWELL_TIME], naive[:, DWELL_TIME], rtol=1e-5)


def test_with_a_position_of_its_own_a_candidates_score_depends_on_its_slot(small: Phoenix) -> None:
    context, posts = random_context(32, 1), random_posts(150, 2)
    forwards = rank_naively(small, context, posts, shared_position=False)
    backwards = rank_naively(small, context, posts.take(slice(None, None, -1)), shared_position=False)
    assert np.abs(forwards - backwards[::-1])[:, :DWELL_TIME].max() > 1e-3


def test_outputs_are_probabilities_and_seconds(small: Phoenix) -> None:
    scores = small.rank(random_context(10, 1), random_posts(100, 2))
    assert scores.shape == (100, len(ACTIONS))
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    assert (scores[:, :DWELL_TIME] <= 1).all()


def test_no_candidates_give_no_scores_and_no_posts_no_vectors(small: Phoenix) -> None:
    assert small.rank(random_context(3, 1), random_posts(0, 2)).shape == (0, len(ACTIONS))
    none = random_posts(0, 2)
    assert small.embed_posts(none.post, none.author, none.terms).shape == (0, small.dimensions)


@pytest.mark.parametrize("length", [0, 1, 31, 32])
def test_a_viewer_of_any_history_is_ranked_for(small: Phoenix, length: int) -> None:
    context = random_context(length, 4)
    assert np.isfinite(small.rank(context, random_posts(5, 1))).all()
    assert np.linalg.norm(small.embed_viewer(context)) == pytest.approx(1, abs=1e-5)


def test_a_longer_history_than_the_model_holds_loses_its_oldest(small: Phoenix) -> None:
    long = random_context(50, 4)
    newest = History(*(getattr(long.history, name)[-32:] for name in History.__slots__))
    short = Context(long.key, newest, long.at_ms, long.surface, long.counts)
    posts = random_posts(20, 3)
    assert small.rank(long, posts).tobytes() == small.rank(short, posts).tobytes()


def test_the_padding_of_a_history_changes_no_score(small_config: PhoenixConfig) -> None:
    # The same 20 actions in 32 and in 64 slots: a model of the same weights whose history may be 64 long pads more
    # where 20 is padded to its longest. Positions count from the newest, so only rounding may differ.
    phoenix = Phoenix.untrained(small_config, seed=3)
    context, posts = random_context(20, 6), random_posts(64, 7)
    scores = phoenix.rank(context, posts)
    assert history_slots(64) == (32, 64)
    wide = Phoenix(msgspec.structs.replace(small_config, history_max=64), phoenix.parameters)
    wide._slots = lambda history: 64  # type: ignore[method-assign]
    narrow = Phoenix(wide.config, phoenix.parameters)
    np.testing.assert_allclose(wide.rank(context, posts), narrow.rank(context, posts), atol=1e-5)
    assert scores.shape == (64, len(ACTIONS))


def test_posts_never_seen_in_training_differ_by_content_only(small_config: PhoenixConfig) -> None:
    phoenix = Phoenix.untrained(small_config, seed=3)
    context, posts = random_context(20, 6), random_posts(2, 7)
    posts.author[1], posts.terms[1], posts.created_ms[1] = posts.author[0], posts.terms[0], posts.created_ms[0]
    posts.followed[:], posts.has_video[:] = False, False
    posts.counts[1], posts.co_liked[1] = posts.counts[0], posts.co_liked[0]
    scores = phoenix.rank(context, posts)
    assert scores[0].tobytes() == scores[1].tobytes()


def test_vectors_have_length_one(small: Phoenix) -> None:
    posts = random_posts(300, 2)
    vectors = small.embed_posts(posts.post, posts.author, posts.terms)
    assert vectors.shape == (300, small.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_threads_get_the_same_scores(small: Phoenix) -> None:
    requests = [(random_context(30, seed), random_posts(70 + seed, seed)) for seed in range(8)]
    alone = [small.rank(*request).tobytes() for request in requests]
    with ThreadPoolExecutor(4) as pool:
        together = [scores.tobytes() for scores in pool.map(lambda request: small.rank(*request), requests * 4)]
    assert together == alone * 4


def test_warm_up_says_how_far_it_is(small: Phoenix) -> None:
    steps: list[tuple[int, int]] = []
    small.warm_up(100, lambda done, of: steps.append((done, of)))
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)]


def test_fresh_weights_have_the_types_that_steps_return(small_config: PhoenixConfig) -> None:
    # A weak type among them has the second step of a training compiled anew, which takes as long as the first.
    leaves = jax.tree.leaves(init_parameters(small_config, 0))
    assert {str(jax.typeof(leaf)).partition("[")[0] for leaf in leaves} == {"float32"}


def test_the_same_seed_gives_the_same_model(small_config: PhoenixConfig) -> None:
    one, same, other = (Phoenix.untrained(small_config, seed) for seed in (1, 1, 2))
    assert one.version == same.version != other.version


@pytest.mark.parametrize(("width", "heads"), [(64, 3), (64, 8)])
def test_heads_that_do_not_fit_are_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="width of a head must be a multiple of 16"):
        PhoenixConfig(width=width, heads=heads)
