"""Which posts of followed authors a viewer may get, and how many of each author (x-algorithm.md 2.4)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from operators.keys import Keys, Mask
from operators.parameters import Thunder as ThunderLimits
from operators.posts.columns import DELETED, LISTS, ONE_BELOW, REPLY, REPOST, VIDEO_LISTED, Flags, Rows, one_below
from operators.posts.table import PostTable

# What becomes of a post: it may be returned; it may not; it is not there for anybody; it may if the viewer follows the
# author of the post replied to.
_TAKEN, _REFUSED, _HIDDEN, _BY_AUTHOR = range(4)


def _verdict(own: int, target: int, videos_only: bool) -> int:
    """Return the verdict by a post's flags and those of the post it replies to or reposts (of itself for originals)."""
    if own & DELETED or (videos_only and not own & VIDEO_LISTED):
        return _HIDDEN
    if not own & REPLY:
        return _HIDDEN if target & DELETED else _TAKEN
    if target & (DELETED | REPOST):
        return _REFUSED
    if target & REPLY:
        return _BY_AUTHOR if own & ONE_BELOW else _REFUSED
    return _TAKEN


# For all posts and for videos only, by 256 times the post's own flags and the other's.
_VERDICTS: Final = [
    np.array([[_verdict(own, target, videos) for target in range(256)] for own in range(256)], np.uint8).ravel()
    for videos in (False, True)
]


@dataclass(slots=True)
class InNetworkRequest:
    """What is asked of Thunder.

    `followed` says by list (`columns.LISTS`) whether its author is followed; `excluded` is sorted.
    """

    followed: Mask
    viewer: int
    at_ms: int
    excluded: Keys
    limits: ThunderLimits
    videos_only: bool

    @property
    def limit(self) -> int:
        """The posts to return."""
        return self.limits.videos_max if self.videos_only else self.limits.posts_max

    def most_of(self, lists: Rows) -> Rows:
        """Return how many posts may be returned of each list; for `videos_only` an author has one list, the first."""
        limits = self.limits
        if self.videos_only:
            return np.full(len(lists), limits.videos_per_author)
        return np.where(lists & 1, limits.secondary_per_author, limits.originals_per_author)


@dataclass(slots=True)
class Selection:
    """What becomes of some posts: which may be returned, and which of the others counted as looked at; their lists."""

    candidates: Rows
    lists: Rows
    chosen: Mask
    counted: Mask

    @property
    def rows(self) -> Rows:
        """The rows that may be returned, newest first."""
        return self.candidates.take(self.chosen.nonzero()[0])


def newest_first(table: PostTable, rows: Rows) -> tuple[Rows, Rows]:
    """Return increasing rows in the order of creation, latest first (of equal times the last come), and the times."""
    rows = rows[::-1]
    created = table.columns.created_ms.take(rows & table.mask)
    if not (created[1:] <= created[:-1]).all():
        order = np.argsort(-created, kind="stable")
        rows, created = rows[order], created[order]
    return rows, created


def select(table: PostTable, rows: Rows, created_ms: Rows, request: InNetworkRequest) -> Selection:
    """Return what the viewer may get of these rows, which hold every followed post that is newer than their oldest.

    `rows` are newest first. Dropped are posts that can't be shown or are excluded; of the rest the newest
    `scan_per_author` of each list are looked at, and what is left of them counts towards the list's limit.
    """
    columns = table.columns
    slots = rows & table.mask
    verdicts = _verdicts(table, rows, slots, request)
    oldest = request.at_ms - table.retention_ms
    if len(rows) and (created_ms[0] > request.at_ms or created_ms[-1] < oldest):
        verdicts[(created_ms > request.at_ms) | (created_ms < oldest)] = _HIDDEN
    if len(request.excluded):
        keys = columns.key.take(slots)
        excluded = request.excluded.take(request.excluded.searchsorted(keys), mode="clip") == keys
        verdicts[excluded] = _HIDDEN
    lists = columns.list.take(slots).astype(np.int64)
    if request.videos_only:
        lists &= ~1
    counted, chosen = verdicts != _HIDDEN, verdicts == _TAKEN
    _limit(lists, counted, chosen, request)
    return Selection(rows, lists, chosen, counted)


def _verdicts(table: PostTable, rows: Rows, slots: Rows, request: InNetworkRequest) -> Flags:
    """Return the verdict on each post, its age left aside, uint8[n].

    A reply is taken if the post it replies to can be shown and is an original, or answers the conversation's first
    post directly and is by an author the viewer follows. A repost is hidden if its original was deleted, refused if
    the original is the viewer's own.
    """
    columns = table.columns
    targets = rows - columns.behind.take(slots)  # originals refer to themselves
    at = targets & table.mask
    flags = columns.flags.take(slots)
    code = flags.astype(np.uint16) << 8
    code |= columns.flags.take(at)
    verdicts = _VERDICTS[request.videos_only].take(code)
    created, oldest = columns.created_ms.take(at), request.at_ms - table.retention_ms
    if len(rows) and (created.min() < oldest or created.max() > request.at_ms):
        stale = (created < oldest) | (created > request.at_ms)
        verdicts[stale & (flags & REPLY != 0) & (verdicts != _HIDDEN)] = _REFUSED
    unknown = (targets < table.base).nonzero()[0]
    if len(unknown):
        at[unknown] = _look_up(table, slots[unknown], flags[unknown], unknown, verdicts, request)
    by_author = (verdicts == _BY_AUTHOR).nonzero()[0]
    if len(by_author):
        followed = request.followed.take(columns.list.take(at.take(by_author)))
        verdicts[by_author] = ~followed  # _TAKEN is 0 and _REFUSED 1
    own = (columns.repost_of_author.take(slots) == np.uint64(request.viewer)).nonzero()[0]
    if len(own):
        verdicts[own[(flags[own] & REPOST != 0) & (verdicts[own] != _HIDDEN)]] = _REFUSED
    return verdicts


def _look_up(
    table: PostTable, slots: Rows, flags: Flags, which: Rows, verdicts: Flags, request: InNetworkRequest
) -> Rows:
    """Correct the verdicts numbered `which` where the post referred to came late, is gone or never came.

    Returns the slots of the posts replied to.
    """
    columns = table.columns
    parents = table.rows_of(columns.reply_to.take(slots))
    originals, authors = columns.repost_of.take(slots), columns.repost_of_author.take(slots)
    at = parents & table.mask
    shown = table.visible(parents, request.at_ms)
    flags = flags | np.where(one_below(columns, slots, at), np.uint8(ONE_BELOW), np.uint8(0))
    code = (flags.astype(np.uint16) << 8) | np.where(shown, columns.flags.take(at), np.uint8(DELETED))
    code[flags & REPLY == 0] &= 0xFF00
    found = _VERDICTS[request.videos_only].take(code)
    own = np.where(authors == 0, table.resolve(originals)[0], authors) == np.uint64(request.viewer)
    reposts = (flags & REPOST != 0) & (found != _HIDDEN)
    found[reposts & own] = _REFUSED
    found[reposts & table.was_deleted(originals)] = _HIDDEN
    verdicts[which] = found
    return at


def _limit(lists: Rows, counted: Mask, chosen: Mask, request: InNetworkRequest) -> None:
    """Take out of both masks what is beyond the limits of the lists; elements are newest first."""
    limits = request.limits
    most = (limits.videos_per_author,) * LISTS
    if not request.videos_only:
        most = (limits.originals_per_author, limits.secondary_per_author)
    least = min(*most, limits.scan_per_author)
    if len(lists) <= least:
        return
    # One sort brings each list together, newest first: numbers hold the list above and the place below.
    packed = (lists << 32) | np.arange(len(lists))
    packed.sort()
    ordered = packed >> 32
    busy = ordered[least:][ordered[least:] == ordered[: len(ordered) - least]]
    if not len(busy):
        return
    lists_over = sorted(set(busy.tolist()))
    starts = ordered.searchsorted(lists_over).tolist()
    ends = ordered.searchsorted(lists_over, side="right").tolist()
    for list_, start, end in zip(lists_over, starts, ends, strict=True):
        places = packed[start:end] & 0xFFFFFFFF
        if end - start > limits.scan_per_author:
            seen = places[counted.take(places)]
            counted[seen[limits.scan_per_author :]] = False
            chosen[seen[limits.scan_per_author :]] = False
        chosen[places[chosen.take(places)][most[list_ % LISTS] :]] = False
