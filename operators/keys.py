"""Columns of 64-bit keys: from ids, as sorted sets, and interned to small handles."""

from array import array
from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from schemas.ids import GOLDEN_64, Id, key_of

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_GOLDEN: Final = np.uint64(GOLDEN_64)
# Fewer keys are looked for one by one: to make a screen costs more.
SCREENED_MIN: Final = 256

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
    if len(keys) < SCREENED_MIN:
        return _search(sorted_keys, keys)
    # Most keys that are asked about are not in the set. A screen of one bit a hash, 8 to 16 times as wide as the set,
    # tells so in a tenth of the time of a search.
    shift = np.uint64(64 - max(len(sorted_keys) * 8, 1 << 10).bit_length())
    screen = np.zeros(1 << int(64 - shift), np.bool_)
    screen[sorted_keys * _GOLDEN >> shift] = True
    found = screen.take((keys * _GOLDEN >> shift).view(np.int64))
    maybe = np.flatnonzero(found)
    found[maybe] = _search(sorted_keys, keys[maybe])
    return found


def first_of_each(keys: Keys) -> Mask:
    """Return which keys have not come before, bool[n].

    Each is put in the place that its hash names, from the last to the first, so that the first stays there; a third of
    the time of a sort. The few that find another key in their place are sorted.
    """
    if len(keys) < SCREENED_MIN:
        return _first_by_sorting(keys)
    shift = np.uint64(64 - (len(keys) * 16).bit_length())
    places = (keys * _GOLDEN >> shift).view(np.int64)
    numbers = np.arange(len(keys), dtype=np.int32)
    first = np.empty(1 << int(64 - shift), np.int32)
    first[places[::-1]] = numbers[::-1]
    at = first.take(places)
    found: Mask = at == numbers
    others = np.flatnonzero(keys.take(at) != keys)
    found[others] = _first_by_sorting(keys[others])
    return found


def _first_by_sorting(keys: Keys) -> Mask:
    first = np.zeros(len(keys), np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _search(sorted_keys: Keys, keys: Keys) -> Mask:
    at = np.searchsorted(sorted_keys, keys)
    at[at == len(sorted_keys)] = 0
    return np.asarray(sorted_keys[at] == keys)
