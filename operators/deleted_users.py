"""The users who were deleted: whatever comes of them, or names them, is passed over from then on."""

from collections.abc import Iterable, Iterator

import numpy as np

from operators.keys import Keys, Mask
from operators.posts.key_index import KeyIndex
from schemas.events import GraphEvent
from schemas.ids import key_of


class DeletedUsers:
    """Keys of deleted users in the order in which they were deleted; it only grows."""

    def __init__(self, keys: Iterable[int] = ()) -> None:
        self._keys: list[int] = []
        self._index = KeyIndex()
        for key in keys:
            self.add(key)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: int) -> bool:
        return self._index.find_one(key) >= 0

    def add(self, key: int) -> bool:
        """Note that a user was deleted; return whether that is news."""
        if key in self:
            return False
        self._index.insert_one(key, len(self._keys))
        self._keys.append(key)
        return True

    def named_by(self, event: GraphEvent) -> bool:
        """Return whether a deleted user makes a change of the graph, or is whom it is about."""
        return key_of(event.viewer) in self or key_of(getattr(event, "author", 0)) in self

    def hold(self, keys: Keys) -> Mask:
        """Return which keys are those of deleted users, bool[n]."""
        if not self._keys:
            return np.zeros(len(keys), np.bool_)
        return np.asarray(self._index.find(keys) >= 0)

    def __iter__(self) -> Iterator[int]:
        """Yield the keys that there are now, oldest first; another thread may add some meanwhile."""
        return iter(self._keys.copy())
