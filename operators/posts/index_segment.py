"""One time slice of the candidate index: columns of its posts, their vectors and their quantised codes."""

from collections.abc import Callable
from typing import Final, cast

import faiss
import numpy as np
import numpy.typing as npt

IntVector = npt.NDArray[np.int64]
IntMatrix = npt.NDArray[np.int64]
FloatVector = npt.NDArray[np.float32]
FloatMatrix = npt.NDArray[np.float32]
ListSearch = Callable[[FloatMatrix, int, IntMatrix, FloatMatrix], tuple[FloatMatrix, IntMatrix]]

# A coordinate of a unit vector lies in [-1, 1]: 16-bit fixed point holds it to 1.5e-5, as near as a half float does,
# and turns into f32 ten times as fast (measured: 4,000 x 128 in 0.1 ms against 1.3 ms).
FIXED_POINT: Final = 32_767.0
# Rows read at once when scores are computed: 512 x 128 is 128 KiB as int16 and 256 KiB as f32, which fits a core's L2.
CHUNK_ROWS: Final = 512


class OffsetColumn:
    """Hold int64 values in 4 bytes each, as differences from a base, and in 8 bytes once one does not fit.

    The largest number that fits is kept free of values: `clear` puts it where a value is taken out.
    """

    def __init__(self, capacity: int, base: int) -> None:
        """Make room for `capacity` values of [base, base + 2^32 - 2]."""
        self.base = base
        self.data: npt.NDArray[np.uint32] | npt.NDArray[np.int64] = np.empty(capacity, np.uint32)
        self.cleared = int(np.iinfo(np.uint32).max)

    def put(self, start: int, values: IntVector) -> None:
        """Write `values` from index `start` on."""
        if self.data.dtype == np.uint32:
            if int(values.min()) >= self.base and int(values.max()) - self.base < self.cleared:
                self.data[start : start + values.size] = values - self.base
                return
            self._widen(start)
        self.data[start : start + values.size] = values

    def _widen(self, filled: int) -> None:
        """Turn the first `filled` differences into 8-byte values."""
        wide = np.empty(self.data.size, np.int64)
        wide[:filled] = self.data[:filled].astype(np.int64) + self.base
        never = int(np.iinfo(np.int64).max)
        wide[:filled][self.data[:filled] == self.cleared] = never
        self.data, self.base, self.cleared = wide, 0, never

    def values(self, indices: IntVector) -> IntVector:
        """Return the int64 values at `indices`."""
        return self.data[indices].astype(np.int64) + self.base

    def find(self, value: int, filled: int) -> int:
        """Return where `value` stands in the first `filled`, which increase, or -1."""
        difference = value - self.base
        if not 0 <= difference < self.cleared:
            return -1
        # A scalar of the column's own type: with any other, NumPy would convert the whole column first.
        at = int(self.data[:filled].searchsorted(self.data.dtype.type(difference)))
        return at if at < filled and self.data[at] == difference else -1

    def clear(self, index: int) -> bool:
        """Take out the value at `index`; say whether there was one."""
        if self.data[index] == self.cleared:
            return False
        self.data[index] = self.cleared
        return True

    def within(self, part: slice | IntVector, low: int, high: int) -> npt.NDArray[np.bool_]:
        """Mark which of the values at `part` are of [low, high]; those taken out never are."""
        least, most = max(low - self.base, 0), min(high - self.base, self.cleared - 1)
        data = self.data[part]
        if most < least:
            return np.zeros(data.size, np.bool_)
        kind = self.data.dtype.type
        marks: npt.NDArray[np.bool_] = (data >= kind(least)) & (data <= kind(most))
        return marks


class Segment:
    """Hold `capacity` posts in the order in which they came, with int16 vectors and quantised codes.

    A removed post is one whose creation time was taken out of its column: no time range holds it any more, so the test
    of time, which every hit goes through, is the test of removal too, and a tombstone takes no memory of its own.
    """

    def __init__(self, capacity: int, dimensions: int, first_row: int, first_created_ms: int) -> None:
        """Make room; memory is touched, and so taken from the system, only as posts come."""
        self.filled = 0
        self.encoded = 0
        self.removed = 0
        self.first_row = first_row
        self.rows = OffsetColumn(capacity, first_row)
        # Times are kept within 2^31 ms (24.8 days) before and after the segment's first, wider where they must be.
        self.created = OffsetColumn(capacity, max(first_created_ms - 2**31, 0))
        self.vectors: npt.NDArray[np.int16] = np.empty((capacity, dimensions), np.int16)
        self.codes: faiss.IndexIVFPQFastScan | None = None
        self.list_sizes: IntVector = np.zeros(0, np.int64)
        self.oldest_ms = first_created_ms
        self.newest_ms = first_created_ms

    @property
    def capacity(self) -> int:
        """Return how many posts there is room for."""
        return len(self.vectors)

    def append(self, rows: IntVector, created_ms: IntVector, fixed: FloatMatrix) -> None:
        """Add posts; `fixed` are their vectors, float32[n,d] with whole numbers up to FIXED_POINT in size."""
        start, stop = self.filled, self.filled + rows.size
        self.rows.put(start, rows)
        self.created.put(start, created_ms)
        self.vectors[start:stop] = fixed
        self.oldest_ms = min(self.oldest_ms, int(created_ms.min()))
        self.newest_ms = max(self.newest_ms, int(created_ms.max()))
        self.filled = stop

    def encode(self, codes: faiss.IndexIVFPQFastScan, rotated: FloatMatrix) -> None:
        """Give the next posts, whose rotated vectors are `rotated`, their codes; `codes` is empty at the first call."""
        codes.add(rotated)
        self.codes = codes
        self.encoded += len(rotated)
        lists = codes.invlists
        assert lists is not None, "an index over lists has them"
        self.list_sizes = np.fromiter((lists.list_size(at) for at in range(codes.nlist)), np.int64, codes.nlist)

    def remove(self, row: int) -> bool:
        """Take out one post; say whether it was there."""
        at = self.rows.find(row, self.filled)
        if at < 0 or not self.created.clear(at):
            return False
        self.removed += 1
        return True

    def eligible(self, stop: int, oldest_ms: int, newest_ms: int) -> int:
        """Count the posts of [0, stop) that are not removed and were created within the range."""
        if newest_ms < self.oldest_ms or oldest_ms > self.newest_ms:
            return 0
        if stop == self.filled and oldest_ms <= self.oldest_ms and self.newest_ms <= newest_ms:
            return stop - self.removed
        return int(np.count_nonzero(self.created.within(slice(stop), oldest_ms, newest_ms)))

    def nearest(
        self, query: FloatVector, count: int, lists: IntVector, biases: FloatVector
    ) -> tuple[FloatVector, IntVector]:
        """Return the approximate scores and indices of the posts in `lists` that look nearest, best first.

        `query` is rotated; `biases` are its inner products with the centroids of `lists`. At most `count` are returned.
        """
        assert self.codes is not None, "only encoded posts can be searched by their codes"
        self.codes.nprobe = lists.size
        # FAISS's Python layer takes and gives arrays here; its type stub shows the C++ signature.
        search = cast(ListSearch, self.codes.search_preassigned)
        scores, indices = search(query[None], count, lists[None], biases[None])
        found = int(np.count_nonzero(indices[0] >= 0))
        return scores[0, :found], indices[0, :found]

    def scores(self, query: FloatVector, indices: IntVector) -> FloatVector:
        """Return the inner products of posts at `indices` with the query, float32[n]."""
        scores = np.empty(indices.size, np.float32)
        for start in range(0, indices.size, CHUNK_ROWS):
            chunk = indices[start : start + CHUNK_ROWS]
            scores[start : start + chunk.size] = inner_products(self.vectors[chunk].astype(np.float32), query)
        return scores

    def memory_bytes(self) -> int:
        """Return the bytes that the posts so far take, FAISS's spare room among them."""
        per_post: int = self.rows.data.itemsize + self.created.data.itemsize + 2 * self.vectors.shape[1]
        if self.codes is None:
            return self.filled * per_post
        # A list's codes lie in blocks of 32 posts, in a table of a power of two of bytes; each has an id of 8 bytes.
        blocks = -(-self.list_sizes // 32) * 32 * int(self.codes.code_size)
        tables = np.exp2(np.ceil(np.log2(np.maximum(blocks, 256))))
        return self.filled * per_post + int(tables.sum()) + 8 * self.encoded


def inner_products(vectors: FloatMatrix, query: FloatVector) -> FloatVector:
    """Return float32[n], the inner product of each of float32[n,d] with float32[d].

    `einsum` walks each row by itself in one order, so the bits of a score depend on the two vectors alone. A BLAS
    product (`vectors @ query`) does not promise that: its kernels take rows in fours, and the same row scored at
    another place came out different in the last bit in 2 of 3 trials.
    """
    products: FloatVector = np.einsum("nd,d->n", vectors, query)
    return products
