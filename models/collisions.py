"""How many ids share their rows of the hashed tables: what a vocabulary too large for them costs."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from msgspec import Struct

from models.config import PhoenixConfig
from models.hashing import AUTHOR, ITEM, USER, HashFamily, hash_rows, term_rows
from models.inputs import U64, ExampleBatch

# Beyond this share of ids that nothing tells from another, tables are called too small.
SHARED_MAX: Final = 0.01
# Distinct ids are drawn together when this many have been read.
POOL: Final = 1 << 20


class Collisions(Struct, frozen=True):
    """Ids of one kind: how many there are, the share that shares both rows with another, and that shares one at least.

    Terms have one row: both shares are of that.
    """

    kind: str
    ids: int
    share_both: float
    share_one: float


class Vocabulary:
    """Gathers the distinct ids of batches as they pass."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[U64]] = {"user": [], "post": [], "author": [], "term": []}
        self._held = 0

    def add(self, batch: ExampleBatch) -> None:
        """Take in the ids of a batch."""
        columns: dict[str, Iterable[U64]] = {
            "user": (batch.viewer,),
            "post": (batch.history_post, batch.post),
            "author": (batch.history_author, batch.author),
            "term": (batch.history_terms.astype(np.uint64), batch.terms.astype(np.uint64)),
        }
        for kind, found in columns.items():
            distinct = np.unique(np.concatenate([column.ravel() for column in found]))
            self._waiting[kind].append(distinct)
            self._held += len(distinct)
        if self._held > POOL:
            self._held = sum(len(self._distinct(kind)) for kind in self._waiting) // 2

    def _distinct(self, kind: str) -> U64:
        waiting = self._waiting[kind]
        joined: U64 = np.unique(np.concatenate([np.zeros(1, np.uint64), *waiting]))
        self._waiting[kind] = [joined]
        return joined[1:]  # 0 stands for no id

    def collisions(self, config: PhoenixConfig) -> list[Collisions]:
        """Return how the ids so far share the rows of a model's tables."""
        families: tuple[tuple[str, HashFamily, int], ...] = (
            ("user", USER, config.user_buckets),
            ("post", ITEM, config.post_buckets),
            ("author", AUTHOR, config.author_buckets),
        )
        found = []
        for kind, family, buckets in families:
            keys = self._distinct(kind)
            rows = hash_rows(keys, family, buckets).astype(np.int64)
            both = _shared(rows[:, 0] * buckets + rows[:, 1])
            one = _shared(rows[:, 0]) | _shared(rows[:, 1])
            found.append(Collisions(kind, len(keys), _mean(both), _mean(one)))
        terms = self._distinct("term")
        share = _mean(_shared(term_rows(terms.astype(np.uint16), config.term_buckets).astype(np.int64)))
        return [*found, Collisions("term", len(terms), share, share)]


def _shared(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    _, group, sizes = np.unique(rows, return_inverse=True, return_counts=True)
    return np.asarray(sizes[group] > 1)


def _mean(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
