"""The live posts as columns: appended, deleted, labelled, found by key, dropped by age (x-algorithm.md 2.1 to 2.3)."""

import sys
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final

import numpy as np

from operators.keys import Keys, contains, no_keys, with_key
from operators.parameters import DEFAULTS
from operators.posts.columns import (
    CAPACITY_MIN,
    DELETED,
    LISTS,
    ONE_BELOW,
    QUOTE,
    REPLY,
    REPOST,
    SECONDARY,
    UNKNOWN,
    VIDEO,
    VIDEO_LISTED,
    Rows,
    one_below,
)
from operators.posts.key_index import KeyIndex
from operators.posts.new_posts import NewPosts, TermsOf, fingerprint, first_bad_id
from operators.posts.reader import PostReader
from operators.posts.records import Counts, Refusal
from schemas.events import AuthorLabelled, PostCreated, PostDeleted, PostEvent, PostLabelled
from schemas.ids import key_of

RETENTION_S: Final = DEFAULTS.posts.retention_s


class PostTable(PostReader):
    """Every live post of the instance.

    A post's `row` is the number of its arrival, int64 and never used again; its columns stand at `row & (capacity-1)`.
    Rows before `base` are gone, rows from `end` on have not come. What an event does depends on the events before it,
    never on how they were cut into batches. Not thread-safe.
    """

    def __init__(
        self, retention_s: int = RETENTION_S, terms: TermsOf | None = None, capacity: int = CAPACITY_MIN
    ) -> None:
        """Make an empty table.

        `terms(text, topics, language)` gives the at most 4 content terms of a post, by default
        `models.content.content_terms`. `capacity` is the number of posts to hold before the columns first double.
        """
        if terms is None:
            from models.content import content_terms

            terms = content_terms
        super().__init__(retention_s, capacity)
        self.clock_ms = 0  # the newest event time seen
        self.counts = Counts()
        self._terms = terms
        self._added: deque[int] = deque()
        self._removed: list[int] = []
        self._released: list[Rows] = []
        self._forgotten = no_keys()  # authors whom no post is to name any more

    # -- events

    def apply(self, events: Sequence[PostEvent], now_ms: int | Sequence[int] | None = None) -> list[Refusal]:
        """Apply events in their order and return those that can't be taken.

        Time is the newest event time seen; `now_ms`, where given, is a bound that one post from the future can't
        move: one for all events, or one for each. A post older than retention at its arrival is not taken. A deletion
        holds against a creation that comes later, unless the post had been here before and is created anew at a later
        time than all events up to its deletion: that is how it comes back. A second creation with the same content is
        passed over (producers deliver at least once), with other content it is refused. Labels replace the ones before.
        """
        refusals: list[Refusal] = []
        pending: dict[int, PostCreated] = {}
        ceilings = now_ms if isinstance(now_ms, Sequence) else repeat(sys.maxsize if now_ms is None else now_ms)
        for event, ceiling in zip(events, ceilings, strict=False):
            if isinstance(event, AuthorLabelled):
                refusals += self._label_author(event)
                continue
            key = _key_of_post(event)
            if isinstance(key, Refusal):
                refusals.append(key)
                continue
            if event.at > self.clock_ms:
                self.clock_ms = max(self.clock_ms, min(event.at, ceiling))
            if type(event) is PostCreated and self._is_late(key, event.at):
                continue
            if key in pending:
                refusals += self._append(pending)
                pending = {}
            if type(event) is PostCreated:
                pending[key] = event
            elif type(event) is PostDeleted:
                self._delete(key)
            elif type(event) is PostLabelled:
                refusals += self._label(key, event)
        return refusals + self._append(pending)

    def _is_late(self, key: int, at: int) -> bool:
        """Return, and count, whether a creation at `at` comes after the post's life or after its deletion."""
        if at < self.clock_ms - self.retention_ms:
            self.counts.expired_at_arrival += 1
            return True
        if key not in self._tombstones:
            return False
        if at > self._tombstones.clock_of(key) and self._index.find_one(key) >= 0:
            self._tombstones.take_back(key)
            return False
        self.counts.deleted_before += 1
        return True

    def _delete(self, key: int) -> None:
        """Delete a post for good, here or yet to come."""
        if key in self._tombstones:
            self.counts.deleted_again += 1
            return
        self._tombstones.add(key, self.clock_ms)
        self._labels.drop(key)
        self.counts.deleted += 1
        slot = self._index.find_one(key)
        if slot >= 0:
            before = int(self.columns.flags[slot])
            self.columns.flags[slot] = before | DELETED
            self.columns.topics[slot] = 0  # a husk doesn't tell them from words
            if not before & SECONDARY:
                self._removed.append(self.base + ((slot - self.base) & self.mask))

    def _label(self, key: int, event: PostLabelled) -> list[Refusal]:
        """Put labels on a post, here or yet to come."""
        try:
            handle = self._labels.handle_of(tuple(sorted(set(event.labels))))
        except ValueError as error:
            return [Refusal(event, str(error), "$.labels")]
        self.counts.labelled += 1
        slot = self._index.find_one(key)
        if slot >= 0:
            self.columns.labels[slot] = handle
        elif key not in self._tombstones:
            self._labels.wait(key, handle, self.clock_ms)
        return []

    def _label_author(self, event: AuthorLabelled) -> list[Refusal]:
        """Put labels on an author, in place of those before."""
        try:
            author = key_of(event.author)
        except ValueError as error:
            return [Refusal(event, str(error), "$.author")]
        if not author:
            return [Refusal(event, "author 0 is nobody", "$.author")]
        try:
            self.author_labels.put(author, self._labels.handle_of(tuple(sorted(set(event.labels)))))
        except ValueError as error:
            return [Refusal(event, str(error), "$.labels")]
        self.counts.labelled += 1
        return []

    def _append(self, pending: dict[int, PostCreated]) -> list[Refusal]:
        """Append the created posts that are new, in order; return the ones that contradict what is here."""
        if not pending:
            return []
        keys = np.fromiter(pending, np.uint64, len(pending))
        events = list(pending.values())
        slots = self._index.find(keys)
        refusals: list[Refusal] = []
        if (slots >= 0).any():
            known = (slots >= 0) & (self.columns.flags[slots] & DELETED == 0)
            for place in np.flatnonzero(known).tolist():
                if fingerprint(events[place]) == self.columns.fingerprint[slots[place]]:
                    self.counts.duplicates += 1
                else:
                    refusals.append(Refusal(events[place], "a post with this id and other content exists", "$.post"))
            revived = keys[(slots >= 0) & ~known]
            self._index.remove(revived)
            events = [event for event, old in zip(events, known.tolist(), strict=True) if not old]
            keys = keys[~known]
            refusals += self._append_new(keys, events) if events else []
            for key in revived.tolist():
                self._repoint(key)
            return refusals
        return self._append_new(keys, events)

    def _append_new(self, keys: Keys, events: list[PostCreated]) -> list[Refusal]:
        """Append posts that are not here; those whose other ids can't be keys are refused."""
        try:
            new = NewPosts.read(keys, events, self._terms)
        except ValueError:
            bad = [first_bad_id(event) for event in events]
            refusals = [Refusal(event, *why) for event, why in zip(events, bad, strict=True) if why]
            good = [event for event, why in zip(events, bad, strict=True) if not why]
            return refusals + (self._append_new(keys[[not why for why in bad]], good) if good else [])
        self._make_room(len(keys))
        rows = np.arange(self.end, self.end + len(keys))
        slots = rows & self.mask
        columns = self.columns
        begin = int(columns.words_at[self.base & self.mask]) if len(self) else self._words.end
        columns.words_at[slots] = self._words.append(new.arena, begin) + new.words_at
        handles = self.authors.intern(new.author, new.author_ids)
        columns.list[slots] = handles * LISTS + (new.flags & SECONDARY != 0)
        for name in new.PLAIN:
            getattr(columns, name)[slots] = getattr(new, name)
        columns.labels[slots] = self._labels.take(keys)
        self._index.insert(keys, slots)
        self.end += len(keys)
        self._complete(rows, slots)
        self._added.extend(rows[new.flags & SECONDARY == 0].tolist())
        self.counts.added += len(keys)
        return []

    def _complete(self, rows: Rows, slots: Rows) -> None:
        """Fill in what new posts leave out and posts before them tell: where these are, their authors, their videos."""
        columns, flags = self.columns, self.columns.flags
        columns.behind[slots] = np.where(flags[slots] & SECONDARY, UNKNOWN, 0)
        for post, author, bits, kind in _REFERENCES:
            which = np.flatnonzero(flags[slots] & bits == kind)
            wanting = which if kind != QUOTE else which[getattr(columns, author)[slots[which]] == 0]
            if not len(wanting):
                continue
            found = self.rows_of(getattr(columns, post)[slots[wanting]])
            # Which came first, not which is known by now: nothing may depend on how events are cut into batches.
            before = (found >= 0) & (found < rows[wanting])
            earlier, mine = found[before] & self.mask, wanting[before]
            if kind != QUOTE:
                columns.behind[slots[mine]] = rows[mine] - found[before]
            nameless = getattr(columns, author)[slots[mine]] == 0
            names = self.author_keys(earlier[nameless])
            getattr(columns, author)[slots[mine[nameless]]] = np.where(contains(self._forgotten, names), 0, names)
            if kind == REPLY:
                self._mark_one_below(slots[mine], earlier)
            if kind == REPOST:
                flags[slots[mine[flags[earlier] & (VIDEO | REPLY) == VIDEO]]] |= VIDEO_LISTED
        flags[slots[flags[slots] & (VIDEO | REPLY) == VIDEO]] |= VIDEO_LISTED

    def _mark_one_below(self, replies: Rows, parents: Rows) -> None:
        """Mark the replies, in slots, to a direct answer to the conversation's first post."""
        columns = self.columns
        below = one_below(columns, replies, parents)
        columns.flags[replies[below & (columns.flags[parents] & REPLY != 0)]] |= ONE_BELOW

    def _repoint(self, key: int) -> None:
        """Let replies and reposts of a post that came back refer to where it stands now. Reads all posts; rare."""
        slot = self._index.find_one(key)
        if slot >= 0:
            rows = np.arange(self.base, self.end)
            slots = rows & self.mask
            kinds = self.columns.flags[slots] & SECONDARY
            answers = (kinds == REPLY) & (self.columns.reply_to[slots] == np.uint64(key))
            repeats = (kinds == REPOST) & (self.columns.repost_of[slots] == np.uint64(key))
            which = np.flatnonzero(answers | repeats)
            self.columns.behind[slots[which]] = rows[which] - (self.base + ((slot - self.base) & self.mask))

    def forget_author(self, author: int) -> None:
        """Let no post say that it answers, repeats or quotes an author, nor any that comes later. Reads all; rare.

        The author's labels go as well.
        """
        self.author_labels.put(author, 0)
        self._forgotten = with_key(self._forgotten, author)
        for column in (self.columns.reply_to_author, self.columns.repost_of_author, self.columns.quote_of_author):
            column[column == np.uint64(author)] = 0

    def _make_room(self, count: int) -> None:
        """Double the columns until `count` more posts fit."""
        capacity = self.capacity
        while self.end + count - self.base > capacity:
            capacity *= 2
        if capacity > self.capacity:
            rows = np.arange(self.base, self.end)
            slots = rows & self.mask
            # A post deleted and created again has two rows; the index knows the later one.
            current = self._index.find(self.columns.key[slots]) == slots
            self.columns = self.columns.moved(rows, capacity)
            self.capacity = capacity
            self._index = KeyIndex(capacity)
            self._index.insert(self.columns.key[rows[current] & self.mask], rows[current] & self.mask)

    def trim(self, now_ms: int) -> int:
        """Drop the posts at the front that are older than retention, and tombstones as old; return how many posts.

        Takes time in proportion to what it drops. A post that came late waits behind newer ones; `visible` does not.
        """
        cutoff = now_ms - self.retention_ms
        first = self.base
        while self.base < self.end:
            rows = np.arange(self.base, min(self.base + 1024, self.end))
            slots = rows & self.mask
            kept = self.columns.created_ms[slots] >= cutoff
            stop = int(kept.argmax()) if kept.any() else len(rows)
            if stop:
                self._drop(slots[:stop])
            if stop < len(rows):
                break
        self._tombstones.forget(cutoff)
        self._labels.forget(cutoff)
        while self._added and self._added[0] < self.base:
            self._added.popleft()
        dropped = self.base - first
        self.counts.dropped += dropped
        return dropped

    def _drop(self, slots: Rows) -> None:
        """Drop the posts at the front, whose slots these are."""
        self._index.remove(self.columns.key[slots], slots)
        gone = self.authors.release(self.columns.list[slots] >> 1)
        if len(gone):
            self._released.append(gone)
        self.base += len(slots)

    # -- what others follow

    def take_added(self) -> Rows:
        """Return the originals (no replies, no reposts; x-algorithm.md 2.8) new since the last call, rows int64[n]."""
        rows = np.fromiter(self._added, np.int64, len(self._added))
        self._added.clear()
        return rows[rows >= self.base]

    def take_removed(self) -> Rows:
        """Return the originals deleted since the last call, rows int64[n]; dropping by age does not count."""
        rows = np.array(self._removed, np.int64)
        self._removed.clear()
        return rows

    def take_released(self) -> Rows:
        """Return the author handles freed since the last call, int64[n]; some may have new authors already."""
        handles = np.concatenate(self._released) if self._released else np.empty(0, np.int64)
        self._released.clear()
        return handles

    def memory_bytes(self) -> int:
        """Return the bytes of everything kept for the posts: columns, index, words, authors, tombstones, labels."""
        queues = sys.getsizeof(self._added) + sys.getsizeof(self._removed) + 32 * len(self._added)
        return super().memory_bytes() + queues


def _key_of_post(event: PostCreated | PostDeleted | PostLabelled) -> int | Refusal:
    """Return the key of the post an event is about."""
    try:
        key = event.post if isinstance(event.post, int) else key_of(event.post)
    except ValueError as error:
        return Refusal(event, str(error), "$.post")
    return key or Refusal(event, "0 stands for no post; ids begin at 1", "$.post")


_REFERENCES: Final = (
    ("reply_to", "reply_to_author", SECONDARY, REPLY),
    ("repost_of", "repost_of_author", SECONDARY, REPOST),
    ("quote_of", "quote_of_author", QUOTE, QUOTE),
)
