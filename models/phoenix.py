"""Phoenix: the ranker and the two retrieval towers of one checkpoint, as the pipeline calls them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self

import jax
import numpy as np
from jax import Array

from models import checkpoints, serving
from models.checkpoints import CheckpointRefused, Origin
from models.compilation import use_cache
from models.config import PhoenixConfig
from models.features import I32, ContextFeatures, candidate_features, context_features, entity_rows, sequence_features
from models.inputs import F32, TERMS, U16, U64, Candidates, Context, History
from models.ranker import OUTPUTS, RankerParameters, init_ranker
from models.semantic_ids import Codebook, SemanticIds, no_codebook
from models.serving import TILES, row_offsets
from models.transformer import ContextLayer
from models.two_tower import TwoTowerParameters, init_two_tower, post_vectors, viewer_vector

__all__ = ["CheckpointRefused", "Origin", "Phoenix", "PhoenixParameters"]

# Posts are embedded in calls of exactly this many rows, so that a post's vector has the same bits in every batch.
POSTS_CHUNK: Final = 256

Progress = Callable[[int, int], None]


class PhoenixParameters(NamedTuple):
    """The parameters of both models; with them the codebook of semantic IDs, which no training step changes."""

    ranker: RankerParameters
    two_tower: TwoTowerParameters
    codebook: Codebook | None = None


def init_parameters(config: PhoenixConfig, seed: int) -> PhoenixParameters:
    """Return fresh parameters; the same seed gives the same."""
    ranker, two_tower = np.random.default_rng(seed).spawn(2)
    codebook = None
    if config.semantic_levels:
        codebook = no_codebook(
            config.term_buckets, config.semantic_levels, config.semantic_codes, config.retrieval_width
        )
    return PhoenixParameters(init_ranker(ranker, config), init_two_tower(two_tower, config), codebook)


_embed_posts = jax.jit(post_vectors, static_argnums=1)
_embed_viewer = jax.jit(viewer_vector, static_argnums=1)


class Phoenix:
    """Both models, ready to serve. Never changes once built; may be called from several threads at once."""

    def __init__(self, config: PhoenixConfig, parameters: PhoenixParameters, origin: Origin | None = None) -> None:
        """Take trained or fresh parameters, rounded to f16 as a checkpoint holds them."""
        exact: PhoenixParameters = checkpoints.rounded(parameters)
        self.config = config
        self.origin = origin or Origin()
        self.parameters: PhoenixParameters = jax.tree.map(jax.numpy.asarray, exact)
        self.version: str = checkpoints.version_of(config, exact)
        self._ranker = serving.prepare(self.parameters.ranker, config)
        self._offsets = row_offsets(config)
        self.semantic = None if exact.codebook is None else SemanticIds(exact.codebook)

    @classmethod
    def untrained(cls, config: PhoenixConfig, seed: int = 0) -> Self:
        """Return a model with fresh parameters."""
        return cls(config, init_parameters(config, seed))

    @classmethod
    def load(cls, path: Path | str, cache: Path | None = None, sha256: str = "") -> Self:
        """Return the model of a checkpoint; compiled shapes are kept in `cache` (models/compilation.py).

        `sha256`, unless empty, is what the file's bytes must hash to, in hexadecimal.

        Raises CheckpointRefused, saying why in one sentence.
        """
        use_cache(cache)
        config, parameters, origin = checkpoints.load(
            Path(path), lambda config: jax.eval_shape(partial(init_parameters, config, 0)), sha256
        )
        return cls(config, parameters, origin)

    def save(self, path: Path | str) -> None:
        """Write the model as a checkpoint."""
        checkpoints.save(Path(path), self.config, self.parameters, self.origin)

    @property
    def dimensions(self) -> int:
        """Return the length of the vectors of `embed_posts` and `embed_viewer`."""
        return self.config.retrieval_width

    def rank(self, context: Context, candidates: Candidates) -> F32:
        """Return float32[C, 19] in the order of schemas.actions.ACTIONS: probabilities, and dwell_time in seconds.

        A row depends on the context and on that candidate alone, to the bit: not on the others, their order or number.
        """
        rows = self._candidate_rows(candidates, context)
        layers, shared = self._encode(context)
        parts: list[Array] = []
        start = 0
        for size in tiles(len(candidates)):
            part = rows[start : start + size]
            if len(part) < size:
                part = np.concatenate([part, np.zeros((size - len(part), part.shape[1]), np.int32)])
            # Calls are only queued here: JAX runs them while the next is prepared.
            parts.append(serving.score(self._ranker, layers, shared, part, self.config))
            start += size
        if not parts:
            return np.zeros((0, OUTPUTS), np.float32)
        scores = np.concatenate([np.asarray(part) for part in parts])
        return scores[: len(candidates)]

    def embed_posts(self, post: U64, author: U64, terms: U16) -> F32:
        """Return float32[n, D], the unit vectors of posts; a post's bits do not depend on the batch it comes in."""
        rows = entity_rows(post, author, terms, self.config, self.semantic)
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        for start in range(0, len(rows), POSTS_CHUNK):
            part = rows[start : start + POSTS_CHUNK]
            padded = np.zeros((POSTS_CHUNK, part.shape[1]), np.int32)
            padded[: len(part)] = part
            found = _embed_posts(self.parameters.two_tower, self.config, padded)
            vectors[start : start + len(part)] = np.asarray(found)[: len(part)]
        return vectors

    def embed_viewer(self, context: Context) -> F32:
        """Return float32[D], the unit vector to search `embed_posts` with."""
        slots = self._slots(len(context.history))
        features = (
            sequence_features(context, slots, self.config)
            if self.config.retrieval_causal
            else context_features(context, slots, self.config, self.semantic)
        )
        return np.asarray(_embed_viewer(self.parameters.two_tower, self.config, features))

    def warm_up(self, candidates_max: int, progress: Progress | None = None) -> None:
        """Compile all that requests of up to `candidates_max` candidates need; calls `progress(done, of)`."""
        slots = history_slots(self.config.history_max)
        sizes = [size for size in TILES if size <= max(candidates_max + TILES[-1] - 1, TILES[-1])]
        works: list[Callable[[], object]] = [lambda: self.embed_posts(*_no_posts())]
        for count in slots:
            context = _blank_context(count)
            works.append(partial(self.embed_viewer, context))
            works.extend(partial(self.rank, context, _blank_candidates(size)) for size in sizes)
        for done, work in enumerate(works, start=1):
            work()
            if progress is not None:
                progress(done, len(works))

    def _slots(self, history: int) -> int:
        return next((n for n in history_slots(self.config.history_max) if n >= history), self.config.history_max)

    def _encode(self, context: Context) -> tuple[list[ContextLayer], serving.Shared]:
        slots = self._slots(len(context.history))
        features: ContextFeatures = context_features(context, slots, self.config, self.semantic)
        rows = features.entity + self._offsets[: features.entity.shape[1]]
        encoded: tuple[list[ContextLayer], serving.Shared] = serving.encode(self._ranker, features, rows, self.config)
        return encoded

    def _candidate_rows(self, candidates: Candidates, context: Context) -> I32:
        features = candidate_features(candidates, context, self.config, self.semantic)
        return np.concatenate([features.entity, features.situation], axis=1) + self._offsets


def tiles(count: int) -> list[int]:
    """Return the sizes of the calls that cover `count` candidates, largest first, at most 63 rows of padding."""
    smallest = TILES[-1]
    left = -(-count // smallest) * smallest
    sizes = []
    for size in TILES:
        whole, left = divmod(left, size)
        sizes += [size] * whole
    return sizes


def history_slots(history_max: int) -> tuple[int, ...]:
    """Return the lengths that histories are padded to: 32, 128, 512 below the longest, and the longest itself."""
    return (*(n for n in (32, 128, 512) if n < history_max), history_max)


def _blank_candidates(count: int) -> Candidates:
    return Candidates(
        np.zeros(count, np.uint64),
        np.zeros(count, np.uint64),
        np.zeros((count, TERMS), np.uint16),
        np.zeros(count, np.int64),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
    )


def _no_posts() -> tuple[U64, U64, U16]:
    return np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.zeros((1, TERMS), np.uint16)


def _blank_context(history: int) -> Context:
    empty = History(
        np.zeros(history, np.uint64),
        np.zeros(history, np.uint64),
        np.zeros((history, TERMS), np.uint16),
        np.zeros(history, np.uint32),
        np.zeros(history, np.float32),
        np.zeros(history, np.uint8),
        np.zeros(history, np.int64),
    )
    return Context(0, empty, 0, 0)
