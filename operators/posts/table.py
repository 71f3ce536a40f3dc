"""The live posts as columns: appended, deleted, labelled, found by key, dropped by age (x-algorithm.md 2.1 to 2.3)."""

import sys
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from operators.keys import Keys, Mask
from operators.posts.columns import (
    CAPACITY_MIN,
    DELETED,
    LISTS,
    QUOTE,
    REPLY,
    REPOST,
    SECONDARY,
    UNKNOWN,
    VIDEO,
    VIDEO_LISTED,
    Authors,
    Columns,
    Rows,
    Terms,
    Words,
)
from operators.posts.key_index import KeyIndex
from operators.posts.new_posts import NewPosts, TermsOf, fingerprint, first_bad_id
from operators.posts.records import Counts, Posts, Refusal, Related
from operators.posts.waiting import Labels, Tombstones
from operators.text import Places, Tokens, contains_phrase
from schemas.events import PostCreated, PostDeleted, PostEvent, PostLabelled
from schemas.ids import STRING_KEY_BIT, Id, key_of

RETENTION_S: Final = 172_800  # x-algorithm.md 2.2


class PostTable:
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
        self.retention_ms = retention_s * 1000
        self.capacity = 1 << (max(capacity, CAPACITY_MIN) - 1).bit_length()
        self.columns = Columns.empty(self.capacity)
        self.base = 0
        self.end = 0
        self.clock_ms = 0  # the newest event time seen
        self.counts = Counts()
        self.authors = Authors()
        self._terms = terms
        self._words = Words()
        self._index = KeyIndex(self.capacity)
        self._tombstones = Tombstones()
        self._labels = Labels()
        self._added: deque[int] = deque()
        self._removed: list[int] = []
        self._released: list[Rows] = []

    def __len__(self) -> int:
        """Count the rows, deleted ones that are not yet dropped included."""
        return self.end - self.base

    @property
    def mask(self) -> int:
        """The bits of a row that are its slot."""
        return self.capacity - 1

    # -- events

    def apply(self, events: Sequence[PostEvent], now_ms: int | None = None) -> list[Refusal]:
        """Apply events in their order and return those that can't be taken.

        Time is the newest event time seen; `now_ms`, where given, is a bound that one post from the future can't
        move. A post older than retention at its arrival is not taken. A deletion holds against a creation that
        comes later, unless the post had been here before and is created anew at a later time than all events up to
        its deletion: that is how it comes back. A second creation with the same content is passed over (producers
        deliver at least once), with other content it is refused. Labels replace the ones before.
        """
        refusals: list[Refusal] = []
        pending: dict[int, PostCreated] = {}
        ceiling = sys.maxsize if now_ms is None else now_ms
        for event in events:
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
            getattr(columns, author)[slots[mine[nameless]]] = self.author_keys(earlier[nameless])
            if kind == REPOST:
                flags[slots[mine[flags[earlier] & (VIDEO | REPLY) == VIDEO]]] |= VIDEO_LISTED
        flags[slots[flags[slots] & (VIDEO | REPLY) == VIDEO]] |= VIDEO_LISTED

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

    # -- reading

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

    def related(self, posts: Posts) -> Related:
        """Return the rows of what posts refer to."""
        return Related(
            parent=self.rows_of(posts.reply_to),
            conversation=self.rows_of(posts.conversation),
            reposted=self.rows_of(posts.repost_of),
            quoted=self.rows_of(posts.quote_of),
        )

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

    def labels_of(self, handle: int) -> tuple[str, ...]:
        """Return the labels that a number in the column `labels` stands for, sorted."""
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

    def of(self, keys: Keys) -> list[Id]:
        """Return the ids of posts and authors; raises KeyError for text of neither a live post nor its author."""
        ids = []
        for key in keys.tolist():
            identity = self.original_id(key)
            if identity is None:
                raise KeyError(f"no live post or author with the key {key}")
            ids.append(identity)
        return ids

    def memory_bytes(self) -> int:
        """Return the bytes of everything kept for the posts: columns, index, words, authors, tombstones, labels."""
        queues = sys.getsizeof(self._added) + sys.getsizeof(self._removed) + 32 * len(self._added)
        parts = (self.columns, self._index, self.authors, self._tombstones, self._labels)
        return self._words.arena.nbytes + queues + sum(part.memory_bytes() for part in parts)


def _key_of_post(event: PostEvent) -> int | Refusal:
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
_GATHERED: Final = tuple(name for name in Posts.__dataclass_fields__ if name not in ("row", "author"))
