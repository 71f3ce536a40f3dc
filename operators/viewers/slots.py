"""Which viewers are in memory, and where: a slot each, given back when a viewer leaves for the store."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.key_index import KeyIndex

Slots = npt.NDArray[np.int64]

SLOTS_FIRST: Final = 64
NOBODY: Final = 0  # the slot of viewers that are not in memory: always empty


class ViewerSlots:
    """Slots of viewers by key, with the partition each viewer belongs to, and whether and when it changed.

    Time is counted in epochs: `next_epoch` moves it on.
    """

    def __init__(self) -> None:
        self._index = KeyIndex()
        self._free: list[int] = []
        self.end = NOBODY + 1  # one past the last slot ever given
        self.epoch = 0
        self.keys: Keys = np.zeros(SLOTS_FIRST, np.uint64)
        self.partitions: npt.NDArray[np.int16] = np.zeros(SLOTS_FIRST, np.int16)
        # How many of the users deleted in this process each viewer is known to say nothing of.
        self.cleaned: npt.NDArray[np.int64] = np.zeros(SLOTS_FIRST, np.int64)
        self._used: npt.NDArray[np.int64] = np.full(SLOTS_FIRST, -1, np.int64)
        self._changed: npt.NDArray[np.bool_] = np.zeros(SLOTS_FIRST, np.bool_)

    def __len__(self) -> int:
        return len(self._index)

    def memory_bytes(self) -> int:
        """Return the bytes of columns and index."""
        columns = sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))
        return columns + self._index.memory_bytes() + 8 * len(self._free)

    def find(self, keys: Keys) -> Slots:
        """Return the slot of each key, int64[n], -1 for viewers not in memory."""
        return self._index.find(keys)

    def find_one(self, key: int) -> int:
        """Return the slot of a viewer, NOBODY where it is not in memory."""
        return max(self._index.find_one(key), NOBODY)

    def give(self, keys: Keys, partitions: npt.NDArray[np.int64]) -> Slots:
        """Return slots for viewers, each of which is another and has none, int64[n]."""
        again = [self._free.pop() for _ in range(min(len(keys), len(self._free)))]
        first, self.end = self.end, self.end + len(keys) - len(again)
        slots = np.array([*again, *range(first, self.end)], np.int64)
        while self.end > len(self.keys):
            for name in ("keys", "partitions", "cleaned", "_used", "_changed"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._index.insert(keys, slots)
        self.keys[slots], self.partitions[slots] = keys, partitions
        self._used[slots], self._changed[slots] = self.epoch, False
        return slots

    def change(self, slots: Slots | int) -> None:
        """Note that viewers change in this epoch."""
        self._used[slots] = self.epoch
        self._changed[slots] = True

    def use(self, slot: int) -> None:
        """Note that a viewer is asked about in this epoch."""
        self._used[slot] = self.epoch

    def take_changed(self) -> Slots:
        """Return the slots changed since the last call, int64[n], and begin the next epoch."""
        changed = np.flatnonzero(self._changed)
        self._changed[changed] = False
        self.epoch += 1
        return changed

    def least_used(self, count: int, before_epoch: int) -> Slots:
        """Return the `count` slots used longest ago, int64[n], among the unchanged ones not used since an epoch."""
        taken = self._used[: self.end]
        able = np.flatnonzero(
            (taken >= 0) & (taken < before_epoch) & ~self._changed[: self.end] & (self.keys[: self.end] != 0)
        )
        if len(able) > count:
            able = able[np.argpartition(taken[able], count)[:count]]
        return able

    def release(self, slots: Slots) -> None:
        """Take viewers out of memory; their slots go to others."""
        self._index.remove(self.keys[slots])
        self.keys[slots] = 0
        self._changed[slots] = False
        self._used[slots] = -1
        self._free += slots.tolist()
