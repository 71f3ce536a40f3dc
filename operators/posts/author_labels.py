"""The labels in force on authors, whether they have live posts or not."""

from typing import Final

import numpy as np

from operators.keys import Keys
from operators.posts.key_index import KeyIndex
from operators.posts.waiting import dict_bytes
from operators.visibility.verdicts import LabelSets

# Some 160 bytes each, so 160 MB at most.
LABELLED_AUTHORS_MAX: Final = 1_000_000


class AuthorLabels:
    """For each author with labels the number of their set (`operators.posts.waiting.Labels`), 0 for all others."""

    def __init__(self) -> None:
        self._handle_of: dict[int, int] = {}
        self._index = KeyIndex()

    def __len__(self) -> int:
        """Count the authors with labels."""
        return len(self._handle_of)

    def put(self, author: int, handle: int) -> None:
        """Let an author have a set of labels, or with 0 none. Raises ValueError at too many authors."""
        if handle and author not in self._handle_of and len(self) >= LABELLED_AUTHORS_MAX:
            raise ValueError(f"more than {LABELLED_AUTHORS_MAX} authors with labels")
        if self._handle_of.pop(author, 0):
            self._index.remove(np.array([author], np.uint64))
        if handle:
            self._handle_of[author] = handle
            self._index.insert_one(author, handle)

    def of(self, author: int) -> int:
        """Return the number of an author's set of labels; any thread may ask."""
        return self._handle_of.get(author, 0)

    def handles(self, authors: Keys) -> LabelSets:
        """Return the number of each author's set of labels, uint16[n]."""
        if not self._handle_of:
            return np.zeros(len(authors), np.uint16)
        return np.maximum(self._index.find(authors), 0).astype(np.uint16)

    def memory_bytes(self) -> int:
        """Return the bytes this takes."""
        return dict_bytes(self._handle_of) + self._index.memory_bytes()
