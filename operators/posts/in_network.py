"""Which posts of followed authors a viewer may get, and how many of each author (x-algorithm.md 2.4)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from operators.keys import Keys, Mask
from operators.parameters import Thunder as ThunderLimits
from operators.posts.author_lists import LISTS
from operators.posts.columns import DELETED, REPLY, REPOST, SECONDARY, VIDEO_LISTED, Flags, Rows
from operators.posts.table import PostTable


@dataclass(slots=True)
class InNetworkRequest:
    """What is asked of Thunder: `followed` by author handle, `excluded` sorted."""

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

    @property
    def least_limit(self) -> int:
        """The smallest limit of a list: no list with so few posts needs a closer look."""
        limits = self.limits
        if self.videos_only:
            return min(limits.scan_per_author, limits.videos_per_author)
        return min(limits.scan_per_author, limits.originals_per_author, limits.secondary_per_author)

    def most_of(self, lists: Rows) -> Rows:
        """Return how many posts of each list may be returned."""
        if self.videos_only:
            return np.full(len(lists), self.limits.videos_per_author)
        return np.where(lists % LISTS == 0, self.limits.originals_per_author, self.limits.secondary_per_author)


@dataclass(slots=True)
class Selection:
    """The rows chosen, newest first, their lists, and the lists of all posts that were looked at."""

    rows: Rows
    lists: Rows
    seen_lists: Rows


# What becomes of a reply or repost; _BY_AUTHOR: only if the viewer follows the author of the post replied to.
_TAKEN, _REFUSED, _HIDDEN, _BY_AUTHOR = range(4)


def _verdict(kind: int, target: int) -> int:
    """Return the verdict on a REPLY or REPOST by the flags of the post it refers to."""
    if kind == REPOST:
        return _HIDDEN if target & DELETED else _TAKEN
    if target & DELETED or target & REPOST:
        return _REFUSED
    return _BY_AUTHOR if target & REPLY else _TAKEN


# By kind and flags: [REPLY or REPOST - 1, flags].
_VERDICTS: Final = np.array([[_verdict(kind, flags) for flags in range(256)] for kind in (REPLY, REPOST)], np.uint8)


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
    columns, mask = table.columns, table.mask
    slots = rows & mask
    flags = columns.flags.take(slots)
    kept = flags & (DELETED | VIDEO_LISTED) == VIDEO_LISTED if request.videos_only else flags & DELETED == 0
    if len(rows) and (created_ms[0] > request.at_ms or created_ms[-1] < request.at_ms - table.retention_ms):
        kept &= (created_ms <= request.at_ms) & (created_ms >= request.at_ms - table.retention_ms)
    if len(request.excluded):
        keys = columns.key.take(slots)
        kept &= request.excluded.take(request.excluded.searchsorted(keys), mode="clip") != keys
    secondary = flags & SECONDARY
    referring = (secondary * kept).nonzero()[0]
    allowed = np.ones(len(rows), np.bool_)
    if len(referring):
        verdicts = _verdicts(table, rows[referring], slots[referring], secondary[referring], request)
        kept[referring[verdicts == _HIDDEN]] = False
        allowed[referring[verdicts == _REFUSED]] = False
    rows, slots, allowed = rows[kept], slots[kept], allowed[kept]
    lists = columns.author.take(slots) * LISTS
    if not request.videos_only:
        lists += secondary[kept] != 0
    return _within_limits(rows, lists, allowed, request)


def _verdicts(table: PostTable, rows: Rows, slots: Rows, kinds: Flags, request: InNetworkRequest) -> Flags:
    """Return the verdict on each of some replies and reposts, uint8[n].

    A reply is taken if the post it replies to can be shown and is an original, or answers the conversation's first
    post directly and is by an author the viewer follows. A repost is hidden if its original was deleted, refused if
    the original is the viewer's own.
    """
    columns, mask = table.columns, table.mask
    behind = columns.behind.take(slots)
    targets = rows - behind
    at = targets & mask
    verdicts = _VERDICTS.ravel().take(((kinds.astype(np.int64) - 1) << 8) + columns.flags.take(at), mode="clip")
    cutoff = request.at_ms - table.retention_ms
    # Before the cutoff the difference is negative, which is huge without a sign.
    unseen = (columns.created_ms.take(at) - cutoff).view(np.uint64) > table.retention_ms
    verdicts[unseen & (kinds == REPLY)] = _REFUSED
    odd = ((behind == 0) | (targets < table.base) | (kinds == SECONDARY)).nonzero()[0]
    if len(odd):
        parents = table.rows_of(columns.reply_to.take(slots[odd]))
        shown = table.visible(parents, request.at_ms)
        verdicts[odd] = np.where(
            kinds[odd] & REPLY != 0,
            np.where(shown, _VERDICTS[0].take(columns.flags.take(parents & mask)), _REFUSED),
            _TAKEN,
        )
        at[odd] = parents & mask
    by_author = (verdicts == _BY_AUTHOR).nonzero()[0]
    if len(by_author) and not request.videos_only:
        verdicts[by_author[~_rule_holds(table, slots[by_author], at[by_author], request)]] = _REFUSED
    verdicts[_own(table, slots, kinds, request) & (verdicts != _HIDDEN)] = _REFUSED
    if len(odd):
        hidden = (kinds[odd] & REPOST != 0) & table.was_deleted(columns.repost_of.take(slots[odd]))
        verdicts[odd[hidden]] = _HIDDEN
    return verdicts


def _rule_holds(table: PostTable, replies: Rows, parents: Rows, request: InNetworkRequest) -> Mask:
    """Return which replies, to replies in the slots `parents`, are one step from the root below a followed author."""
    columns = table.columns
    root = columns.conversation.take(replies)
    root = np.where(root == 0, columns.conversation.take(parents), root)
    to_root = (root != 0) & (columns.reply_to.take(parents) == root)
    holds: Mask = to_root & request.followed.take(columns.author.take(parents), mode="clip")
    return holds


def _own(table: PostTable, slots: Rows, kinds: Flags, request: InNetworkRequest) -> Mask:
    """Return which posts are reposts of the viewer's own posts."""
    columns = table.columns
    authors = columns.repost_of_author.take(slots)
    unknown = ((authors == 0) & (kinds >= REPOST)).nonzero()[0]
    if len(unknown):
        authors[unknown] = table.resolve(columns.repost_of[slots[unknown]])[0]
    own: Mask = (authors == np.uint64(request.viewer)) & (kinds >= REPOST)
    return own


def _within_limits(rows: Rows, lists: Rows, allowed: Mask, request: InNetworkRequest) -> Selection:
    """Return the allowed posts within the limits of their lists; `rows` are newest first."""
    count, scanned = len(rows), request.limits.scan_per_author
    bits = count.bit_length()
    places = np.arange(count)
    # One sort brings each list together, newest first: numbers hold the list above and the place below.
    packed = (lists << bits) | places
    packed.sort()
    ordered = packed >> bits
    least = request.least_limit
    if count <= least or not (ordered[least:] == ordered[: count - least]).any():
        return Selection(rows[allowed], lists[allowed], lists)  # the usual case: nobody wrote enough for any limit
    packed &= (1 << bits) - 1
    starts = places.copy()
    starts[1:][ordered[1:] == ordered[:-1]] = 0
    starts = np.maximum.accumulate(starts)
    seen = places - starts < scanned
    counted = allowed.take(packed) & seen
    before = counted.cumsum() - counted
    kept = np.zeros(count, np.bool_)
    kept[packed] = counted & (before - before.take(starts) < request.most_of(ordered))
    return Selection(rows[kept], lists[kept], ordered[seen])
