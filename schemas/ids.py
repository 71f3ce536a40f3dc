"""Ids: 64-bit integers or strings up to 64 bytes, and the 64-bit keys that stand for them in columns."""

from typing import Annotated

import xxhash
from msgspec import Meta

ID_BYTES_MAX = 64
ID_INT_MAX = 2**63 - 1

# A string of 64 characters may be longer than 64 bytes; `key_of` refuses what the type lets through.
Id = Annotated[int, Meta(ge=0, le=ID_INT_MAX)] | Annotated[str, Meta(min_length=1, max_length=ID_BYTES_MAX)]

# Keys of strings have the top bit set, keys of integers never do: the two can't meet.
STRING_KEY_BIT = 1 << 63

# Knuth's multiplicative constant, 2^64 / golden ratio: spreads consecutive ids over partitions.
GOLDEN_64 = 0x9E3779B97F4A7C15


def key_of(identity: int | str) -> int:
    """Return the 64-bit key of an id: integers stand for themselves, strings for their XXH3 hash.

    Raises ValueError for a string of more than 64 bytes.
    """
    if isinstance(identity, int):
        return identity
    raw = identity.encode()
    if len(raw) > ID_BYTES_MAX:
        raise ValueError(f"id of {len(raw)} bytes; at most {ID_BYTES_MAX} are allowed")
    return xxhash.xxh3_64_intdigest(raw) | STRING_KEY_BIT


def partition_of(key: int, partitions: int) -> int:
    """Return the partition, 0 to partitions - 1, that owns a key in a recorded log."""
    return (((key * GOLDEN_64) & 0xFFFFFFFFFFFFFFFF) >> 32) % partitions
