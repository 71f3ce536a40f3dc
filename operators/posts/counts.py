"""How often each live post was acted on so far, as the flow of post counts tells everybody."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, keys_of
from operators.posts.key_index import KeyIndex
from schemas.actions import ACTION_INDEX, ACTIONS
from schemas.feeds import PostCounts

COUNTS_FIRST = 1024


class CountTable:
    """The latest counts of posts by key, uint32[n, 19], in the order of ACTIONS."""

    def __init__(self) -> None:
        self._clear(COUNTS_FIRST)

    def _clear(self, room: int) -> None:
        self._index = KeyIndex(room)
        self._keys: Keys = np.zeros(room, np.uint64)
        self._counts: npt.NDArray[np.uint32] = np.zeros((room, len(ACTIONS)), np.uint32)

    def __len__(self) -> int:
        return len(self._index)

    def put(self, told: Sequence[PostCounts]) -> None:
        """Take in counts; each replaces what was known of its post."""
        for key, one in zip(keys_of([one.post for one in told]).tolist(), told, strict=True):
            slot = self._index.find_one(key)
            if slot < 0:
                slot = self._give(key)
            self._counts[slot] = 0
            for action, count in one.counts.items():
                self._counts[slot, ACTION_INDEX[action]] = min(count, np.iinfo(np.uint32).max)

    def of(self, key: int) -> dict[str, int]:
        """Return the counts of a post that are not 0, by action."""
        slot = self._index.find_one(key)
        if slot < 0:
            return {}
        return {action: count for action, count in zip(ACTIONS, self._counts[slot].tolist(), strict=True) if count}

    def keys(self) -> Keys:
        """Return the posts that have counts."""
        return self._keys[: len(self._index)]

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Forget all posts but those marked, in the order of `keys`."""
        places = np.flatnonzero(kept)
        keys, counts = self.keys()[places], self._counts[places]
        self._clear(max(COUNTS_FIRST, 2 * len(keys)))
        self._keys[: len(keys)], self._counts[: len(keys)] = keys, counts
        self._index.insert(keys, np.arange(len(keys)))

    def _give(self, key: int) -> int:
        slot = len(self._index)
        if slot == len(self._keys):
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._keys[slot] = key
        self._index.insert_one(key, slot)
        return slot
