"""Where live posts are kept: a ring of columns, their words, and their authors under small handles."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.key_index import KeyIndex

Rows = npt.NDArray[np.int64]
Handles = npt.NDArray[np.int32]
Flags = npt.NDArray[np.uint8]
Terms = npt.NDArray[np.uint16]

REPLY: Final = 1
REPOST: Final = 2
QUOTE: Final = 4
VIDEO: Final = 8
SUBSCRIBERS_ONLY: Final = 16
DELETED: Final = 32
VIDEO_LISTED: Final = 64  # in Thunder's video list: a video, or the repost of one; never a reply (x-algorithm.md 2.3)
ONE_BELOW: Final = 128  # a reply to a direct answer to the conversation's first post (x-algorithm.md 2.4)
SECONDARY: Final = REPLY | REPOST  # not an original (x-algorithm.md 2.1)

# Each author has two lists (x-algorithm.md 2.1): list 2h holds the originals of the author with handle h, list 2h + 1
# the replies and reposts.
LISTS: Final = 2

# In the column `behind`: the post referred to was not here, or there are two. It lies before every row there is.
UNKNOWN: Final = 2**31 - 1

TERMS: Final = 4  # content terms kept of a post
CAPACITY_MIN: Final = 4096


@dataclass(slots=True)
class Columns:
    """One array a column, each with one place a slot: 111 bytes a post. Key 0 stands for "none"."""

    key: Keys
    list: Handles  # of Thunder's: author handle and kind
    created_ms: Rows
    flags: Flags
    reply_to: Keys
    reply_to_author: Keys
    conversation: Keys
    repost_of: Keys
    repost_of_author: Keys
    quote_of: Keys
    quote_of_author: Keys
    behind: Handles  # rows from the post replied to or reposted to this one; saves a look-up; 0 for originals
    video_ms: npt.NDArray[np.int32]
    terms: Terms
    topics: npt.NDArray[np.uint8]  # how many of the terms are topics
    labels: npt.NDArray[np.uint16]
    fingerprint: npt.NDArray[np.uint32]  # of the event, to tell a second delivery from a second post
    words_at: Rows  # place in the arena, counted from the first word ever
    words: npt.NDArray[np.uint16]
    id_bytes: npt.NDArray[np.uint8]  # of an id that is text, spelled behind the words; 0 for integers

    @classmethod
    def empty(cls, slots: int) -> "Columns":
        """Return columns of zeros with `slots` places."""
        kinds = {name: np.uint64 for name in _KEY_COLUMNS} | _OTHER_COLUMNS
        return cls(
            terms=np.zeros((slots, TERMS), np.uint16),
            **{name: np.zeros(slots, kind) for name, kind in kinds.items()},
        )

    def moved(self, rows: Rows, slots: int) -> "Columns":
        """Return the columns with `rows` in their places in a ring of another size."""
        wider = Columns.empty(slots)
        old, new = rows & (len(self.key) - 1), rows & (slots - 1)
        for one in fields(self):
            getattr(wider, one.name)[new] = getattr(self, one.name)[old]
        return wider

    def memory_bytes(self) -> int:
        """Return the bytes of all columns."""
        return sum(getattr(self, one.name).nbytes for one in fields(self))


_KEY_COLUMNS: Final = (
    "key", "reply_to", "reply_to_author", "conversation", "repost_of", "repost_of_author", "quote_of", "quote_of_author"
)  # fmt: skip
_OTHER_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "list": np.int32,
    "created_ms": np.int64,
    "flags": np.uint8,
    "behind": np.int32,
    "video_ms": np.int32,
    "topics": np.uint8,
    "labels": np.uint16,
    "fingerprint": np.uint32,
    "words_at": np.int64,
    "words": np.uint16,
    "id_bytes": np.uint8,
}


def one_below(columns: Columns, replies: Rows, parents: Rows) -> npt.NDArray[np.bool_]:
    """Return which replies have a parent that answers the conversation's first post, both given by slot.

    Where a reply does not tell its conversation, its parent's counts.
    """
    root = columns.conversation.take(replies)
    root = np.where(root == 0, columns.conversation.take(parents), root)
    below: npt.NDArray[np.bool_] = (root != 0) & (columns.reply_to.take(parents) == root)
    return below


class Words:
    """The words of all posts one behind the other, in a ring; a post's words never run over its end."""

    def __init__(self, capacity: int = 1 << 14) -> None:
        """Make a ring of `capacity` words, a power of two; it doubles when it is full."""
        self._arena: npt.NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.end = 0  # words ever, those skipped at the end of the ring included

    @property
    def arena(self) -> npt.NDArray[np.uint32]:
        """The ring; a post's words begin at `places(words_at)`."""
        return self._arena

    def places(self, words_at: Rows) -> Rows:
        """Return where in the arena words begin."""
        return words_at & (len(self._arena) - 1)

    def append(self, words: Sequence[int], begin: int) -> int:
        """Put in words as one run and return its place; everything before `begin` may be overwritten."""
        size = len(self._arena)
        start = self._start(len(words))
        while start + len(words) - begin > size:
            self._double(begin)
            size = len(self._arena)
            start = self._start(len(words))
        self._arena[start % size : start % size + len(words)] = words
        self.end = start + len(words)
        return start

    def _start(self, count: int) -> int:
        """Return where a run of `count` words can begin without running over the ring's end."""
        size = len(self._arena)
        return self.end if self.end % size + count <= size else -(-self.end // size) * size

    def _double(self, begin: int) -> None:
        """Double the ring. A place keeps its number, so every run that was whole stays whole."""
        size = len(self._arena)
        wider = np.zeros(2 * size, np.uint32)
        at = np.arange(begin, self.end)
        wider[at & (2 * size - 1)] = self._arena[at & (size - 1)]
        self._arena = wider


class Authors:
    """Authors of live posts under handles that are free again when their last post is gone. Handle 0 is key 0."""

    def __init__(self) -> None:
        self._index = KeyIndex(CAPACITY_MIN)
        self.keys: Keys = np.zeros(CAPACITY_MIN, np.uint64)
        self.posts: Handles = np.zeros(CAPACITY_MIN, np.int32)  # rows in the table
        self._names: dict[int, str] = {}
        self._free: list[int] = []
        self._next = 1

    def __len__(self) -> int:
        return len(self._index)

    @property
    def handles(self) -> int:
        """One more than the highest handle given out so far."""
        return self._next

    def memory_bytes(self) -> int:
        """Return the bytes of arrays, index and spelled names."""
        names = sum(_DICT_ENTRY_BYTES + _STR_BYTES + len(name) for name in self._names.values())
        free = 8 * len(self._free)
        return self.keys.nbytes + self.posts.nbytes + self._index.memory_bytes() + names + free

    def find(self, keys: Keys) -> Rows:
        """Return the handles of authors, int64[n], -1 for those without live posts."""
        return self._index.find(keys)

    def name(self, key: int) -> str | None:
        """Return how the text id of an author with live posts is spelled."""
        return self._names.get(key)

    def intern(self, keys: Keys, spelled: Sequence[int | str]) -> Rows:
        """Return a handle for each author and count a post for it; `spelled` are the ids the keys came from."""
        handles = self._index.find(keys)
        missing = np.flatnonzero((handles < 0) & (keys != 0))
        if len(missing):
            new, first = np.unique(keys[missing], return_index=True)
            given = np.array([self._give() for _ in range(len(new))], np.int64)
            while self._next > len(self.keys):
                self.keys = np.concatenate([self.keys, np.zeros_like(self.keys)])
                self.posts = np.concatenate([self.posts, np.zeros_like(self.posts)])
            self.keys[given] = new
            self._index.insert(new, given)
            for place in missing[first].tolist():
                name = spelled[place]
                if isinstance(name, str):
                    self._names[int(keys[place])] = name
            handles[missing] = given[np.searchsorted(new, keys[missing])]
        handles[handles < 0] = 0
        np.add.at(self.posts, handles, 1)
        return handles

    def _give(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def release(self, handles: Rows) -> Rows:
        """Take a post away from each of `handles`; return the handles that have none left, and free them."""
        touched, counts = np.unique(handles, return_counts=True)
        self.posts[touched] -= counts.astype(np.int32)
        gone: Rows = touched[(self.posts[touched] == 0) & (touched > 0)].astype(np.int64)
        if len(gone):
            keys = self.keys[gone]
            self._index.remove(keys)
            self.keys[gone] = 0
            for key in keys.tolist() if self._names else ():
                self._names.pop(key, None)
            self._free += gone.tolist()
        return gone


# What CPython takes for an entry of a dict with its integer key, and for a text beside its bytes.
_DICT_ENTRY_BYTES: Final = 90
_STR_BYTES: Final = 57
