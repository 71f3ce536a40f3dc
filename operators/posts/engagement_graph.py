"""Who follows and who likes whom: the latest of both, of everybody, for fitting interest clusters."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from operators.posts.key_index import KeyIndex
from operators.posts.sparse_rows import Labels

Numbers = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]
Changes = npt.NDArray[np.float64]

# Follows and likes that a fit keeps, the latest of each; before the next there may be twice as many. A like takes 24
# bytes, a follow 41 with its place in the index.
FOLLOWS_MAX: Final = 2**20
LIKES_MAX: Final = 2**20


class People:
    """Accounts by number from 1, and the cluster that each is known for, 0 for none. Number 0 is nobody."""

    def __init__(self) -> None:
        self._index = KeyIndex()
        self.keys: Keys = np.zeros(64, np.uint64)
        self.label: Labels = np.zeros(64, np.int32)
        self.end = 1

    def memory_bytes(self) -> int:
        """Return the bytes of columns and index."""
        return self._index.memory_bytes() + self.keys.nbytes + self.label.nbytes

    def find(self, keys: Keys) -> Numbers:
        """Return the numbers of accounts, int64[n], 0 for those not known."""
        return np.maximum(self._index.find(keys), 0)

    def give(self, keys: Keys) -> Numbers:
        """Return the numbers of accounts, int64[n]; new ones get the next, in the order of their keys."""
        numbers = self._index.find(keys)
        missing = np.unique(keys[(numbers < 0) & (keys != 0)])
        if len(missing):
            new = np.arange(self.end, self.end + len(missing))
            self.end += len(missing)
            while self.end > len(self.keys):
                self.keys = np.concatenate([self.keys, np.zeros_like(self.keys)])
                self.label = np.concatenate([self.label, np.zeros_like(self.label)])
            self.keys[new] = missing
            self._index.insert(missing, new)
            numbers = self._index.find(keys)
        return np.maximum(numbers, 0)

    def keep(self, kept: Numbers) -> None:
        """Keep only the accounts with these numbers, ascending; they get the numbers from 1 on."""
        keys, label = self.keys[kept], self.label[kept]
        self.end = len(kept) + 1
        self.keys, self.label = np.zeros(max(64, self.end), np.uint64), np.zeros(max(64, self.end), np.int32)
        self.keys[1 : self.end], self.label[1 : self.end] = keys, label
        self._index = KeyIndex(max(1024, self.end))
        there = np.flatnonzero(self.keys)
        self._index.insert(self.keys[there], there)

    def forget(self, person: int) -> None:
        """Forget an account; its number isn't given again before the next `keep`."""
        self._index.remove(self.keys[person : person + 1])
        self.keys[person], self.label[person] = 0, 0


class EngagementGraph:
    """Follows that are in force, and likes, in the order in which they came; by numbers of people."""

    def __init__(self) -> None:
        self._clear(64)
        self.liker: Numbers = np.empty(0, np.int64)
        self.liked: Numbers = np.empty(0, np.int64)
        self.liked_ms: Times = np.empty(0, np.int64)

    def _clear(self, room: int) -> None:
        self._places = KeyIndex(room)
        self._follower: Numbers = np.zeros(room, np.int64)
        self._producer: Numbers = np.zeros(room, np.int64)
        self.entries = 0  # follows kept, those taken back among them

    def memory_bytes(self) -> int:
        """Return the bytes of all columns and the index."""
        columns = (self._follower, self._producer, self.liker, self.liked, self.liked_ms)
        return self._places.memory_bytes() + sum(column.nbytes for column in columns)

    def follows(self) -> tuple[Numbers, Numbers]:
        """Return who follows and who is followed, for each follow in force, int64[n] each."""
        there = np.flatnonzero(self._follower[: self.entries])
        return self._follower[there], self._producer[there]

    def follow(self, follower: Numbers, producer: Numbers, undo: Mask) -> Changes:
        """Take follows, or their taking back; return what each changes: 1, -1, or 0 for what was so before."""
        changes = np.zeros(len(follower))
        for place, (who, whom, back) in enumerate(
            zip(follower.tolist(), producer.tolist(), undo.tolist(), strict=True)
        ):
            code = who << 32 | whom
            known = self._places.find_one(code)
            if back and known >= 0:
                self._places.remove(np.array([code], np.uint64))
                self._follower[known] = 0
                changes[place] = -1
            elif not back and known < 0:
                if self.entries == len(self._follower):
                    self._follower = np.concatenate([self._follower, np.zeros_like(self._follower)])
                    self._producer = np.concatenate([self._producer, np.zeros_like(self._producer)])
                self._follower[self.entries], self._producer[self.entries] = who, whom
                self._places.insert_one(code, self.entries)
                self.entries += 1
                changes[place] = 1
        return changes

    def like(self, liker: Numbers, liked: Numbers, at_ms: Times) -> None:
        """Take likes; those of posts whose author isn't known are passed over."""
        known = np.flatnonzero(liked)
        self.liker = np.concatenate([self.liker, liker[known]])
        self.liked = np.concatenate([self.liked, liked[known]])
        self.liked_ms = np.concatenate([self.liked_ms, at_ms[known]])
        if len(self.liker) > 2 * LIKES_MAX:
            self._keep_likes(np.arange(len(self.liker))[-LIKES_MAX:])

    def compact(self, people: People) -> None:
        """Let go of all but the latest follows and likes, and of the people whom nothing names any more."""
        follower, producer = (column[-FOLLOWS_MAX:] for column in self.follows())
        self._keep_likes(np.flatnonzero(self.liker)[-LIKES_MAX:])
        named = np.unique(np.concatenate([follower, producer, self.liker, self.liked]))
        number = np.zeros(people.end, np.int64)
        number[named] = np.arange(1, len(named) + 1)
        people.keep(named)
        self.liker, self.liked = number[self.liker], number[self.liked]
        follower, producer = number[follower], number[producer]
        self._clear(max(64, 2 * len(follower)))
        self.entries = len(follower)
        self._follower[: self.entries], self._producer[: self.entries] = follower, producer
        self._places.insert((follower << 32 | producer).astype(np.uint64), np.arange(self.entries))

    def forget(self, person: int) -> None:
        """Forget whom a person follows and likes, and who follows and likes that one. Reads everything; rare."""
        follower, producer = self._follower[: self.entries], self._producer[: self.entries]
        gone = np.flatnonzero((follower > 0) & ((follower == person) | (producer == person)))
        self._places.remove((follower[gone] << 32 | producer[gone]).astype(np.uint64))
        follower[gone] = 0
        self._keep_likes(np.flatnonzero((self.liker != person) & (self.liked != person)))

    def _keep_likes(self, kept: Numbers) -> None:
        self.liker, self.liked, self.liked_ms = self.liker[kept], self.liked[kept], self.liked_ms[kept]
