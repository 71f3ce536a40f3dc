"""Which events came a moment ago: at-least-once delivery brings some of them twice, and counts must not see that."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from schemas.ids import GOLDEN_64

# So many events are remembered, 512 KB: a producer that sends again does so within seconds.
ROOM: Final = 1 << 16


def event_hashes(*columns: npt.NDArray[np.generic]) -> Keys:
    """Return a hash of events given by columns of 64-bit values, uint64[n]; 0 is no hash."""
    hashed: Keys = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        hashed = (hashed ^ column.astype(np.uint64)) * np.uint64(GOLDEN_64)
        hashed ^= hashed >> np.uint64(29)
    return hashed | np.uint64(1)


class RecentEvents:
    """Remembers events by their hashes, each in the one place its hash names, until another takes the place.

    So an event may be forgotten early, and then counts again; a new one is taken for an old one only where all 64 bits
    are the same.
    """

    def __init__(self, room: int = ROOM) -> None:
        """Make room for `room` events, a power of two."""
        self._hashes: Keys = np.zeros(room, np.uint64)
        self._mask = np.uint64(room - 1)

    def new(self, hashes: Keys) -> Mask:
        """Return which events have not come before, bool[n], and remember them all."""
        places = (hashes >> np.uint64(7)) & self._mask
        known: Mask = self._hashes[places] == hashes
        self._hashes[places] = hashes
        if len(hashes) > 1:
            _, first = np.unique(hashes, return_index=True)
            again = np.ones(len(hashes), np.bool_)
            again[first] = False
            known |= again
        return np.logical_not(known)
