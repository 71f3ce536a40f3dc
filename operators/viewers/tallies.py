"""What viewers were shown and did, in numbers: all of it, and of their last feeds how long ago each was.

An action counts when it is new to its group (operators/viewers/sequences.py), so an event delivered twice counts once.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from models.inputs import History
from schemas.actions import ACTION_INDEX, COUNTED, COUNTS, LOOKS, VIEWER_COUNTS

Slots = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

# The posts of so many last feeds are compared with the last action: more without an action is no session any more.
FEEDS: Final = 4
# Half an hour without looking back ends a session, as in flows/training_examples.py: a streak does not outlive it.
SESSION_S: Final = 30 * 60
# A tally as it is kept and stored, 76 bytes; `counts` as schemas.actions.COUNT_NAMES, then times, requests (32 bits of
# their keys) and numbers of posts of the last feeds.
TALLY: Final = np.dtype(
    [("counts", "<u4", COUNTS), ("at_s", "<u4", FEEDS), ("request", "<u4", FEEDS), ("posts", "u1", FEEDS)]
)
NO_TALLY: Final = bytes(TALLY.itemsize)
_MASKS: Final = np.array([sum(1 << ACTION_INDEX[name] for name in names) for names in COUNTED.values()], np.uint32)
_KIND_OF: Final = {ACTION_INDEX[name]: kind for kind, names in enumerate(COUNTED.values(), start=1) for name in names}
_POSTS_MAX: Final = np.iinfo(np.uint8).max
MORE_THAN_LOOKS: Final = np.uint32(sum(1 << index for name, index in ACTION_INDEX.items() if name not in LOOKS))


def last_act_s(history: History, at_ms: int) -> int:
    """Return the second of the last action that was more than a look, or that a session before a time where later."""
    acted_ms = history.at_ms[(history.actions & MORE_THAN_LOOKS) != 0]
    return max(int(acted_ms.max(initial=-1)) // 1000, at_ms // 1000 - SESSION_S)


def without_acts(tally: bytes, bits: U32) -> bytes:
    """Return a tally as it is stored without some groups' actions, uint32[n] bits of ACTIONS."""
    if not tally:
        return tally
    row = np.frombuffer(tally, TALLY).copy()
    acts = np.bitwise_count(bits[:, None] & _MASKS).sum(axis=0, dtype=np.uint32)
    row["counts"][0, 1:] -= np.minimum(row["counts"][0, 1:], acts)
    left = row.tobytes()
    return b"" if left == NO_TALLY else left


class Tallies:
    """The tally of the viewer in each slot."""

    def __init__(self, room: int) -> None:
        self._rows: npt.NDArray[np.void] = np.zeros(room, TALLY)

    def memory_bytes(self) -> int:
        """Return the bytes of all tallies."""
        return self._rows.nbytes

    def reserve(self, room: int) -> None:
        """Make room for so many slots."""
        wider = np.zeros(room, TALLY)
        wider[: len(self._rows)] = self._rows
        self._rows = wider

    def act(self, slots: Slots, bits: U32) -> None:
        """Count actions new to their groups: bits of ACTIONS, uint32[n]."""
        kinds = np.bitwise_count(bits[:, None] & _MASKS)
        at, kind = np.nonzero(kinds)
        np.add.at(self._rows["counts"], (slots[at], kind + 1), kinds[at, kind])

    def act_one(self, slot: int | np.int64, action: int, times: int) -> None:
        """Count one action, or with a negative number of times take it back."""
        kind = _KIND_OF.get(action)
        if kind is not None and times:
            counts = self._rows["counts"]
            counts[slot, kind] = max(0, int(counts[slot, kind]) + times)

    def show(self, slot: int, at_s: int, request: int, posts: int) -> None:
        """Count posts that a feed showed; the same request counts once as long as it is among the last feeds."""
        row = self._rows[slot]
        if ((row["at_s"] == at_s) & (row["request"] == request)).any():
            return
        row["counts"][0] += posts
        oldest = int(row["at_s"].argmin())
        if at_s >= row["at_s"][oldest]:
            row["at_s"][oldest], row["request"][oldest] = at_s, request
            row["posts"][oldest] = min(posts, _POSTS_MAX)

    def of(self, slot: int, acted_s: int) -> U32:
        """Return a viewer's counts, uint32[VIEWER_COUNTS]; posts shown after `acted_s` were passed over."""
        row, counts = self._rows[slot], np.empty(VIEWER_COUNTS, np.uint32)
        counts[:COUNTS] = row["counts"]
        counts[COUNTS] = row["posts"][row["at_s"] > acted_s].sum()
        return counts

    def copy(self, slots: Slots) -> npt.NDArray[np.void]:
        """Return copies of tallies, TALLY[n]."""
        return self._rows[slots]

    def put(self, slots: Slots, tallies: list[bytes]) -> None:
        """Let slots hold tallies as they are stored; no bytes are an empty one."""
        self._rows[slots] = np.frombuffer(b"".join(one or NO_TALLY for one in tallies), TALLY)

    def clear(self, slots: Slots) -> None:
        """Empty slots for other viewers."""
        self._rows[slots] = np.zeros((), TALLY)
