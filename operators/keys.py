"""Columns of 64-bit keys: from ids, as sorted sets, and interned to small handles."""

from array import array
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from schemas.ids import GOLDEN_64, Id, key_of

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

NO_KEYS: Keys = np.empty(0, np.uint64)
NO_KEYS.flags.writeable = False


def no_keys() -> Keys:
    """Return the empty set; dataclasses want a factory for it."""
    return NO_KEYS


def keys_of(ids: Sequence[Id]) -> Keys:
    """Return the keys of ids, uint64[n]; integers, the usual case, go through a C loop."""
    try:
        return np.frombuffer(array("Q", cast(Sequence[int], ids)), np.uint64)
    except TypeError:
        return np.fromiter((key_of(one) for one in ids), np.uint64, len(ids))


def partitions_of(keys: Keys, partitions: int) -> npt.NDArray[np.int64]:
    """Return the owning partition of each key; `schemas.ids.partition_of` for a column."""
    return ((keys * np.uint64(GOLDEN_64) >> np.uint64(32)) % np.uint64(partitions)).astype(np.int64)


def with_key(keys: Keys, key: int) -> Keys:
    """Return a sorted set of keys with `key` in it."""
    at = int(np.searchsorted(keys, np.uint64(key)))
    if at < len(keys) and keys[at] == key:
        return keys
    # A tenth of the time of np.insert, which handles every shape and axis.
    return np.concatenate((keys[:at], np.array([key], np.uint64), keys[at:]))


def without_key(keys: Keys, key: int) -> Keys:
    """Return a sorted set of keys without `key`."""
    at = int(np.searchsorted(keys, np.uint64(key)))
    if at == len(keys) or keys[at] != key:
        return keys
    return np.concatenate((keys[:at], keys[at + 1 :]))


def contains(sorted_keys: Keys, keys: Keys) -> Mask:
    """Return which of `keys` are in a sorted set, bool[len(keys)]."""
    if not len(sorted_keys):
        return np.zeros(len(keys), np.bool_)
    at = np.searchsorted(sorted_keys, keys)
    at[at == len(sorted_keys)] = 0
    return np.asarray(sorted_keys[at] == keys)
