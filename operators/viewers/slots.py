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
        self._end = NOBODY + 1
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

    def give(self, key: int, partition: int) -> int:
        """Return a slot for a viewer that has none."""
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._end = self._end, self._end + 1
            if slot >= len(self.keys):
                for name in ("keys", "partitions", "cleaned", "_used", "_changed"):
                    column = getattr(self, name)
                    setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._index.insert_one(key, slot)
        self.keys[slot], self.partitions[slot] = key, partition
        self._used[slot], self._changed[slot] = self.epoch, False
        return slot

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
        taken = self._used[: self._end]
        able = np.flatnonzero(
            (taken >= 0) & (taken < before_epoch) & ~self._changed[: self._end] & (self.keys[: self._end] != 0)
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
