"""Small handles for keys: int32 in place of uint64 where a column holds the same few keys many times."""

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.key_index import KeyIndex


class Interner:
    """Numbers keys in the order they first come, from 1; handle 0 stands for key 0, "none".

    Handles say nothing outside this process.
    """

    def __init__(self) -> None:
        self._index = KeyIndex()
        self._keys: Keys = np.zeros(1024, np.uint64)

    def __len__(self) -> int:
        """Count the keys that have a handle."""
        return len(self._index)

    def memory_bytes(self) -> int:
        """Return the bytes of the index and of the column of keys."""
        return self._index.memory_bytes() + self._keys.nbytes

    def handle_of(self, key: int) -> int:
        """Return the handle of a key, 0 where it has none."""
        return max(self._index.find_one(key), 0)

    def handles(self, keys: Keys) -> npt.NDArray[np.int32]:
        """Return the handle of each key, int32[n]; new keys get new handles."""
        found = self._index.find(keys)
        missing = np.flatnonzero((found < 0) & (keys != 0))
        if len(missing):
            new, first, place = np.unique(keys[missing], return_index=True, return_inverse=True)
            rank = np.empty(len(new), np.int64)
            rank[np.argsort(first)] = np.arange(len(new))
            handles = rank + len(self._index) + 1
            while handles.max() >= len(self._keys):
                self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._keys[handles] = new
            self._index.insert(new, handles)
            found[missing] = handles[place]
        return np.maximum(found, 0).astype(np.int32)

    def keys(self, handles: npt.NDArray[np.int32]) -> Keys:
        """Return the key of each handle."""
        return self._keys[handles]
