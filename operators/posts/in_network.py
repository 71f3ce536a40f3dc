"""Which posts of followed authors a viewer may get, and how many of each author (x-algorithm.md 2.4)."""

from dataclasses import dataclass

import numpy as np

from operators.keys import Keys, Mask
from operators.parameters import Thunder as ThunderLimits
from operators.posts.author_lists import LISTS
from operators.posts.columns import REPLY, REPOST, SECONDARY, VIDEO_LISTED, Flags, Rows
from operators.posts.table import PostTable


@dataclass(frozen=True, slots=True)
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

    def most_of(self, lists: Rows) -> Rows:
        """Return how many posts of each list may be returned."""
        if self.videos_only:
            return np.full(len(lists), self.limits.videos_per_author)
        return np.where(lists % LISTS == 0, self.limits.originals_per_author, self.limits.secondary_per_author)


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows chosen, newest first, their lists, and the lists of all posts that were looked at."""

    rows: Rows
    lists: Rows
    seen_lists: Rows


def newest_first(table: PostTable, rows: Rows) -> Rows:
    """Return increasing rows ordered by creation time, latest first, of equal times the last come first."""
    rows = rows[::-1]
    created = table.columns.created_ms.take(rows & table.mask)
    if (created[1:] <= created[:-1]).all():
        return rows
    return rows[np.argsort(-created, kind="stable")]


def select(table: PostTable, rows: Rows, request: InNetworkRequest) -> Selection:
    """Return what the viewer may get of these rows, which hold every followed post that is newer than their oldest.

    `rows` are newest first. Dropped are posts that are not visible or excluded; of the rest the newest
    `scan_per_author` of each list are looked at, and what is left of them counts towards the list's limit.
    """
    columns, mask = table.columns, table.mask
    kept = table.visible(rows, request.at_ms)
    if request.videos_only:
        kept &= columns.flags.take(rows & mask) & VIDEO_LISTED != 0
    if len(request.excluded):
        keys = columns.key.take(rows & mask)
        at = np.searchsorted(request.excluded, keys)
        kept &= request.excluded.take(at, mode="clip") != keys
    rows = rows[kept]
    slots = rows & mask
    flags = columns.flags.take(slots)
    lists = columns.author.take(slots).astype(np.int64) * LISTS
    if not request.videos_only:
        lists += flags & SECONDARY != 0
    seen = _first_of_each(lists, request.limits.scan_per_author)
    if seen is not None:
        rows, slots, flags, lists = rows[seen], slots[seen], flags[seen], lists[seen]
    allowed = _not_own(table, slots, flags, request)
    if not request.videos_only:
        _keep_replies_by_rule(table, slots, flags, allowed, request)
    rows, allowed_lists = rows[allowed], lists[allowed]
    within = _within_limits(allowed_lists, request)
    if within is not None:
        rows, allowed_lists = rows[within], allowed_lists[within]
    return Selection(rows, allowed_lists, lists)


def _not_own(table: PostTable, slots: Rows, flags: Flags, request: InNetworkRequest) -> Mask:
    """Return which posts are not reposts of the viewer's own posts."""
    allowed = np.ones(len(slots), np.bool_)
    reposts = np.flatnonzero(flags & REPOST)
    if len(reposts):
        authors = table.columns.repost_of_author.take(slots[reposts])
        unknown = np.flatnonzero(authors == 0)
        if len(unknown):
            authors[unknown] = table.resolve(table.columns.repost_of[slots[reposts[unknown]]])[0]
        allowed[reposts] = authors != np.uint64(request.viewer)
    return allowed


def _keep_replies_by_rule(
    table: PostTable, slots: Rows, flags: Flags, allowed: Mask, request: InNetworkRequest
) -> None:
    """Take out of `allowed` the replies that break the reply rule.

    A reply is kept if its parent can be shown and is an original, or answers the conversation's first post directly
    and is by an author the viewer follows. Where a reply does not tell its conversation, its parent's counts.
    """
    columns = table.columns
    replies = np.flatnonzero((flags & REPLY != 0) & allowed)
    if not len(replies):
        return
    reply = slots[replies]
    parents = table.rows_of(columns.reply_to.take(reply))
    parent = parents & table.mask
    parent_flags = columns.flags.take(parent)
    original = parent_flags & SECONDARY == 0
    root = columns.conversation.take(reply)
    root = np.where(root == 0, columns.conversation.take(parent), root)
    to_root = (parent_flags & REPLY != 0) & (columns.reply_to.take(parent) == root) & (root != 0)
    followed = request.followed.take(columns.author.take(parent), mode="clip")
    allowed[replies] = table.visible(parents, request.at_ms) & (original | (to_root & followed))


def _within_limits(lists: Rows, request: InNetworkRequest) -> Mask | None:
    """Return which posts, newest first, are within their lists' limits; None for all."""
    if request.videos_only:
        return _first_of_each(lists, request.limits.videos_per_author)
    within: Mask | None = None
    secondary = lists % LISTS != 0
    for chosen, most in (
        (~secondary, request.limits.originals_per_author),
        (secondary, request.limits.secondary_per_author),
    ):
        places = np.flatnonzero(chosen)
        first = _first_of_each(lists[places], most)
        if first is not None:
            within = np.ones(len(lists), np.bool_) if within is None else within
            within[places] = first
    return within


def _first_of_each(lists: Rows, most: int) -> Mask | None:
    """Return which elements are among the first `most` of their list; None for all of them, the usual case."""
    if len(lists) <= most:
        return None
    ordered = np.sort(lists)
    if most and not (ordered[most:] == ordered[:-most]).any():
        return None
    order = np.argsort(lists, kind="stable")
    ordered = lists[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    rank = np.arange(len(lists)) - np.repeat(starts, np.diff(starts, append=len(lists)))
    first = np.empty(len(lists), np.bool_)
    first[order] = rank < most
    return first
