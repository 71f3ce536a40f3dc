"""Semantic IDs: what a post is about as a few small numbers, one a level, each saying what those before left open.

X gives each post six numbers of 256 (x-algorithm.md 3.4, 3.5), from a codebook of its own and embeddings of another
model, neither of which it publishes. Here a post's content vector is the sum of the vectors of its content terms, as a
first model learned them, and the codebook is a residual quantiser (RQ-KMeans) trained by FAISS on the posts of the
training data. A post has its numbers from its first second: they follow from its terms alone.

All of it is whole numbers. Of two centroids equally near, float32 may pick one in a batch of 64 posts and the other in
a batch of 1,500, and a feed must not depend on that.
"""

from typing import Any, Final, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from models.faiss_threads import one_thread
from models.hashing import term_rows
from models.inputs import F32, TERMS, U16

I32 = NDArray[np.int32]

# The first term is the post's topic where it has one, and counts as much as two words (models/ranker.py term_weights).
PLACE_WEIGHTS: Final = np.array([2, 1, 1, 1], np.int64)
# Term vectors are whole numbers up to this; sums of five and centroids among them stay exact in a checkpoint's f16, and
# products of 512 of them (models/config.py) in 32 bits: 2 x (10 x 127)^2 x 512 is below 2^31.
TERM_MAX: Final = 127
# A term that fewer posts have has hardly moved from its random beginning: it would only blur what the others say.
MET_MIN: Final = 5
TRAINING_SEED: Final = 1234


class Codebook(NamedTuple):
    """Whole numbers, as a checkpoint holds them: a vector for each row of the term table, and centroids."""

    terms: Any  # [term_buckets, W]
    centroids: Any  # [levels, codes, W]


class SemanticIds:
    """The numbers of posts by a codebook; never changes once built, may be asked by several threads at once."""

    def __init__(self, codebook: Codebook) -> None:
        terms, centroids = (np.rint(np.asarray(part)).astype(np.float64) for part in codebook)
        self.levels, self.codes, _ = centroids.shape
        flat = centroids.reshape(self.levels * self.codes, -1)
        # Products of whole numbers: exact in float64, so in whatever order BLAS adds them.
        self._dots: I32 = (2 * terms @ flat.T).astype(np.int32)
        norms = (flat * flat).sum(axis=1)
        self._norms: I32 = norms.astype(np.int32)
        self._cross: I32 = (2 * flat @ flat.T).astype(np.int32)
        self._buckets = len(terms)

    def rows(self, terms: U16) -> I32:
        """Return int32[..., levels], the number of each level from 1 on; 0 for a post without terms."""
        packed = np.ascontiguousarray(terms, np.uint16).view(np.uint64)[..., 0]
        distinct, where = np.unique(packed, return_inverse=True)
        found = self._rows(distinct.view(np.uint16).reshape(-1, TERMS))
        rows: I32 = found[where.reshape(packed.shape)]
        return rows

    def _rows(self, terms: U16) -> I32:
        """Return the numbers of posts [n, 4] as [n, levels]: at each level the centroid nearest to what is left."""
        weighted = self._dots[term_rows(terms, self._buckets)] * PLACE_WEIGHTS.astype(np.int32)[:, None]
        nearness = weighted.sum(axis=1, dtype=np.int32) - self._norms
        rows = np.zeros((len(terms), self.levels), np.int32)
        for level in range(self.levels):
            first = level * self.codes
            best = nearness[:, first : first + self.codes].argmax(axis=1)
            rows[:, level] = best + 1
            nearness -= self._cross[first + best]
        rows[(terms == 0).all(axis=1)] = 0
        return rows


def no_codebook(term_buckets: int, levels: int, codes: int, width: int) -> Codebook:
    """Return a codebook that tells nothing apart."""
    return Codebook(np.zeros((term_buckets, width), np.float32), np.zeros((levels, codes, width), np.float32))


def learn_codebook(term_vectors: F32, terms: U16, levels: int, codes: int) -> Codebook:
    """Return a codebook for posts with terms u16[n, 4], by the vectors [term_buckets, W] that a model has of terms.

    The same vectors and posts give the same one. Raises ValueError where `codes` is no power of two, and where fewer
    posts than that differ.
    """
    bits = codes.bit_length() - 1
    if codes != 1 << bits:
        raise ValueError(f"{codes} numbers a level: must be a power of two")
    posts = term_rows(np.unique(terms.reshape(-1, TERMS), axis=0), len(term_vectors))
    met = np.bincount(posts.ravel(), minlength=len(term_vectors)) >= MET_MIN
    met[0] = False
    vectors = np.where(met[:, None], term_vectors, 0.0)
    vectors = np.rint(vectors * (TERM_MAX / max(float(np.abs(vectors).max()), 1e-9)))
    content = np.unique((vectors[posts] * PLACE_WEIGHTS[:, None]).sum(axis=1), axis=0).astype(np.float32)
    if len(content) < codes:
        raise ValueError(
            f"{len(content)} posts differ in what they are about: too few for {codes} semantic IDs a level"
        )
    quantiser = faiss.ResidualQuantizer(vectors.shape[1], levels, bits)
    quantiser.max_beam_size = 1  # numbers are given greedily, level by level
    quantiser.cp.seed = TRAINING_SEED
    quantiser.cp.min_points_per_centroid = 1
    with one_thread():
        quantiser.train(np.ascontiguousarray(content))
    centroids = faiss.vector_to_array(quantiser.codebooks).reshape(levels, codes, -1)
    return Codebook(vectors.astype(np.float32), np.rint(centroids).astype(np.float32))
