"""The candidate index: the live posts whose vectors lie nearest to a viewer's (x-algorithm.md 2.8)."""

import bisect
import itertools
from collections import deque
from typing import Final

import msgspec
import numpy as np

from models.faiss_threads import one_thread
from operators.posts.index_quantiser import Quantiser, row_by_row
from operators.posts.index_segment import (
    FIXED_POINT,
    FloatMatrix,
    FloatVector,
    IntVector,
    Segment,
    inner_products,
)

NORM_MAX: Final = 1.01  # a unit vector, with what half-precision towers lose

# A large batch is encoded whenever so many of its posts wait: together they cost two thirds of what blocks cost
# alone, and 16,384 x 128 in f32 are 8 MiB.
TAIL_LIMIT_ROWS: Final = 16_384


class IndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the index. The defaults are for a million live posts; smaller ones serve tests.

    Posts get codes in blocks of `block_rows`, about a millisecond's work. `segment_rows` posts share a time slice:
    slices are dropped whole, and each costs a search some 0.1 ms, so four make a million. `code_width` is how many
    dimensions share 4 bits: at d 128, 1 takes 45 bytes a post more than 2 and needs far fewer posts scored again.
    """

    exact_max: int = 20_480  # up to so many posts every search is exact
    tail_rows: int = 2_048  # the newest posts, searched exactly and not encoded yet
    block_rows: int = 64
    segment_rows: int = 262_144
    lists: int = 256  # of each segment, by the nearest of so many centroids
    code_width: int = 1
    rescored_per_result: int = 3
    rescored_min: int = 1_000
    training_rounds: int = 10

    def __post_init__(self) -> None:
        """Refuse sizes that do not divide each other, with a ValueError."""
        for name in ("exact_max", "tail_rows", "segment_rows"):
            if getattr(self, name) < self.block_rows or getattr(self, name) % self.block_rows:
                raise ValueError(f"{name} must be a multiple of block_rows ({self.block_rows})")
        if self.block_rows % 32:
            raise ValueError("block_rows must be a multiple of 32, the posts that fast-scan reads at once")
        if self.code_width not in {1, 2}:
            raise ValueError(f"code_width must be 1 or 2, not {self.code_width}")
        if self.exact_max < max(self.tail_rows, self.lists):
            raise ValueError("exact_max must be at least tail_rows, and lists, which are trained on so many posts")


class CandidateIndex:
    """Find the posts nearest to a vector by inner product, in a set that changes with every event.

    The newest posts stand in a flat tail and are searched exactly. Older ones have short codes, in segments of a fixed
    number of posts; the best few thousand by their codes are scored again by their vectors. While at most `exact_max`
    encoded posts can be meant, all are scored exactly.

    The state is a function of what was added, removed and expired, not of how adds were cut into batches or of when
    searches came: blocks, segments and training begin at fixed counts of posts ever added, and a score's bits depend on
    the two vectors alone. Two processes on one log therefore give the same answers, on the same kind of processor.

    The quantiser is trained once, on the posts that have come when `exact_max` is passed, and never again: what it
    loses as vectors drift shows in `recall`, and a new model needs a new index anyhow (some 20 s a million).
    Vectors are kept in 16-bit fixed point, also in the tail, so a post's score never changes. Not thread-safe.
    """

    def __init__(self, dimensions: int, settings: IndexSettings | None = None) -> None:
        """Make an empty index of vectors of `dimensions`."""
        if dimensions < 1:
            raise ValueError(f"an index needs at least 1 dimension, not {dimensions}")
        self.dimensions = dimensions
        self.settings = settings or IndexSettings()
        self._added = 0  # posts ever; a post's number of this kind is its position
        self._last_row = -1
        self._floor_ms = 0
        self._segments: dict[int, Segment] = {}  # by position // segment_rows, increasing
        self._first_rows: list[int] = []  # of each segment
        self._tail: deque[FloatMatrix] = deque()  # blocks of fixed-point vectors; the last one is filling
        self._encoded_blocks = 0
        self._quantiser: Quantiser | None = None

    def __len__(self) -> int:
        """Count the posts neither removed nor expired."""
        return sum(
            segment.eligible(segment.filled, self._floor_ms, np.iinfo(np.int64).max - 1)
            for segment in self._segments.values()
        )

    def memory_bytes(self) -> int:
        """Return the bytes that posts, codes and tail take."""
        tail = sum(block.nbytes for block in self._tail)
        return tail + sum(segment.memory_bytes() for segment in self._segments.values())

    # -- changes

    def add(self, rows: IntVector, created_ms: IntVector, vectors: FloatMatrix) -> None:
        """Add posts: `rows` int64[n] above all before, creation times int64[n], unit vectors float32[n,d].

        Raises ValueError, and adds nothing, when shapes differ, rows do not increase or a vector is not finite or
        longer than 1.
        """
        rows, created_ms = np.asarray(rows, np.int64), np.asarray(created_ms, np.int64)
        vectors = np.ascontiguousarray(vectors, np.float32)
        self._check_batch(rows, created_ms, vectors)
        fixed = np.clip(np.rint(vectors * np.float32(FIXED_POINT)), -FIXED_POINT, FIXED_POINT)
        start = 0
        while start < rows.size:
            used = self._added % self.settings.block_rows
            stop = min(start + self.settings.block_rows - used, rows.size)
            self._append(rows[start:stop], created_ms[start:stop], fixed[start:stop], used)
            start = stop
            if len(self._tail) * self.settings.block_rows > TAIL_LIMIT_ROWS + self.settings.exact_max:
                self._encode()
        self._encode()

    def remove(self, rows: IntVector) -> None:
        """Take posts out for good, from the next search on; rows that are not there are passed over."""
        segments = list(self._segments.values())
        for row in np.asarray(rows, np.int64).tolist():
            at = bisect.bisect_right(self._first_rows, row) - 1
            if at >= 0:
                segments[at].remove(row)

    def expire(self, before_ms: int) -> None:
        """Let no search find posts created before `before_ms`; free the segments that hold nothing else."""
        self._floor_ms = max(self._floor_ms, before_ms)
        for number, segment in list(self._segments.items()):
            if segment.encoded == segment.capacity and segment.newest_ms < self._floor_ms:
                del self._segments[number]
        self._first_rows = [segment.first_row for segment in self._segments.values()]

    def _check_batch(self, rows: IntVector, created_ms: IntVector, vectors: FloatMatrix) -> None:
        """Raise ValueError for a batch that cannot be added."""
        if rows.ndim != 1 or created_ms.shape != rows.shape:
            raise ValueError(f"rows {rows.shape} and creation times {created_ms.shape} must be one list each, as long")
        if vectors.shape != (rows.size, self.dimensions):
            raise ValueError(
                f"vectors are {vectors.shape}; {rows.size} posts in an index of {self.dimensions} dimensions "
                f"need {(rows.size, self.dimensions)}"
            )
        if not rows.size:
            return
        if rows[0] <= self._last_row or (np.diff(rows) <= 0).any():
            raise ValueError(f"rows must increase and be above {self._last_row}, the last one added")
        if int(created_ms.min()) < 0:
            raise ValueError("creation times must not be negative")
        squares = np.einsum("nd,nd->n", vectors, vectors)
        if not (squares <= NORM_MAX**2).all():
            worst = int(rows[~(squares <= NORM_MAX**2)][0])
            raise ValueError(f"the vector of row {worst} is not finite or is longer than 1")

    def _append(self, rows: IntVector, created_ms: IntVector, fixed: FloatMatrix, used: int) -> None:
        """Add posts that fit the block that is filling, in which `used` rows are taken."""
        settings = self.settings
        number = self._added // settings.segment_rows
        if number not in self._segments:
            first_row, first_ms = int(rows[0]), int(created_ms[0])
            self._segments[number] = Segment(settings.segment_rows, self.dimensions, first_row, first_ms)
            self._first_rows.append(first_row)
        if not used:
            self._tail.append(np.zeros((settings.block_rows, self.dimensions), np.float32))
        self._segments[number].append(rows, created_ms, fixed)
        self._tail[-1][used : used + rows.size] = fixed
        self._added += rows.size
        self._last_row = int(rows[-1])

    def _encode(self) -> None:
        """Give codes to the blocks that are due.

        Past `exact_max`, two blocks are due for each that fills until all but `tail_rows` are encoded, then one for
        one. What is due follows from the number of full blocks alone, and codes from the post alone: many blocks
        encoded together, which is faster, end in the same state as one after another.
        """
        settings = self.settings
        full = self._added // settings.block_rows
        enough = settings.exact_max // settings.block_rows
        if full < enough:
            return
        quantiser = self._quantiser
        if quantiser is None:
            sample = np.concatenate(list(itertools.islice(self._tail, enough)))
            quantiser = Quantiser(sample, settings.lists, settings.training_rounds, settings.code_width)
            self._quantiser = quantiser
        due = min(full - settings.tail_rows // settings.block_rows, 2 * (full - enough + 1))
        a_segment = settings.segment_rows // settings.block_rows
        while self._encoded_blocks < due:
            number = self._encoded_blocks // a_segment
            count = min(due, (number + 1) * a_segment) - self._encoded_blocks
            # Block by block, since this is a BLAS product.
            rotated = np.concatenate([quantiser.rotated(self._tail.popleft()) for _ in range(count)])
            segment = self._segments[number]
            with row_by_row():
                segment.encode(segment.codes or quantiser.codes(), rotated)
            self._encoded_blocks += count

    # -- searches

    def search(self, vector: FloatVector, k: int, newest_ms: int, oldest_ms: int) -> tuple[IntVector, FloatVector]:
        """Return rows int64[m] and inner products float32[m], m <= k, of the nearest posts, best first.

        Only posts not removed and created within [oldest_ms, newest_ms] count; of equal scores the greater row
        is first. Approximate among posts with codes (see `recall`). Raises ValueError when the vector's shape is
        not (d,).
        """
        return self._search(vector, k, newest_ms, oldest_ms, exact=False)

    def search_exact(
        self, vector: FloatVector, k: int, newest_ms: int, oldest_ms: int
    ) -> tuple[IntVector, FloatVector]:
        """Return what `search` would if it looked at every post."""
        return self._search(vector, k, newest_ms, oldest_ms, exact=True)

    def recall(self, vectors: FloatMatrix, k: int) -> float:
        """Return the share of the exact top k that `search` finds, over queries float32[n,d]; 1 when there is none."""
        newest_ms = max((segment.newest_ms for segment in self._segments.values()), default=0)
        found = wanted = 0
        for vector in vectors:
            truth, _ = self.search_exact(vector, k, newest_ms, self._floor_ms)
            rows, _ = self.search(vector, k, newest_ms, self._floor_ms)
            wanted += truth.size
            found += int(np.isin(truth, rows).sum())
        return found / wanted if wanted else 1.0

    def _search(
        self, vector: FloatVector, k: int, newest_ms: int, oldest_ms: int, *, exact: bool
    ) -> tuple[IntVector, FloatVector]:
        """Score the tail and the segments and take the best k."""
        vector = np.asarray(vector, np.float32)
        if vector.shape != (self.dimensions,):
            raise ValueError(f"the vector is {vector.shape}; this index needs ({self.dimensions},)")
        oldest_ms = max(oldest_ms, self._floor_ms)
        if k < 1 or newest_ms < oldest_ms or not self._segments:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = vector / np.float32(FIXED_POINT)
        base = next(iter(self._segments)) * self.settings.segment_rows
        keys = self._tail_keys(query, newest_ms, oldest_ms, base)
        meant = {
            number: count
            for number, segment in self._segments.items()
            if (count := segment.eligible(segment.encoded, oldest_ms, newest_ms))
        }
        if exact or sum(meant.values()) <= self.settings.exact_max:
            chosen = self._all_of(meant, newest_ms, oldest_ms)
        else:
            chosen = self._nearest_of(meant, query, k, newest_ms, oldest_ms)
        for number, indices in chosen.items():
            first = number * self.settings.segment_rows - base
            keys.append(sort_keys(self._segments[number].scores(query, indices), indices + first))
        return self._best(np.concatenate(keys), k, base)

    def _tail_keys(self, query: FloatVector, newest_ms: int, oldest_ms: int, base: int) -> list[IntVector]:
        """Score the posts without codes and return the sort keys of those meant, an array for each segment."""
        rows, capacity = self.settings.block_rows, self.settings.segment_rows
        position = self._encoded_blocks * rows
        scores = np.concatenate([np.empty(0, np.float32), *(inner_products(block, query) for block in self._tail)])
        keys = [np.empty(0, np.int64)]
        while position < self._added:
            number, start = divmod(position, capacity)
            stop = min(capacity, self._added - number * capacity)
            indices = np.flatnonzero(self._segments[number].created.within(slice(start, stop), oldest_ms, newest_ms))
            keys.append(sort_keys(scores[indices], indices + (position - base)))
            scores, position = scores[stop - start :], position + stop - start
        return keys

    def _all_of(self, meant: dict[int, int], newest_ms: int, oldest_ms: int) -> dict[int, IntVector]:
        """Return the indices of all encoded posts meant, by segment."""
        chosen = {}
        for number in meant:
            segment = self._segments[number]
            chosen[number] = np.flatnonzero(segment.created.within(slice(segment.encoded), oldest_ms, newest_ms))
        return chosen

    def _nearest_of(
        self, meant: dict[int, int], query: FloatVector, k: int, newest_ms: int, oldest_ms: int
    ) -> dict[int, IntVector]:
        """Return the indices of the encoded posts meant that look nearest by their codes, by segment.

        They are the best `rescored` of all segments together. Each segment is asked for half as many again as its share
        would be; one whose last hit is still good enough is asked again, for four times as many. So the outcome is
        that of one great segment, wherever in time the best posts lie.
        """
        assert self._quantiser is not None, "there are encoded posts"
        rotated = self._quantiser.rotated(query[None])[0]
        segments = {number: self._segments[number] for number in meant}
        counts = sum(segment.list_sizes * (meant[number] / segment.encoded) for number, segment in segments.items())
        lists, biases = self._quantiser.probes(rotated, np.asarray(counts, np.float64), k)
        rescored = max(self.settings.rescored_per_result * k, self.settings.rescored_min)
        read = {number: int(segment.list_sizes[lists].sum()) for number, segment in segments.items()}
        total = sum(read.values())
        fetch = {number: min(-(-3 * rescored * count // (2 * total)), count) for number, count in read.items() if count}
        asked = set(fetch)
        hits: dict[int, tuple[FloatVector, IntVector]] = {}
        last: dict[int, float] = {}
        while asked:
            for number in asked:
                with one_thread():
                    scores, indices = segments[number].nearest(rotated, fetch[number], lists, biases)
                last[number] = float(scores[-1]) if fetch[number] < read[number] else -np.inf
                kept = segments[number].created.within(indices, oldest_ms, newest_ms)
                hits[number] = scores[kept], indices[kept]
            cut = score_of_best(np.concatenate([scores for scores, _ in hits.values()]), rescored)
            asked = {number for number, score in last.items() if score >= cut and score > -np.inf}
            for number in asked:
                fetch[number] = min(4 * fetch[number], read[number])
        return {number: indices[scores >= cut] for number, (scores, indices) in hits.items()}

    def _best(self, keys: IntVector, k: int, base: int) -> tuple[IntVector, FloatVector]:
        """Return rows and scores of the k greatest sort keys."""
        keys.sort()
        keys = keys[::-1][:k]
        ordered = (keys >> 32).astype(np.int32)
        scores = (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
        positions = (keys & 0xFFFFFFFF) + base
        numbers = positions // self.settings.segment_rows
        rows = np.empty(keys.size, np.int64)
        for number, segment in self._segments.items():
            at = np.flatnonzero(numbers == number)
            rows[at] = segment.rows.values(positions[at] - number * self.settings.segment_rows)
        return rows, scores


def sort_keys(scores: FloatVector, positions: IntVector) -> IntVector:
    """Return int64[n] that sort as (score, position) do: the score's bits in order above, 32 bits of position below.

    Positions stand in the order of rows, so ties go by row. One sort of whole numbers takes a tenth of `lexsort`.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # + 0 makes -0 equal to 0
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (ordered.astype(np.int64) << 32) | positions


def score_of_best(scores: FloatVector, count: int) -> float:
    """Return the score that the best `count` reach: minus infinity where there are fewer."""
    if scores.size < count:
        return -np.inf
    return float(np.partition(scores, scores.size - count)[scores.size - count])
