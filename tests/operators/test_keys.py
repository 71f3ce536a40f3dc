"""Sets of keys: the ways that are fast for many keys answer as the plain ones do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.keys import SCREENED_MIN, contains, first_of_each


@settings(max_examples=60)
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_a_screened_search_finds_what_a_plain_one_finds(held: int, asked: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Some keys next to each other, as numbered posts are, and some far apart, as hashes of text are.
    near, far = np.arange(values, dtype=np.uint64), rng.integers(0, 2**64, values, np.uint64)
    pool = np.concatenate([near, far])
    keys, known = rng.choice(pool, asked), np.unique(rng.choice(pool, held))
    assert contains(known, keys).tolist() == np.isin(keys, known).tolist()


@settings(max_examples=60)
@given(st.integers(0, 3000), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_the_first_of_each_is_the_first(count: int, values: int, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, values, count).astype(np.uint64)
    seen: set[int] = set()
    for key, first in zip(keys.tolist(), first_of_each(keys).tolist(), strict=True):
        assert first == (key not in seen)
        seen.add(key)


@pytest.mark.parametrize("count", [SCREENED_MIN - 1, SCREENED_MIN, 5000])
def test_keys_that_are_all_alike_have_one_first(count: int) -> None:
    assert np.flatnonzero(first_of_each(np.full(count, 7, np.uint64))).tolist() == [0]
