"""Counts of posts as they were when a training example opened, asked for when it closes half an hour later."""

from collections import deque
from itertools import islice
from typing import Protocol

import numpy as np

from operators.keys import Keys
from operators.posts.counts import U32, Changed, CountTable, kinds_of
from operators.posts.live import LivePosts


class CountsThen(Protocol):
    """How often posts were shown and acted on before an example opened."""

    def kinds(self, keys: Keys) -> U32:
        """Return the counts of posts, uint32[n, COUNTS]."""


class Noted:
    """Counts of posts that are known beforehand, and of the originals of reposts among them, as they are now."""

    def __init__(self, live: LivePosts, posts: Keys) -> None:
        rows = live.table.rows_of(posts)
        self._keys = np.unique(np.concatenate([posts, live.table.reposted(rows[rows >= 0])]))
        self._kinds = live.counts.kinds(self._keys)

    def kinds(self, keys: Keys) -> U32:
        """Return the counts of some of those posts, 0 of others."""
        if not len(self._keys):
            return np.zeros((len(keys), self._kinds.shape[1]), np.uint32)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where((self._keys[places] == keys)[:, None], self._kinds[places], np.uint32(0))


class Past:
    """Follows a table of counts, so that any post's counts can be had as they were at a moment marked before."""

    def __init__(self, counts: CountTable) -> None:
        self._counts = counts
        self._changes: deque[Changed] = deque()
        self._forgotten = 0
        counts.changes = self._changes

    def mark(self) -> int:
        """Return the mark of this moment."""
        return self._forgotten + len(self._changes)

    def forget(self, before: int) -> None:
        """Forget all before a mark."""
        while self._forgotten < before:
            self._changes.popleft()
            self._forgotten += 1

    def stop(self) -> None:
        """Follow no longer."""
        self._counts.changes = None

    def kinds(self, mark: int, keys: Keys) -> U32:
        """Return the counts of posts, uint32[n, COUNTS], as they were at a mark."""
        once, places = np.unique(keys, return_inverse=True)
        columns = self._counts.columns(once)
        # Latest first: what was before the first change after the mark is written last.
        for changed in islice(reversed(self._changes), self.mark() - mark):
            rows = np.minimum(np.searchsorted(once, changed.keys), len(once) - 1)
            hit = once[rows] == changed.keys
            columns[rows[hit], changed.columns[hit]] = changed.before[hit]
        return kinds_of(columns)[places]


class Traced:
    """The counts of any posts as they are now, traced back later."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self.mark = past.mark()

    def kinds(self, keys: Keys) -> U32:
        """Return the counts of posts at that moment."""
        return self._past.kinds(self.mark, keys)
