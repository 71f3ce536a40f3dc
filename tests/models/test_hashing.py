"""The published hash, against whole-number arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hashing import AUTHOR, ITEM, USER, HashFamily, hash_rows, term_rows


@pytest.mark.parametrize("family", [USER, ITEM, AUTHOR])
@given(key=st.integers(1, 2**64 - 1), buckets=st.integers(2, 2**27))
def test_rows_follow_the_published_formula_for_every_64_bit_key(family: HashFamily, key: int, buckets: int) -> None:
    wanted = [
        (key * scale + bias) % family.modulus % (buckets - 1) + 1
        for scale, bias in zip(family.scales, family.biases, strict=True)
    ]
    assert hash_rows(np.array([key], np.uint64), family, buckets).tolist() == [wanted]


def test_a_user_by_hand() -> None:
    # (1 * 196742702 + 1935840681) mod 2859568897 = 2132583383, mod 99 = 29, + 1;
    # (1 * 1852108266 + 167407236) mod 2859568897 = 2019515502, mod 99 = 42, + 1.
    assert hash_rows(np.array([1], np.uint64), USER, 100).tolist() == [[2132583383 % 99 + 1, 2019515502 % 99 + 1]]


def test_key_0_is_padding_and_keeps_its_shape() -> None:
    rows = hash_rows(np.array([[0, 5], [7, 0]], np.uint64), ITEM, 50)
    assert rows.shape == (2, 2, 2)
    assert rows[0, 0].tolist() == rows[1, 1].tolist() == [0, 0]
    assert (rows[[0, 1], [1, 0]] > 0).all()


@given(st.integers(1, 2**16 - 1), st.integers(2, 2**16))
def test_terms_never_meet_padding(term: int, buckets: int) -> None:
    (row,) = term_rows(np.array([term], np.uint16), buckets)
    assert 1 <= row < buckets
    assert term_rows(np.array([0], np.uint16), buckets).tolist() == [0]
