"""What outlives or precedes a post: that it was deleted, and labels that came before it."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from operators.posts.key_index import KeyIndex

LABEL_SETS_MAX: Final = 65_535  # different sets of labels; handles are 16 bits, 0 is the empty set
# Labels of posts that have not come yet. Posts and their labels share a key, so only producers at odds leave many.
LABELS_WAITING_MAX: Final = 100_000
_ENTRY_BYTES: Final = 130  # integers and small tuples that a dict's entry refers to


class Tombstones:
    """The posts deleted lately, whether they had come or not, each with the clock at its deletion."""

    def __init__(self) -> None:
        self._clock_of: dict[int, int] = {}  # oldest first
        self._index = KeyIndex()

    def __len__(self) -> int:
        return len(self._clock_of)

    def __contains__(self, key: int) -> bool:
        return key in self._clock_of

    def clock_of(self, key: int) -> int:
        """Return the clock at a post's deletion."""
        return self._clock_of[key]

    def hold(self, keys: Keys) -> Mask:
        """Return which posts were deleted."""
        return self._index.find(keys) >= 0

    def add(self, key: int, clock_ms: int) -> None:
        """Remember a post's deletion; it has none yet."""
        self._clock_of[key] = clock_ms
        self._index.insert_one(key, 1)

    def take_back(self, key: int) -> None:
        """Forget a post's deletion."""
        del self._clock_of[key]
        self._index.remove(np.array([key], np.uint64))

    def forget(self, before_ms: int) -> None:
        """Forget the deletions of before a time."""
        old = _oldest(self._clock_of, before_ms)
        if old:
            self._index.remove(np.array(old, np.uint64))

    def memory_bytes(self) -> int:
        """Return the bytes this takes."""
        return dict_bytes(self._clock_of) + self._index.memory_bytes()


class Labels:
    """Sets of labels under small numbers, and those that wait for their posts."""

    def __init__(self) -> None:
        self.sets: list[tuple[str, ...]] = [()]
        self.forgotten = 0  # waited for a post until too many did
        self._handle_of: dict[tuple[str, ...], int] = {(): 0}
        self._waiting: dict[int, int] = {}  # oldest first
        self._clock_of: dict[int, int] = {}

    def handle_of(self, labels: tuple[str, ...]) -> int:
        """Return the number of a set of labels, sorted and without repeats; raises ValueError at too many sets."""
        handle = self._handle_of.setdefault(labels, len(self.sets))
        if handle > LABEL_SETS_MAX:
            del self._handle_of[labels]
            raise ValueError(f"more than {LABEL_SETS_MAX} different sets of labels")
        if handle == len(self.sets):
            self.sets.append(labels)
        return handle

    def wait(self, key: int, handle: int, clock_ms: int) -> None:
        """Keep the labels of a post that has not come."""
        self.drop(key)
        self._waiting[key], self._clock_of[key] = handle, clock_ms
        if len(self._waiting) > LABELS_WAITING_MAX:
            self.drop(next(iter(self._waiting)))
            self.forgotten += 1

    def drop(self, key: int) -> None:
        """Keep no labels for a post."""
        self._waiting.pop(key, None)
        self._clock_of.pop(key, None)

    def take(self, keys: Keys) -> npt.NDArray[np.uint16]:
        """Return the labels that waited for posts, 0 for none, and keep them no longer."""
        if not self._waiting:
            return np.zeros(len(keys), np.uint16)
        handles = np.array([self._waiting.get(key, 0) for key in keys.tolist()], np.uint16)
        for key in keys[handles > 0].tolist():
            self.drop(key)
        return handles

    def forget(self, before_ms: int) -> None:
        """Keep no labels that have waited since before a time."""
        for key in _oldest(self._clock_of, before_ms):
            del self._waiting[key]

    def memory_bytes(self) -> int:
        """Return the bytes this takes."""
        waiting = dict_bytes(self._waiting) + dict_bytes(self._clock_of)
        return waiting + dict_bytes(self._handle_of) + sys.getsizeof(self.sets)


def _oldest(clock_of: dict[int, int], before_ms: int) -> list[int]:
    """Take out, and return, the keys at the front whose clock lies before a time."""
    old = []
    for key, clock in clock_of.items():
        if clock >= before_ms:
            break
        old.append(key)
    for key in old:
        del clock_of[key]
    return old


def dict_bytes(one: Mapping[Any, int]) -> int:
    """Return the bytes of a dict from keys or small tuples to small numbers."""
    return sys.getsizeof(one) + _ENTRY_BYTES * len(one)
