"""What co-likers say of a post as features: buckets, and what a model without them reads."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.config import DEMO, PhoenixConfig
from models.features import COUNT_BUCKETS, co_liked_rows
from models.inputs import CO_LIKED, IDLE_UNKNOWN_S, no_co_liked, untouched
from models.phoenix import Phoenix
from tests.models.conftest import random_context, random_posts, shaken


def test_buckets_are_quarters_of_an_octave_up_to_posts_nobody_touched() -> None:
    some = np.array([0, 1, 3, 7, 2**20 - 1, IDLE_UNKNOWN_S], np.uint32)
    assert co_liked_rows(some).tolist() == [0, 4, 8, 12, 80, 124]
    assert co_liked_rows(np.array([2**32 - 1], np.uint32))[0] < COUNT_BUCKETS


def test_a_model_without_co_likers_reads_nothing_of_them(small_config: PhoenixConfig) -> None:
    assert "co_likers" not in DEMO.as_dict()
    plain = shaken(Phoenix.untrained(msgspec.structs.replace(small_config, co_likers=False)))
    context, posts = random_context(9, 1), random_posts(70, 2)
    bare = replace(posts, co_liked=no_co_liked())
    assert plain.rank(context, posts).tobytes() == plain.rank(context, bare).tobytes()


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("column", range(CO_LIKED))
def test_everything_said_of_a_post_moves_its_own_scores_alone(
    small_config: PhoenixConfig, column: int, counts: bool
) -> None:
    small = shaken(Phoenix.untrained(msgspec.structs.replace(small_config, counts=counts)))
    context, posts = random_context(9, 1), random_posts(70, 2)
    other = posts.co_liked.copy()
    other[5, column] += 100_000_000
    changed = (small.rank(context, posts) != small.rank(context, replace(posts, co_liked=other))).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [5]


def test_nothing_said_stands_for_posts_that_nobody_touched(small: Phoenix) -> None:
    context, posts = random_context(9, 1), random_posts(70, 2)
    bare, silent = (replace(posts, co_liked=one) for one in (no_co_liked(), untouched(70)))
    assert small.rank(context, bare).tobytes() == small.rank(context, silent).tobytes()
    assert small.rank(context, bare).tobytes() != small.rank(context, posts).tobytes()
