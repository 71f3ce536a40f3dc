"""Handles: small, stable, in the order keys first come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.interner import Interner


# 2^64 - 1 marks free places in the index; one string in 2^63 has that key.
@given(st.lists(st.lists(st.integers(0, 2**64 - 2) | st.integers(0, 30), max_size=40), max_size=8))
def test_handles_number_keys_in_the_order_they_come(batches: list[list[int]]) -> None:
    interner = Interner()
    expected: dict[int, int] = {0: 0}
    for batch in batches:
        handles = interner.handles(np.array(batch, np.uint64))
        assert handles.tolist() == [expected.setdefault(key, len(expected)) for key in batch]
        assert interner.keys(handles).tolist() == batch
    assert len(interner) == len(expected) - 1
    assert all(interner.handle_of(key) == handle for key, handle in expected.items())
