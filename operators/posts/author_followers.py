"""How many follow authors and whom they follow, as far as events tell: what scorers ask of authors."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.key_index import KeyIndex
from schemas.events import Follow, Profile
from schemas.ids import key_of

Followers = npt.NDArray[np.int32]

UNKNOWN: Final = -1
FIRST: Final = 1024
# Accounts kept, a power of two: 16 bytes each and some 25 of the index, 41 MB in all. Of more the ones that came first
# are unknown again, until their next profile.
CAPACITY: Final = 2**20
_FOLLOWERS_MAX: Final = np.iinfo(np.int32).max


class AuthorFollowers:
    """How many follow up to `capacity` accounts, and how many these follow: as a profile told, and each later follow.

    An account without a profile is unknown, whoever follows it: its first followers may be from before the log. A
    profile that is older than the one known, and a follow from before it, change nothing; nor does an event that comes
    again within a short time. A profile that does not say how many its account follows leaves what was counted, from 0
    on. On Kafka only profiles are told (flows/serving/accounts.py).
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity & (capacity - 1):
            raise ValueError(f"a ring of {capacity} accounts: the number must be a power of two")
        room = min(FIRST, capacity)
        self._mask = capacity - 1
        self._index = KeyIndex(room)
        self._end = 0
        self._keys: Keys = np.zeros(room, np.uint64)
        self._followers: Followers = np.zeros(room, np.int32)
        self._followings: Followers = np.zeros(room, np.int32)
        self._at_ms: npt.NDArray[np.int64] = np.zeros(room, np.int64)
        self._recent = [0] * FIRST

    def __len__(self) -> int:
        """Count the accounts that are known."""
        return len(self._index)

    def memory_bytes(self) -> int:
        """Return the bytes of columns and index."""
        columns = (self._keys, self._followers, self._followings, self._at_ms)
        return self._index.memory_bytes() + sum(column.nbytes for column in columns)

    def take(self, events: Iterable[Follow | Profile]) -> None:
        """Take in profiles and follows in their order."""
        for event in events:
            if isinstance(event, Profile):
                self._tell(event)
            else:
                self._follow(event)

    def of(self, authors: Keys) -> Followers:
        """Return the followers of authors, int32[n], UNKNOWN where nothing tells."""
        slots = self._index.find(authors)
        return np.where(slots >= 0, self._followers[np.maximum(slots, 0)], np.int32(UNKNOWN))

    def followings_of(self, authors: Keys) -> Followers:
        """Return how many accounts authors follow, int32[n], UNKNOWN where nothing tells."""
        slots = self._index.find(authors)
        return np.where(slots >= 0, self._followings[np.maximum(slots, 0)], np.int32(UNKNOWN))

    def forget(self, author: int) -> None:
        """Forget an account that was deleted."""
        slot = self._index.find_one(author)
        if slot >= 0:
            self._index.remove(self._keys[slot : slot + 1])
            self._keys[slot] = 0

    def _tell(self, profile: Profile) -> None:
        key = key_of(profile.viewer)
        slot = self._index.find_one(key)
        if slot < 0:
            slot = self._give(key)
            self._followings[slot] = 0
        elif profile.at < self._at_ms[slot]:
            return
        self._followers[slot], self._at_ms[slot] = min(profile.followers, _FOLLOWERS_MAX), profile.at
        if profile.followings is not None:
            self._followings[slot] = min(profile.followings, _FOLLOWERS_MAX)

    def _follow(self, event: Follow) -> None:
        changed = [
            (column, slot)
            for column, account in ((self._followers, event.author), (self._followings, event.viewer))
            if (slot := self._index.find_one(key_of(account))) >= 0 and event.at > self._at_ms[slot]
        ]
        if not changed:
            return
        # As `RecentEvents`, which is for columns: hashes of whole numbers, each in the one place it names.
        about = hash((key_of(event.viewer), key_of(event.author), event.at, event.undo))
        if self._recent[about % FIRST] != about:
            self._recent[about % FIRST] = about
            for column, slot in changed:
                column[slot] = min(max(int(column[slot]) + (-1 if event.undo else 1), 0), _FOLLOWERS_MAX)

    def _give(self, key: int) -> int:
        """Return the slot of a new account: the next one of the ring, whose account is forgotten."""
        slot = self._end & self._mask
        while slot >= len(self._keys):
            for name in ("_keys", "_followers", "_followings", "_at_ms"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        if self._keys[slot]:
            self._index.remove(self._keys[slot : slot + 1])
        self._end += 1
        self._index.insert_one(key, slot)
        self._keys[slot] = key
        return slot
