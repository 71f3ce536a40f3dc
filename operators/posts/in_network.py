"""Which posts of followed authors a viewer may get, and how many of each author (x-algorithm.md 2.4)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from operators.keys import Keys, Mask
from operators.parameters import Thunder as ThunderLimits
from operators.posts.author_lists import LISTS
from operators.posts.columns import DELETED, REPLY, REPOST, SECONDARY, VIDEO_LISTED, Flags, Rows
from operators.posts.table import PostTable

# What becomes of a reply or repost; _BY_AUTHOR: only if the viewer follows the author of the post replied to.
_TAKEN, _REFUSED, _HIDDEN, _BY_AUTHOR = range(4)


def _verdict(code: int) -> int:
    """Return the verdict by the flags of the post referred to, and 128 for replies; the rest are reposts."""
    if code < 128:
        return _HIDDEN if code & DELETED else _TAKEN
    if code & DELETED or code & REPOST:
        return _REFUSED
    return _BY_AUTHOR if code & REPLY else _TAKEN


_VERDICTS: Final = np.array([_verdict(code) for code in range(256)], np.uint8)


@dataclass(slots=True)
class InNetworkRequest:
    """What is asked of Thunder.

    `followed` says by author handle who is followed, `place` where in the list of follows (for others it says nothing),
    `excluded` is sorted. List 2p holds the originals of the followed author at place p, list 2p + 1 the replies and
    reposts; for `videos_only` list 2p holds all.
    """

    followed: Mask
    place: Rows
    follows: int
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
    def most(self) -> Rows:
        """How many posts of each list may be returned, int64[2 follows]."""
        limits = self.limits
        pair = (limits.originals_per_author, limits.secondary_per_author)
        most = np.empty((self.follows, LISTS), np.int64)
        most[:] = (limits.videos_per_author, 0) if self.videos_only else pair
        return most.ravel()


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
    flags = columns.flags.take(slots)
    kinds = flags & SECONDARY
    if request.videos_only:
        counted = flags & (DELETED | VIDEO_LISTED) == VIDEO_LISTED
    else:
        counted = flags & DELETED == 0
    if len(rows) and (created_ms[0] > request.at_ms or created_ms[-1] < request.at_ms - table.retention_ms):
        counted &= (created_ms <= request.at_ms) & (created_ms >= request.at_ms - table.retention_ms)
    if len(request.excluded):
        keys = columns.key.take(slots)
        counted &= request.excluded.take(request.excluded.searchsorted(keys), mode="clip") != keys
    chosen = counted.copy()
    referring = kinds.nonzero()[0]
    if len(referring):
        verdicts = _verdicts(table, rows.take(referring), slots.take(referring), kinds.take(referring), request)
        chosen[referring] &= verdicts == _TAKEN
        hidden = (verdicts == _HIDDEN).nonzero()[0]
        if len(hidden):
            counted[referring[hidden]] = False
    lists = request.place.take(columns.author.take(slots)) << 1
    if not request.videos_only:
        lists += kinds != 0
    _limit(lists, counted, chosen, request)
    return Selection(rows, lists, chosen, counted)


def _verdicts(table: PostTable, rows: Rows, slots: Rows, kinds: Flags, request: InNetworkRequest) -> Flags:
    """Return the verdict on each of some replies and reposts, uint8[n].

    A reply is taken if the post it replies to can be shown and is an original, or answers the conversation's first
    post directly and is by an author the viewer follows. A repost is hidden if its original was deleted, refused if
    the original is the viewer's own.
    """
    columns = table.columns
    behind = columns.behind.take(slots)
    targets = rows - behind
    at = targets & table.mask
    verdicts = _VERDICTS.take((kinds << 7) | columns.flags.take(at))  # a byte: of the kind only REPLY's bit is left
    created, oldest = columns.created_ms.take(at), request.at_ms - table.retention_ms
    if created.min() < oldest or created.max() > request.at_ms:
        verdicts[((created < oldest) | (created > request.at_ms)) & (kinds == REPLY)] = _REFUSED
    odd = ((behind == 0) | (targets < table.base)).nonzero()[0]
    if len(odd):
        verdicts[odd], at[odd] = _look_up(table, slots[odd], kinds[odd], request)
    by_author = (verdicts == _BY_AUTHOR).nonzero()[0]
    if len(by_author):
        verdicts[by_author] = _by_rule(table, slots.take(by_author), at.take(by_author), request)
    own = (columns.repost_of_author.take(slots) == np.uint64(request.viewer)).nonzero()[0]
    if len(own):
        own = own[(kinds[own] & REPOST != 0) & (verdicts[own] != _HIDDEN)]
        verdicts[own] = _REFUSED
    return verdicts


def _look_up(table: PostTable, slots: Rows, kinds: Flags, request: InNetworkRequest) -> tuple[Flags, Rows]:
    """Return verdicts, and the slots of parents, where the post referred to came late, is gone or never came."""
    columns = table.columns
    parents = table.rows_of(columns.reply_to.take(slots))
    at = parents & table.mask
    verdicts = _VERDICTS.take(128 | columns.flags.take(at))
    verdicts[~table.visible(parents, request.at_ms)] = _REFUSED
    verdicts[kinds & REPLY == 0] = _TAKEN
    reposts = (kinds & REPOST != 0).nonzero()[0]
    if len(reposts):
        originals, authors = columns.repost_of.take(slots[reposts]), columns.repost_of_author.take(slots[reposts])
        own = np.where(authors == 0, table.resolve(originals)[0], authors) == np.uint64(request.viewer)
        verdicts[reposts[own]] = _REFUSED
        verdicts[reposts[table.was_deleted(originals)]] = _HIDDEN
    return verdicts, at


def _by_rule(table: PostTable, replies: Rows, parents: Rows, request: InNetworkRequest) -> Flags:
    """Return the verdicts on replies to replies: taken one step below the root under an author who is followed."""
    columns = table.columns
    root = columns.conversation.take(replies)
    if not root.all():
        root = np.where(root == 0, columns.conversation.take(parents), root)
    holds = (columns.reply_to.take(parents) == root) & request.followed.take(columns.author.take(parents))
    verdicts: Flags = np.where(holds, np.uint8(_TAKEN), np.uint8(_REFUSED))
    return verdicts


def _limit(lists: Rows, counted: Mask, chosen: Mask, request: InNetworkRequest) -> None:
    """Take out of both masks what is beyond the limits of the lists; elements are newest first."""
    most, scanned = request.most, request.limits.scan_per_author
    busy = np.bincount(lists, minlength=len(most)) > np.minimum(most, scanned)
    if not busy.any():
        return
    places = busy.take(lists).nonzero()[0]
    # One sort brings each list together, newest first: numbers hold the list above and the place below.
    packed = (lists.take(places) << 32) | places
    packed.sort()
    ordered, places = packed >> 32, packed & 0xFFFFFFFF
    starts = np.arange(len(places))
    starts[1:][ordered[1:] == ordered[:-1]] = 0
    starts = np.maximum.accumulate(starts)
    counts = counted.take(places)
    counts &= _before(counts, starts) < scanned
    picks = chosen.take(places) & counts
    picks &= _before(picks, starts) < most.take(ordered)
    counted[places], chosen[places] = counts, picks


def _before(mask: Mask, starts: Rows) -> Rows:
    """Return how many are set before each element, from its start on."""
    before = mask.cumsum() - mask
    return before - before.take(starts)
