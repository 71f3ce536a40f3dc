"""A candidate index made anew for another model, while the one in force is searched and kept up."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from models.inputs import F32, U16
from operators.keys import Keys
from operators.posts.columns import DELETED, SECONDARY, Rows
from operators.posts.index import CandidateIndex
from operators.posts.records import Posts
from operators.posts.table import PostTable

# Posts, authors and terms to unit vectors, float32[n, d].
Embed = Callable[[Keys, Keys, U16], F32]
Work = Callable[[], None]
# Rows of the table looked through at once: their columns are gathered in a quarter of a millisecond.
ROWS_AT_ONCE: Final = 1024


def at_once(work: Work) -> None:
    """Do a piece of work here and now."""
    work()


class Renewal:
    """The live posts on their way into an empty index, in the order of their rows.

    Posts are read in `advance`, a bounded number of rows a call, by whoever owns them. The vectors and the index are
    the work of `do`, which may be a thread's: it must do what it is given in that order.
    """

    def __init__(self, table: PostTable, index: CandidateIndex, embed: Embed, do: Callable[[Work], object]) -> None:
        self.index, self.embed = index, embed
        self._table = table
        self._do = do
        self._next = table.base

    @property
    def left(self) -> int:
        """The rows not yet looked through."""
        return self._table.end - max(self._next, self._table.base)

    def advance(self, rows_max: int = ROWS_AT_ONCE) -> None:
        """Hand over the originals among the next rows, without deleted ones."""
        start = max(self._next, self._table.base)
        self._next = min(start + rows_max, self._table.end)
        rows = np.arange(start, self._next)
        rows = rows[self._table.columns.flags[rows & self._table.mask] & (SECONDARY | DELETED) == 0]
        if len(rows):
            # Gathered here: what the table holds may change before a thread comes to it.
            self._do(partial(add, self.index, self.embed, rows, self._table.gather(rows)))

    def forget(self, removed: Rows, before_ms: int) -> None:
        """Take deleted posts out, and those created before a time."""
        self._do(partial(forget, self.index, removed, before_ms))


def add(index: CandidateIndex, embed: Embed, rows: Rows, new: Posts) -> None:
    """Embed posts and put them into an index, without those deleted already."""
    index.add(rows, new.created_ms, embed(new.key, new.author, new.terms))
    index.remove(rows[new.flags & DELETED != 0])


def forget(index: CandidateIndex, removed: Rows, before_ms: int) -> None:
    """Take deleted posts and expired ones out of an index."""
    if len(removed):
        index.remove(removed)
    index.expire(before_ms)
