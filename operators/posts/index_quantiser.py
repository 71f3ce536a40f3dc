"""How posts are encoded for approximate search, and which of their lists a query has to read.

A vector is rotated, assigned to the nearest of some hundred centroids, and its difference from that centroid is kept in
4 bits for each dimension or two. A search reads only the lists that may hold a result. How many those are is not a
constant: it follows from where the centroids lie and how far vectors stray from them, so that well clustered vectors
cost a fifth of a full scan and structureless ones a full scan, at the same recall.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import faiss
import numpy as np
import numpy.typing as npt

from models.faiss_threads import one_thread
from operators.posts.index_segment import FloatMatrix, FloatVector, IntVector

# FAISS fast-scan compares 32 posts at a time in registers; it wants 4 bits a sub-quantiser.
CODE_BITS: Final = 4
# Vectors of a list are taken to stray from their mean as a normal distribution does, half as wide again by measurement:
# over clustered, low-rank and structureless sets (400 k x 128, top 400) lists holding 99 % of the expected results held
# 99.8 % of the real ones at 1.3, but as little as 94.5 % at 1.
SPREAD: Final = 1.3
EXPECTED_SHARE: Final = 0.99
# 1.702 x makes the logistic function the normal distribution's to within 0.01, without a special function.
LOGISTIC: Final = 1.702
BISECTIONS: Final = 14  # of the range of scores: to a few thousandths of a list's spread
POINTS_PER_LIST: Final = 32  # of the training sample, for k-means: 8,192 posts for 256 lists


class Quantiser:
    """Encode vectors of one distribution; trained once, then shared by all segments."""

    def __init__(self, vectors: FloatMatrix, lists: int, rounds: int, width: int) -> None:
        """Train on float32[n,d], n >= `lists`, in `rounds` of k-means; FAISS samples by its fixed seeds.

        `width` dimensions share 4 bits, 1 where it does not divide d.
        """
        self.dimensions = vectors.shape[1]
        self.lists = lists
        self.width = width
        with one_thread():
            self._rotation = balanced_rotation(vectors)
            rotated: FloatMatrix = self._rotation.apply(vectors)
            clustering = faiss.ClusteringParameters()
            clustering.niter, clustering.max_points_per_centroid = rounds, POINTS_PER_LIST
            clustering.min_points_per_centroid = 1  # small test settings train on few posts, without a warning
            self._coarse = faiss.IndexFlatL2(self.dimensions)
            faiss.Clustering(self.dimensions, lists, clustering).train(rotated, self._coarse)
            self._trained = self._empty()
            self._trained.pq.cp.niter, self._trained.pq.cp.min_points_per_centroid = rounds, 1
            self._trained.train(rotated)
            nearest = self._coarse.search(rotated, 1)[1][:, 0]
        self._centroids: FloatMatrix = self._coarse.reconstruct_n(0, lists)
        self._measure(rotated - self._centroids[nearest], nearest)

    def _measure(self, strays: FloatMatrix, nearest: IntVector) -> None:
        """Keep how far vectors stray from their centroids: by list, and by dimension over all lists."""
        squares = strays.astype(np.float64) ** 2
        by_dimension = squares.mean(axis=0)
        overall = max(float(by_dimension.mean()), 1.0)  # one unit of fixed point: never zero
        sums = np.bincount(nearest, weights=squares.mean(axis=1), minlength=self.lists)
        counts = np.bincount(nearest, minlength=self.lists)
        # Eight posts' worth of the overall figure keep a list of two or three from looking narrower than it is.
        self._spread = SPREAD * np.sqrt((sums + 8 * overall) / (counts + 8))
        self._shape = by_dimension / overall

    def _empty(self) -> faiss.IndexIVFPQFastScan:
        """Return an untrained FAISS index over the centroids."""
        width = 1 if self.dimensions % self.width else self.width
        codes = faiss.IndexIVFPQFastScan(
            self._coarse, self.dimensions, self.lists, self.dimensions // width, CODE_BITS, faiss.METRIC_INNER_PRODUCT
        )
        codes.by_residual = True
        return codes

    def codes(self) -> faiss.IndexIVFPQFastScan:
        """Return an empty FAISS index that encodes with this quantiser."""
        codes = self._empty()
        codes.pq = self._trained.pq
        codes.is_trained = True
        return codes

    def rotated(self, vectors: FloatMatrix) -> FloatMatrix:
        """Turn float32[n,d] into the space of the codes."""
        with one_thread():
            return cast(FloatMatrix, self._rotation.apply(vectors))

    def probes(self, query: FloatVector, counts: npt.NDArray[np.float64], k: int) -> tuple[IntVector, FloatVector]:
        """Return the lists to read for the best k, fullest of results first, and their centroids' scores.

        `query` is rotated, float32[d]; `counts` is how many posts that may be results each list holds. The score of a
        list's posts is taken as normal about the centroid's. That gives the score that k posts are expected to pass,
        each list's share of them, and the fewest lists with EXPECTED_SHARE of all.
        """
        means = np.einsum("nd,d->n", self._centroids, query)
        wide = self._spread * np.sqrt((query.astype(np.float64) ** 2 * self._shape).sum())
        # tanh(x) is the logistic function of 2 x, less a shift, and cannot overflow.
        steepness = LOGISTIC / 2 / np.maximum(wide, np.finfo(np.float32).tiny)
        shift = steepness * means
        low, high = float((means - 8 * wide).min()), float((means + 8 * wide).max())
        for _ in range(BISECTIONS):
            limit = (low + high) / 2
            if float(counts @ (1 + np.tanh(shift - steepness * limit))) > 2 * k:
                low = limit
            else:
                high = limit
        expected = counts * (1 + np.tanh(shift - steepness * low))
        order = np.argsort(-expected, kind="stable")
        sums = np.cumsum(expected[order])
        enough = int(np.searchsorted(sums, EXPECTED_SHARE * sums[-1])) + 1
        chosen = order[:enough]
        return chosen, means[chosen]


def balanced_rotation(vectors: FloatMatrix) -> faiss.LinearTransform:
    """Return the rotation to principal axes, the widest paired with the narrowest.

    Trained embeddings spread over few of their axes. Unrotated, every pair of dimensions gets the same 4 bits for a
    bit of everything (recall of 4 x 1,000 candidates .57 where the i-th axis has i^-0.7 of the first); with a wide axis
    in each pair the bits go where the spread is (.94, and .999 about centroids).
    """
    dimensions = vectors.shape[1]
    principal = faiss.PCAMatrix(dimensions, dimensions)
    principal.train(vectors)
    axes = faiss.vector_to_array(principal.PCAMat).reshape(dimensions, dimensions)
    order = np.arange(dimensions)
    if dimensions % 2 == 0:
        order = np.stack([order[: dimensions // 2], order[: dimensions // 2 - 1 : -1]], axis=1).ravel()
    rotation = faiss.LinearTransform(dimensions, dimensions, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(axes[order]).ravel(), rotation.A)
    rotation.is_trained = True
    return rotation


_setting: Final = threading.Lock()
_holders: Final[list[None]] = []
_before: Final[list[int]] = []


@contextmanager
def row_by_row() -> Iterator[None]:
    """Keep FAISS from comparing many vectors in one BLAS product, whose last bits depend on a vector's place.

    Without it a post halfway between two centroids could go to either, depending on what else was encoded with it.
    The setting is one for all threads: the first that needs it sets it, the last one gives it back.
    """
    with _setting:
        if not _holders:
            _before.append(faiss.cvar.distance_compute_blas_threshold)
            faiss.cvar.distance_compute_blas_threshold = np.iinfo(np.int32).max
        _holders.append(None)
    try:
        with one_thread():
            yield
    finally:
        with _setting:
            _holders.pop()
            if not _holders:
                faiss.cvar.distance_compute_blas_threshold = _before.pop()
