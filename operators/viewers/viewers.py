"""The viewers of an instance: one object, changed by one step and reached by others through its methods.

Not an object a viewer partition: a poll is worked on in columns, and a sixteenth of a poll is too short for them
(docs/decisions/0006-one-slab-of-viewers.md). Viewers that are not in memory come from a durable store when they are
first touched, and leave for it again when too many are in memory.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from models.inputs import Context
from operators.deleted_users import DeletedUsers
from operators.keys import Keys, keys_of
from operators.parameters import Parameters
from operators.viewers.cached_slates import CachedSlates
from operators.viewers.facts import NO_FACTS, Facts, decode_facts, encode_viewer, split_viewer, without_users
from operators.viewers.query import Query, Request
from operators.viewers.sequences import Actions, ActionSequences, Copy
from operators.viewers.sessions import Limits, after_page, find
from operators.viewers.slots import NOBODY, Slots, ViewerSlots
from operators.viewers.tallies import last_act_s
from operators.viewers.taste_changes import taste_changed_at
from operators.visibility import DEFAULT, VisibilityRules
from schemas.events import Block, Follow, GraphEvent, Served
from schemas.ids import Id, key_of

# A change, whether somebody else made it about a viewer of this instance, and the partition of that viewer.
GraphChange = tuple[GraphEvent, bool, int]
Partitions = npt.NDArray[np.int64]
# Viewer partitions of a job, whoever owns them.
PARTITIONS: Final = 16
# The feeds whose posts count as served.
REMEMBERED: Final = frozenset({"for_you", "blended", "following_ranked"})
# The modules of a blended feed of which a viewer is spared a second for a while.
FATIGUED: Final[tuple[str, ...]] = ("who_to_follow", "survey")


class Records(Protocol):
    """Where viewers are kept that are not in memory."""

    def get_many(self, partition: int, viewers: list[int]) -> Sequence[bytes | None]:
        """Return the records of viewers of one partition in their order, None where there is none."""


class NoRecords:
    """Nowhere: all viewers are in memory."""

    def get_many(self, partition: int, viewers: list[int]) -> Sequence[bytes | None]:
        """Return None for each."""
        return [None] * len(viewers)


@dataclass(frozen=True, slots=True)
class ChangedViewers:
    """Viewers as they were at one moment, to be written elsewhere while the flow goes on."""

    keys: list[int]
    partitions: list[int]
    sequences: Copy
    facts: list[Facts | bytes]

    def records(self) -> dict[int, list[tuple[int, bytes]]]:
        """Return for each partition the keys of its viewers and their records."""
        by_partition: dict[int, list[tuple[int, bytes]]] = {}
        viewers = zip(self.keys, self.partitions, self.sequences.groups(), self.facts, strict=True)
        for key, partition, groups, facts in viewers:
            by_partition.setdefault(partition, []).append((key, encode_viewer(groups, facts)))
        return by_partition


class Viewers:
    """Action sequences, relations, seen and served posts of the viewers that this instance owns.

    Of `deleted` users nothing is told any more: who is in memory forgets them when it is next touched, who is in the
    store when it is read.
    """

    def __init__(
        self,
        parameters: Parameters,
        records: Records | None = None,
        deleted: DeletedUsers | None = None,
        own_feeds_count: bool = False,
        visibility: VisibilityRules = DEFAULT,
    ) -> None:
        """Make an empty instance. Its own feeds count as shown where no log says what was (`own_feeds_count`).

        Queries go by the rules of `visibility`.
        """
        self._parameters = parameters
        self._own_feeds_count = own_feeds_count
        self._visibility = visibility
        self._limits = Limits(parameters.pagination.ttl_s, parameters.pagination.sessions_max)
        self._records = records or NoRecords()
        self._deleted = deleted if deleted is not None else DeletedUsers()
        self._slots = ViewerSlots()
        self.slates = CachedSlates(parameters.cached_slate.viewers_max, PARTITIONS)
        self.sequences = ActionSequences(parameters.history.groups_max, parameters.history.window_s)
        self._facts: dict[int, Facts | bytes] = {}  # by slot, where there are any; as stored until somebody asks

    def __len__(self) -> int:
        """Count the viewers in memory."""
        return len(self._slots)

    def reserve(self, count: int) -> None:
        """Make room for so many viewers in memory. Room is only addresses until it is used, to grow is to copy all."""
        self.sequences.reserve(count)

    def memory_bytes(self) -> int:
        """Return the bytes of sequences and of the slot of each viewer; facts are Python objects, not counted."""
        return self.sequences.memory_bytes() + self._slots.memory_bytes()

    def apply(
        self,
        actions: Actions | None,
        partitions: Partitions,
        graph: Iterable[GraphChange],
        requests: Iterable[Request],
        served: Iterable[tuple[Served, int]] = (),
    ) -> list[Query]:
        """Take a poll's changes, then hydrate its requests in their order.

        In `actions` the column `slot` holds viewer keys still; `partitions` are those of the viewers. `served` is what
        a log says was shown, each with its viewer's partition.
        """
        if actions is not None and len(actions.slot):
            slots = self._slots_of(actions.slot.view(np.uint64), partitions)
            self.sequences.append(actions._replace(slot=slots))
            self._slots.change(slots)
        for event, from_other, partition in graph:
            self._change(event, from_other, partition)
        self.show(served)
        return [self.query(request) for request in requests]

    # -- slots

    def _slots_of(self, keys: Keys, partitions: Partitions) -> Slots:
        slots = self._slots.find(keys)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            self._bring(dict(zip(keys[missing].tolist(), partitions[missing].tolist(), strict=True)))
            slots[missing] = self._slots.find(keys[missing])
        self._forget_deleted(slots)
        return slots

    def _slot_of(self, key: int, partition: int) -> int:
        return self._touched(self._slots.find_one(key)) or self._bring({key: partition})

    def _known_slot_of(self, key: int, partition: int) -> int:
        """Return the slot of a viewer, NOBODY where neither memory nor store knows it."""
        return self._touched(self._slots.find_one(key)) or self._bring({key: partition}, known_only=True)

    def _bring(self, viewers: dict[int, int], known_only: bool = False) -> int:
        """Give viewers, whose partitions these are, slots and fill them from the store.

        Where only known viewers are meant, others get none. Returns the slot of the last viewer, NOBODY without one.
        """
        records = self._read(viewers)
        keys = [key for key in viewers if key in records or not known_only]
        if not keys:
            return NOBODY
        slots: Slots = self._slots.give(np.array(keys, np.uint64), np.array([viewers[key] for key in keys]))
        self._slots.cleaned[slots] = len(self._deleted)
        self.sequences.reserve(self._slots.end)
        filled, brought = [], []
        for key, slot in zip(keys, slots.tolist(), strict=True):
            if key in records:
                groups, stored = split_viewer(records[key])
                self._facts[slot] = stored
                if len(self._deleted):
                    left = without_users(groups, self._facts_of(slot), self._deleted)
                    if left is not None:
                        groups, self._facts[slot] = left
                filled.append(slot)
                brought.append(groups)
        self.sequences.put(np.array(filled, np.int64), brought)
        return int(slots[-1])

    def _read(self, viewers: dict[int, int]) -> dict[int, bytes]:
        """Return the records of viewers that are in the store, and not deleted."""
        by_partition: dict[int, list[int]] = {}
        for key, partition in viewers.items():
            if not len(self._deleted) or key not in self._deleted:
                by_partition.setdefault(partition, []).append(key)
        return {
            key: record
            for partition, keys in by_partition.items()
            for key, record in zip(keys, self._records.get_many(partition, keys), strict=True)
            if record is not None
        }

    def _touched(self, slot: int) -> int:
        """Return the slot of a viewer in memory, or NOBODY, once it says nothing of deleted users."""
        if slot and self._slots.cleaned[slot] < len(self._deleted):
            self._forget_deleted(np.array([slot]))
        return slot

    def _forget_deleted(self, slots: Slots) -> None:
        """Let viewers forget who was deleted since they were last touched. In the store a commit sees to it."""
        count = len(self._deleted)
        if not count:
            return
        for slot in np.unique(slots[self._slots.cleaned[slots] < count]).tolist():
            one = np.array([slot])
            (groups,) = self.sequences.groups(one)
            left = without_users(groups, self._facts_of(slot), self._deleted)
            if left is not None:
                self.sequences.clear(one)
                self.sequences.put(one, [left[0]])
                self._facts[slot] = left[1]
        self._slots.cleaned[slots] = count

    def forget(self, key: int) -> None:
        """Forget a viewer who was deleted: nothing of it is left in memory, nor written any more."""
        self.slates.forget(key)
        slot = self._slots.find_one(key)
        if slot:
            slots = np.array([slot])
            self.sequences.clear(slots)
            self._facts.pop(slot, None)
            self._slots.release(slots)

    def _facts_of(self, slot: int) -> Facts:
        facts = self._facts.get(slot, NO_FACTS)
        if isinstance(facts, bytes):
            facts = self._facts[slot] = decode_facts(facts)
        return facts

    def _put_facts(self, slot: int, facts: Facts) -> None:
        self._facts[slot] = facts
        self._slots.change(slot)

    # -- what the store takes, and what leaves memory

    def take_changed(self) -> ChangedViewers:
        """Return copies of the viewers changed since the last call."""
        slots = self._slots.take_changed()
        self._forget_deleted(slots)
        return ChangedViewers(
            self._slots.keys[slots].tolist(),
            self._slots.partitions[slots].tolist(),
            self.sequences.copy(slots),
            [self._facts.get(slot, NO_FACTS) for slot in slots.tolist()],
        )

    def forget_unused(self, in_memory_max: int, before_epoch: int) -> int:
        """Let viewers leave memory until `in_memory_max` are left; return how many.

        They must be in the store as they are: those count that neither changed nor were asked about since an epoch.
        """
        over = len(self._slots) - in_memory_max
        if over <= 0:
            return 0
        slots = self._slots.least_used(over, before_epoch)
        self.sequences.clear(slots)
        for slot in slots.tolist():
            self._facts.pop(slot, None)
        self._slots.release(slots)
        return len(slots)

    @property
    def epoch(self) -> int:
        """The number of times changes were taken."""
        return self._slots.epoch

    # -- changes and queries

    def _change(self, event: GraphEvent, from_other: bool, partition: int) -> None:
        if from_other and isinstance(event, Follow | Block):
            slot = self._slot_of(key_of(event.author), partition)
            facts = self._facts_of(slot)
            relations = facts.relations.after_other(event)
        else:
            slot = self._slot_of(key_of(event.viewer), partition)
            facts = self._facts_of(slot)
            relations = facts.relations.after(event)
        self._put_facts(slot, facts.with_relations(relations))

    def query(self, request: Request) -> Query:
        """Hydrate a request: remember what it says was seen, and gather what is known of the viewer."""
        viewer, event = request.viewer, request.event
        self.remember_seen(request)
        slot = self._known_slot_of(viewer, request.partition)
        self._slots.use(slot)
        history, facts = self.sequences.of(slot), self._facts_of(slot)
        counts = self.sequences.tallies.of(slot, last_act_s(history, event.at))
        changed_at = taste_changed_at(history, request.parameters.history.taste_change_odds)
        return Query(
            request=request,
            context=Context(viewer, history.part(changed_at, len(history)), event.at, event.surface, counts),
            relations=facts.relations,
            visibility=self._visibility.for_viewer(facts.relations.country, facts.relations.settings),
            seen=np.sort(facts.seen),
            engaged=np.unique(history.post),
            history=history,
        )

    def remember_seen(self, request: Request) -> None:
        """Remember the posts that a request says were seen; the newest `seen_max` are kept."""
        posts = request.event.seen_ids
        if posts and request.viewer not in self._deleted:
            slot = self._slot_of(request.viewer, request.partition)
            self._put_facts(slot, self._facts_of(slot).after_seen(keys_of(posts), self._parameters.filters.seen_max))

    def served(self, request: Request) -> Keys:
        """Return the posts served to a viewer in the window before a request, sorted (x-algorithm.md 1.5 row 11)."""
        facts = self._facts_of(self._known_slot_of(request.viewer, request.partition))
        since_ms = request.event.at - self._parameters.filters.served_window_s * 1000
        return np.sort(facts.served[facts.served_ms >= since_ms])

    def remember_served(self, request: Request, posts: Keys) -> None:
        """Remember posts as served to a request; the newest `served_max` of a window are kept.

        The following feed repeats itself and takes nothing from the others; scores of posts are shown to nobody.
        """
        feed = request.event.feed
        if len(posts) and feed != "score_posts" and request.viewer not in self._deleted:
            filters, slot = self._parameters.filters, self._slot_of(request.viewer, request.partition)
            if feed in REMEMBERED:
                facts = self._facts_of(slot).after_served(
                    request.event.at, posts, filters.served_window_s, filters.served_max
                )
                self._put_facts(slot, facts)
            if self._own_feeds_count:
                self._show(slot, request.event.at, request.event.request, len(posts))

    def shown(self, request: Request) -> Keys | None:
        """Return what earlier pages showed to a request with a cursor, sorted; None where the session is over."""
        facts = self._facts_of(self._known_slot_of(request.viewer, request.partition))
        found = find(facts.sessions, request.page.session, request.event.at, self._limits)
        return None if found is None else found.keys

    def remember_page(self, request: Request, originals: Keys) -> int:
        """Remember what a page showed, for the pages behind it; return how much the session has shown by now."""
        if request.viewer in self._deleted:
            return 0
        slot, session = self._slot_of(request.viewer, request.partition), request.page.session
        facts = self._facts_of(slot)
        sessions = after_page(facts.sessions, session, request.event.at, originals, self._limits)
        self._put_facts(slot, replace(facts, sessions=sessions))
        return len(sessions[-1].keys)

    def modules_ms(self, request: Request) -> tuple[int, ...]:
        """Return when a viewer was last shown each of FATIGUED, ms, 0 for never."""
        return self._facts_of(self._known_slot_of(request.viewer, request.partition)).modules_ms

    def remember_modules(self, request: Request, kinds: Collection[str]) -> None:
        """Remember that a viewer was shown modules."""
        if not set(kinds).isdisjoint(FATIGUED) and request.viewer not in self._deleted:
            slot = self._slot_of(request.viewer, request.partition)
            facts, at_ms = self._facts_of(slot), request.event.at
            times = zip(FATIGUED, facts.modules_ms, strict=True)
            latest = tuple(max(at_ms, last_ms) if kind in kinds else last_ms for kind, last_ms in times)
            self._put_facts(slot, replace(facts, modules_ms=latest))

    def show(self, served: Iterable[tuple[Served, int]]) -> None:
        """Count what a log says was shown, each with its viewer's partition."""
        for shown, partition in served:
            slot = self._slot_of(key_of(shown.viewer), partition)
            self._show(slot, shown.at, shown.request, len(shown.posts))

    def _show(self, slot: int, at_ms: int, request: Id, posts: int) -> None:
        """Count posts that a feed showed."""
        self.sequences.tallies.show(slot, at_ms // 1000, key_of(request) & 0xFFFFFFFF, posts)
        self._slots.change(slot)
