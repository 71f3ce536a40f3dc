"""Counts as features: buckets, what a model without them reads, and that a model with them tells posts apart."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import PhoenixConfig
from models.features import COUNT_BUCKETS, count_rows, viewer_count_rows
from models.inputs import no_counts
from models.phoenix import Phoenix
from models.ranker import COUNT_KNOTS, KNOT_BUCKETS, CountRows, folded_counts
from schemas.actions import COUNTS, VIEWER_COUNTS
from tests.models.conftest import random_context, random_posts, shaken

SHOWN, FAVORITE = 0, 1


def counts(shown: int, favorites: int) -> np.ndarray:
    """Return the counts of a post, u32[COUNTS]."""
    row = np.zeros(COUNTS, np.uint32)
    row[[SHOWN, FAVORITE]] = shown, favorites
    return row


@given(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 1))
def test_more_impressions_or_actions_never_give_a_lower_bucket(shown: int, favorites: int) -> None:
    some, more = count_rows(counts(shown, favorites)), count_rows(counts(shown + 1, favorites))
    assert some.min() >= 0
    assert some.max() < COUNT_BUCKETS
    assert some[SHOWN] <= more[SHOWN]
    assert some[FAVORITE] >= more[FAVORITE], "the same actions of more impressions are a lower rate"


def test_buckets_are_quarters_of_an_octave() -> None:
    shown = [0, 1, 2, 3, 4, 5, 7, 15, 31]
    assert [int(count_rows(counts(n, 0))[SHOWN]) for n in shown] == [0, 4, 6, 8, 9, 10, 12, 16, 20]
    # A rate of 2^-4: half an action and one more in 8 + 16; each octave is four buckets, 2^-16 the first.
    assert int(count_rows(counts(16, 1))[FAVORITE]) == 4 * 12
    assert int(count_rows(counts(24, 1))[FAVORITE]) == 4 * 11 + 2  # 1.5 / 32 = 1.5 x 2^-5
    passed = np.zeros(VIEWER_COUNTS, np.uint32)
    passed[-1] = 3
    assert viewer_count_rows(passed)[-1] == 8


def test_a_model_without_counts_reads_none(small_config: PhoenixConfig) -> None:
    plain = shaken(Phoenix.untrained(msgspec.structs.replace(small_config, counts=False)))
    assert "counts" not in plain.config.as_dict()
    context, posts = random_context(9, 1), random_posts(70, 2)
    bare = replace(posts, counts=no_counts())
    assert plain.rank(context, posts).tobytes() == plain.rank(context, bare).tobytes()


@pytest.mark.parametrize("column", range(COUNTS))
def test_every_count_of_a_post_moves_its_own_scores_alone(small: Phoenix, column: int) -> None:
    context, posts = random_context(9, 1), random_posts(70, 2)
    other = posts.counts.copy()
    other[5, column] += 100_000
    moved = replace(posts, counts=other)
    changed = (small.rank(context, posts) != small.rank(context, moved)).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [5]


def test_no_counts_are_zeros(small: Phoenix) -> None:
    context, posts = random_context(9, 1), random_posts(70, 2)
    bare = replace(posts, counts=no_counts())
    zeros = replace(posts, counts=np.zeros((70, COUNTS), np.uint32))
    assert small.rank(context, bare).tobytes() == small.rank(context, zeros).tobytes()
    assert small.rank(context, bare).tobytes() == small.rank(context, bare.take(slice(None))).tobytes()


def test_curves_over_counts_are_straight_between_knots() -> None:
    width, middles = 16, np.array([16, 48], np.int32)
    knots = np.random.default_rng(3).standard_normal((2, COUNT_KNOTS, width), np.float32)
    line = np.random.default_rng(4).standard_normal((2, width), np.float32)
    curves = np.asarray(folded_counts(CountRows(knots, line), middles)).reshape(2, COUNT_BUCKETS, width)
    for kind, bucket in ((0, 0), (1, 8), (1, 120)):
        steps = (bucket - middles[kind]) / KNOT_BUCKETS
        expected = knots[kind, bucket // KNOT_BUCKETS] + steps * line[kind]
        np.testing.assert_allclose(curves[kind, bucket], expected, rtol=1e-5, atol=1e-5)
    halfway = (curves[:, 40] + curves[:, 48]) / 2
    np.testing.assert_allclose(curves[:, 44], halfway, rtol=1e-5, atol=1e-5)
