"""The index of keys: always what a dict would say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.posts.key_index import LANES, KeyIndex
from schemas.ids import GOLDEN_64

INVERSE = pow(GOLDEN_64, -1, 2**64)


def keys_of_one_bucket(count: int) -> list[int]:
    """Return keys whose first hash differs in its lowest bits only: they share a bucket of any small index."""
    return [((1 << 60) + number) * INVERSE % 2**64 for number in range(1, count + 1)]


def find(index: KeyIndex, keys: list[int]) -> list[int]:
    return index.find(np.array(keys, np.uint64)).tolist()


@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(1, 40), max_size=12)),
        max_size=25,
    ),
    st.sampled_from([1, 1 << 30, INVERSE]),
)
def test_equals_a_dict_under_any_inserts_and_removals(steps, factor):
    index, plain = KeyIndex(), {}
    for number, (adds, chosen) in enumerate(steps):
        keys = [key * factor % 2**64 for key in chosen]
        if adds:
            keys = [key for key in keys if key not in plain]
            values = [number * 100 + place for place in range(len(keys))]
            index.insert(np.array(keys, np.uint64), np.array(values, np.int64))
            plain.update(zip(keys, values, strict=True))
        else:
            index.remove(np.array(keys, np.uint64))
            for key in keys:
                plain.pop(key, None)
        every = [key * factor % 2**64 for key in range(42)]
        assert find(index, every) == [plain.get(key, -1) for key in every]
        assert [index.find_one(key) for key in every] == [plain.get(key, -1) for key in every]
        assert len(index) == len(plain)


def test_more_keys_than_two_buckets_hold_are_still_found():
    keys = keys_of_one_bucket(6 * LANES)
    index = KeyIndex()
    for key in keys[:20]:
        index.insert_one(key, key % 1000)
    index.insert(np.array(keys[20:], np.uint64), np.array([key % 1000 for key in keys[20:]], np.int64))
    assert find(index, keys) == [key % 1000 for key in keys]
    index.remove(np.array(keys[::2], np.uint64))
    assert find(index, keys) == [-1 if place % 2 == 0 else key % 1000 for place, key in enumerate(keys)]
    assert [index.find_one(key) for key in keys[1::2]] == [key % 1000 for key in keys[1::2]]


def test_grows_and_keeps_everything():
    index = KeyIndex(16)
    keys = np.arange(1, 20_001, dtype=np.uint64) * np.uint64(7919)
    for start in range(0, len(keys), 256):
        index.insert(keys[start : start + 256], np.arange(start, min(start + 256, len(keys))))
    assert (index.find(keys) == np.arange(len(keys))).all()
    assert (index.find(keys + np.uint64(1)) == -1).all()
    assert index.memory_bytes() / len(keys) < 60


def test_a_removal_with_another_value_is_passed_over():
    index = KeyIndex()
    index.insert_one(5, 50)
    index.remove(np.array([5, 6], np.uint64), np.array([49, 1], np.int64))
    assert index.find_one(5) == 50
    index.remove(np.array([5], np.uint64), np.array([50], np.int64))
    assert index.find_one(5) == -1


def test_key_0_is_never_found():
    index = KeyIndex()
    index.insert_one(3, 1)
    assert find(index, [0, 3, 0]) == [-1, 1, -1]
    assert index.find_one(0) == -1
