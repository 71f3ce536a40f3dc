"""What can be read of the live posts; `table.py` has what changes them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from operators.posts.author_labels import AuthorLabels
from operators.posts.columns import CAPACITY_MIN, DELETED, REPOST, SECONDARY, Authors, Columns, Rows, Terms, Words
from operators.posts.key_index import KeyIndex
from operators.posts.records import Posts
from operators.posts.waiting import Labels, Tombstones
from operators.text import Places, Tokens, contains_phrase
from schemas.ids import STRING_KEY_BIT, Id


class PostReader:
    """The live posts by row and by key. Whoever holds a `PostTable` can use all of this."""

    def __init__(self, retention_s: int, capacity: int) -> None:
        self.retention_ms = retention_s * 1000
        self.capacity = 1 << (max(capacity, CAPACITY_MIN) - 1).bit_length()
        self.columns = Columns.empty(self.capacity)
        self.base = 0
        self.end = 0
        self.authors = Authors()
        self._words = Words()
        self._index = KeyIndex(self.capacity)
        self._tombstones = Tombstones()
        self._labels = Labels()
        self.author_labels = AuthorLabels()

    def __len__(self) -> int:
        """Count the rows, deleted ones that are not yet dropped included."""
        return self.end - self.base

    @property
    def mask(self) -> int:
        """The bits of a row that are its slot."""
        return self.capacity - 1

    def rows_of(self, keys: Keys) -> Rows:
        """Return the rows of posts, int64[n], -1 for those not in the table; deleted ones are in it until dropped."""
        slots = self._index.find(keys)
        return np.where(slots >= 0, self.base + ((slots - self.base) & self.mask), -1)

    def author_keys(self, slots: Rows) -> Keys:
        """Return the authors of the posts in slots."""
        return self.authors.keys.take(self.columns.list.take(slots) >> 1)

    def holds(self, rows: Rows) -> Mask:
        """Return which rows are in the table."""
        return (rows >= self.base) & (rows < self.end)

    def visible(self, rows: Rows, at_ms: int) -> Mask:
        """Return which rows a request at `at_ms` may show, bool[n].

        Those created by then and within retention of it, not deleted, and for a repost the original not deleted
        either (x-algorithm.md 2.7, #150); an original that never came, or expired, hides nothing.
        """
        slots = rows & self.mask
        created = self.columns.created_ms.take(slots)
        flags = self.columns.flags.take(slots)
        shown: Mask = self.holds(rows) & (flags & DELETED == 0)
        shown &= (created <= at_ms) & (created >= at_ms - self.retention_ms)
        if len(self._tombstones):
            reposts = np.flatnonzero(shown & (flags & REPOST != 0))
            if len(reposts):
                shown[reposts] = ~self.was_deleted(self.columns.repost_of.take(slots[reposts]))
        return shown

    def was_deleted(self, keys: Keys) -> Mask:
        """Return which posts were deleted within retention, in the table or not."""
        return self._tombstones.hold(keys)

    def is_deleted(self, key: int) -> bool:
        """Return whether a post was deleted within retention; any thread may ask."""
        return key in self._tombstones

    def rows_by(self, author: int) -> Rows:
        """Return the rows of an author's posts, deleted ones not yet dropped included. Reads all posts; rare."""
        rows = np.arange(self.base, self.end)
        found: Rows = rows[self.author_keys(rows & self.mask) == np.uint64(author)]
        return found

    def gather(self, rows: Rows) -> Posts:
        """Return the columns of rows, -1 for rows that are not there giving zeros."""
        here = self.holds(rows)
        slots = np.where(here, rows, self.base) & self.mask
        columns = self.columns
        taken = {name: getattr(columns, name).take(slots, axis=0) for name in _GATHERED}
        author = self.author_keys(slots)
        if not here.all():
            away = ~here
            author[away] = 0
            for column in taken.values():
                column[away] = 0
        return Posts(row=rows, author=author, **taken)

    def keys(self, rows: Rows) -> Keys:
        """Return the keys of rows that are in the table, uint64[n]."""
        return self.columns.key.take(rows & self.mask)

    def originals(self, rows: Rows) -> Mask:
        """Return which rows that are in the table are neither replies nor reposts, bool[n]."""
        return np.asarray(self.columns.flags.take(rows & self.mask) & SECONDARY == 0)

    def reposted(self, rows: Rows) -> Keys:
        """Return the originals of rows that are in the table, uint64[n], 0 for those that repeat none."""
        return self.columns.repost_of.take(rows & self.mask)

    def resolve(self, keys: Keys) -> tuple[Keys, Terms]:
        """Return authors uint64[n] and terms uint16[n,4] of posts, 0 where unknown; deleted ones still resolve."""
        rows = self.rows_of(keys)
        slots = rows & self.mask
        authors = self.author_keys(slots)
        terms = self.columns.terms.take(slots, axis=0)
        unknown = rows < 0
        authors[unknown] = 0
        terms[unknown] = 0
        return authors, terms

    def judged(self, rows: Rows) -> tuple[npt.NDArray[np.uint16], Keys, Mask]:
        """Return the numbers of the label sets of rows, their authors, and which were deleted; 0 where none is."""
        here = self.holds(rows)
        slots = np.where(here, rows, self.base) & self.mask
        labels, authors = self.columns.labels.take(slots) * here, self.author_keys(slots) * here
        return labels, authors, (self.columns.flags.take(slots) & DELETED != 0) & here

    def labels_of(self, handle: int) -> tuple[str, ...]:
        """Return the labels that a number in the column `labels`, or of an author's labels, stands for, sorted."""
        return self._labels.sets[handle]

    @property
    def label_sets(self) -> Sequence[tuple[str, ...]]:
        """The sets of labels met so far, by their numbers."""
        return self._labels.sets

    def tokens(self, row: int) -> Tokens:
        """Return the hashes of a post's words in order, uint32[n]."""
        slot = row & self.mask
        start = int(self._words.places(self.columns.words_at[slot]))
        return self._words.arena[start : start + int(self.columns.words[slot])].copy()

    def contains_phrase(self, rows: Rows, phrases: Sequence[Tokens]) -> Mask:
        """Return which posts contain one of a viewer's muted phrases as whole words, bool[n]."""
        slots = rows & self.mask
        starts: Places = self._words.places(self.columns.words_at.take(slots))
        found = contains_phrase(self._words.arena, starts, self.columns.words.take(slots).astype(np.int64), phrases)
        return found & self.holds(rows)

    def original_id(self, key: int) -> Id | None:
        """Return the id of a post or author as it came; None for text of neither a live post nor its author."""
        if not key & STRING_KEY_BIT:
            return key
        slot = self._index.find_one(key)
        if slot < 0:
            return self.authors.name(key)
        start = int(self._words.places(self.columns.words_at[slot])) + int(self.columns.words[slot])
        spelled = self._words.arena[start : start + 16].tobytes()
        return spelled[: int(self.columns.id_bytes[slot])].decode()

    def memory_bytes(self) -> int:
        """Return the bytes of everything kept for the posts: columns, index, words, authors, tombstones, labels."""
        parts = (self.columns, self._index, self.authors, self._tombstones, self._labels, self.author_labels)
        return self._words.arena.nbytes + sum(part.memory_bytes() for part in parts)


_GATHERED: Final = tuple(name for name in Posts.__dataclass_fields__ if name not in ("row", "author"))
