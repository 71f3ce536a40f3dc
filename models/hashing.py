"""Keys to table rows, two hashes an entity, with the published constants (x-algorithm.md 3.3 and 3.4)."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs import U64


class HashFamily(NamedTuple):
    """(id * scale + bias) mod modulus, then mod (buckets - 1) + 1; one scale and bias for each of two hashes."""

    scales: tuple[int, int]
    biases: tuple[int, int]
    modulus: int


USER: Final = HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897)
ITEM: Final = HashFamily((2161410491, 1754358832), (1935840681, 167407236), 2361375383)
AUTHOR: Final = HashFamily((371965780, 328930218), (139686260, 37755056), 631860353)


def hash_rows(keys: U64, family: HashFamily, buckets: int) -> NDArray[np.int32]:
    """Return the two table rows of each key, int32[..., 2] in 1 to buckets - 1; key 0 has row 0 (padding) twice.

    The key is reduced first, so that the product of two numbers below 2^32 never leaves 64 bits; the result equals
    the formula in whole numbers.
    """
    reduced = keys % np.uint64(family.modulus)
    rows = np.empty((*keys.shape, 2), np.int32)
    for column, (scale, bias) in enumerate(zip(family.scales, family.biases, strict=True)):
        mixed = (reduced * np.uint64(scale) + np.uint64(bias)) % np.uint64(family.modulus)
        rows[..., column] = mixed % np.uint64(buckets - 1) + np.uint64(1)
    rows[keys == 0] = 0
    return rows


def term_rows(terms: NDArray[np.uint16], buckets: int) -> NDArray[np.int32]:
    """Return the table row of each content term, 1 to buckets - 1; term 0 has row 0 (padding)."""
    rows = terms.astype(np.int32)
    return np.where(rows == 0, 0, (rows - 1) % (buckets - 1) + 1)
