"""Thunder: the newest posts of the authors a viewer follows (x-algorithm.md 2)."""

import sys
from typing import Final

import numpy as np

from operators.keys import NO_KEYS, Keys, Mask
from operators.parameters import Thunder as ThunderLimits
from operators.posts.author_lists import AuthorLists, RowLog
from operators.posts.columns import LISTS, VIDEO_LISTED, Handles, Rows
from operators.posts.in_network import InNetworkRequest, Selection, newest_first, select
from operators.posts.newest_times import BLOCK, NewestTimes
from operators.posts.table import PostTable

# Nanoseconds, measured on one core; they only choose which of two ways to the same answer is taken.
_SCANNED_NS: Final = 1.6  # a post passed in the log
_VIDEO_NS: Final = 3.0  # the same in the log of videos, which takes a look-up of the author
_LISTED_NS: Final = 15.0  # a post read from its author's list
_LIST_NS: Final = 60.0  # a list looked at
_BOTH: Final = np.uint16(0x0101)
_HEADROOM: Final = 1.3  # more posts than wanted are looked at first, since some are then dropped
_DEPTH: Final = 256  # rows first read of a list: five times the most that is kept of it (2.2)


class Thunder:
    """In-network look-up over the columns of a `PostTable`; never a deque of objects, never a sort of all posts.

    There are two ways to an author's newest posts: scan the log of arrivals backwards against a bitmap of followed
    authors, or read those authors' lists. Whichever costs less by the lengths of the lists is taken; both give every
    followed post from some row on, and the same selection follows. Posts may come in any order of creation: the scan
    goes on until no earlier arrival can be newer than what it needs.
    """

    def __init__(self, table: PostTable) -> None:
        self._table = table
        self._lists = AuthorLists()
        self._times = NewestTimes()
        self._videos = RowLog()
        self._followed: Mask = np.zeros(0, np.bool_)  # by list, for one request at a time
        self._next = table.base

    def memory_bytes(self) -> int:
        """Return the bytes of lists and logs; creation times and author handles are the table's, 12 bytes a post."""
        own = self._videos.memory_bytes() + self._followed.nbytes + self._times.memory_bytes()
        return own + self._lists.memory_bytes()

    def sync(self) -> None:
        """Take over what the table added and dropped since the last call; `newest` calls this."""
        table = self._table
        released = table.take_released()
        if len(released):
            self._lists.release(released)
        if self._next >= table.end:
            return
        rows = np.arange(max(self._next, table.base), table.end)
        self._next = table.end
        if not len(rows):
            return
        slots = rows & table.mask
        flags = table.columns.flags[slots]
        self._lists.append(table.columns.list[slots].astype(np.int64), rows, table.base)
        self._times.append(rows, table.columns.created_ms[slots], table.clock_ms, table.base)
        videos = rows[flags & VIDEO_LISTED != 0]
        if len(videos):
            self._videos.append(videos, table.base)

    def newest(
        self,
        followed: Keys,
        viewer: int,
        at_ms: int,
        excluded: Keys = NO_KEYS,
        limits: ThunderLimits | None = None,
        videos_only: bool = False,
    ) -> Rows:
        """Return the rows of the newest posts by `followed` authors, newest first (ties: last come first).

        Left out: posts in `excluded`, deleted ones, reposts of the viewer's own posts and of deleted ones, replies
        that break the reply rule (2.4). Of each author at most so many originals and so many replies and reposts,
        each out of the newest `scan_per_author` that are neither deleted nor excluded. For `videos_only` the posts
        with videos and reposts of them, without the reply rule. Of long lists of follows and exclusions the first
        ones count.
        """
        limits = limits or ThunderLimits()
        self.sync()
        table = self._table
        followed = followed[: limits.followees_max]
        if not (followed[1:] > followed[:-1]).all():  # a set of keys is sorted, as viewers keep theirs
            followed = np.unique(followed)
        handles = table.authors.find(followed)
        handles = handles[handles >= 0]
        if not len(handles):
            return np.empty(0, np.int64)
        if len(self._followed) < LISTS * len(table.authors.keys):
            self._followed = np.zeros(LISTS * len(table.authors.keys), np.bool_)
        if len(excluded):
            excluded = np.sort(excluded[: limits.excluded_max])
        # A number of 16 bits holds the marks of both lists of an author.
        pairs = self._followed.view(np.uint16)
        pairs[handles] = _BOTH
        try:
            return self._search(handles, InNetworkRequest(self._followed, viewer, at_ms, excluded, limits, videos_only))
        finally:
            pairs[handles] = 0

    # -- two ways to the rows

    def _search(self, handles: Rows, request: InNetworkRequest) -> Rows:
        """Look at a growing part of the log until the answer can't change any more."""
        table = self._table
        share = self._simple_share(handles, request)
        if self._scans_surely(handles, share, request):
            first = self._first_row(share)
            found = self._final(self._scan(first, request), first, request).rows
            if len(found) >= request.limit or first == table.base:
                return found[: request.limit]
            share = min(1.0, 3 * share)
        lists = np.repeat(handles * LISTS, LISTS)
        lists[1::LISTS] += 1
        lengths = self._lists.length.take(lists)
        if not request.videos_only:
            share = max(share, self._share(lists, lengths, request))
        while True:
            first = self._first_row(share)
            if self._scans(lengths, share, request):
                found = self._final(self._scan(first, request), first, request).rows
            else:
                found = self._read_lists(lists, first, share, request)
            if len(found) >= request.limit or first == table.base:
                return found[: request.limit]
            share = min(1.0, 3 * share)

    def _first_row(self, share: float) -> int:
        """Return the first row of the latest part of the log, at the start of a block."""
        table = self._table
        if share >= 1:
            return table.base
        first = table.end - int(share * len(table))
        return max(first - first % BLOCK, table.base)

    def _log_length(self, request: InNetworkRequest) -> int:
        return len(self._videos) if request.videos_only else len(self._table)

    def _simple_share(self, handles: Rows, request: InNetworkRequest) -> float:
        """Return the part of the log in which enough posts are expected, if no limit of an author matters."""
        posts = max(1, int(self._table.authors.posts.take(handles).sum()))
        if request.videos_only:
            posts = max(1, posts * len(self._videos) // max(1, len(self._table)))
        return min(1.0, request.limit * _HEADROOM / posts)

    def _share(self, lists: Rows, lengths: Handles, request: InNetworkRequest) -> float:
        """Return the part of the log in which enough posts are expected, by the lengths of the lists."""
        wanted = request.limit * _HEADROOM
        total = float(lengths.sum())
        share = wanted / max(total, 1.0)
        most = request.most_of(lists)
        for _ in range(4):
            if share >= 1:
                return 1.0
            expected = float(np.minimum(lengths * share, most).sum())
            if expected >= 0.9 * wanted:
                return share
            share *= 1.2 * wanted / max(expected, 1.0)
        return min(1.0, share)

    def _scans_surely(self, handles: Rows, share: float, request: InNetworkRequest) -> bool:
        """Return whether scanning costs less than looking at every list, whatever is in it."""
        return share * self._log_length(request) * _SCANNED_NS < LISTS * len(handles) * _LIST_NS

    def _scans(self, lengths: Handles, share: float, request: InNetworkRequest) -> bool:
        """Return whether scanning this part of the log costs less than reading it from the authors' lists."""
        lists_ns = len(lengths) * _LIST_NS
        if request.videos_only:
            return share * len(self._videos) * _VIDEO_NS < float(lengths.sum()) * _LISTED_NS + lists_ns
        read = float(np.minimum(lengths * share, _DEPTH).sum())
        return share * len(self._table) * _SCANNED_NS < read * _LISTED_NS + lists_ns

    def _scan(self, first: int, request: InNetworkRequest) -> Rows:
        """Return the followed rows from `first` on, increasing, and those from before it that lie ahead of time."""
        table = self._table
        lists, mask = table.columns.list, table.mask
        ahead = self._ahead(first, request)
        if request.videos_only:
            rows = self._videos.since(first)
            rows = rows[request.followed.take(lists.take(rows & mask))]
        else:
            begin, end = first & mask, table.end & mask
            if first < table.end and end <= begin:
                early = np.flatnonzero(request.followed.take(lists[begin:]))
                late = np.flatnonzero(request.followed.take(lists[:end]))
                rows = np.concatenate([early, late + (table.capacity - begin)]) + first
            else:
                rows = np.flatnonzero(request.followed.take(lists[begin:end])) + first
        return np.concatenate([ahead, rows]) if len(ahead) else rows

    def _read_lists(self, lists: Rows, first: int, share: float, request: InNetworkRequest) -> Rows:
        """Return the selection of the rows from `first` on, read from `lists` no deeper than it takes to be sure."""
        ahead = self._ahead(self._table.end, request)
        depth = _DEPTH if not request.videos_only else sys.maxsize >> 1
        while True:
            rows, cut, oldest = self._lists.since(lists, first, share, depth)
            rows = np.unique(np.concatenate([ahead, rows])) if len(ahead) else np.sort(rows)
            if not len(cut):
                return self._final(rows, first, request).rows
            order = np.argsort(cut)
            cut, bounds = cut[order], self._times.through(oldest[order])
            found = self._final(self._above(rows, cut, bounds), first, request)
            kept = _count(found.lists[found.chosen], cut)
            seen = _count(found.lists[found.counted], cut)
            if ((kept >= request.most_of(cut)) | (seen >= request.limits.scan_per_author)).all():
                return found.rows
            depth *= 4

    def _above(self, rows: Rows, cut: Rows, bounds: Rows) -> Rows:
        """Return the rows without those of cut lists (sorted) that something below the cut could be newer than."""
        columns, slots = self._table.columns, rows & self._table.mask
        lists = columns.list.take(slots)
        place = cut.searchsorted(lists)
        above = (cut.take(place, mode="clip") != lists) | (
            columns.created_ms.take(slots) > bounds.take(place, mode="clip")
        )
        left: Rows = rows[above]
        return left

    def _ahead(self, first: int, request: InNetworkRequest) -> Rows:
        """Return the followed rows before `first` that were dated ahead of time when they came."""
        ahead = self._times.ahead
        if not len(ahead):
            return ahead
        ahead = ahead[(ahead < first) & (ahead >= self._table.base)]
        followed = request.followed.take(self._table.columns.list.take(ahead & self._table.mask))
        return ahead[followed]

    def _final(self, rows: Rows, first: int, request: InNetworkRequest) -> Selection:
        """Return the selection of increasing `rows`, without those that a row before `first` could be newer than."""
        table = self._table
        rows, created = newest_first(table, rows)
        if first > table.base:
            # Of equal times the last come first, and a post ahead of time may have come before what is not looked at.
            floor = self._times.before(first) + (len(self._times.ahead) > 0)
            if len(rows) and created[-1] < floor:
                final = created >= floor
                rows, created = rows[final], created[final]
        return select(table, rows, created, request)


def _count(lists: Rows, wanted: Rows) -> Rows:
    """Return how often each of `wanted` stands in `lists`."""
    lists = np.sort(lists)
    counts: Rows = lists.searchsorted(wanted, side="right") - lists.searchsorted(wanted)
    return counts
