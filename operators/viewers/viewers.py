"""The viewers of an instance: one object, changed by one step and reached by others through its methods.

Not an object a viewer partition: a poll is worked on in columns, and a sixteenth of a poll is too short for them
(docs/decisions/0006-one-slab-of-viewers.md).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Final

import numpy as np

from models.inputs import Context
from operators.interner import Interner
from operators.keys import NO_KEYS, Keys, keys_of
from operators.parameters import Parameters
from operators.viewers.query import Query, Request
from operators.viewers.relations import NO_RELATIONS, Relations
from operators.viewers.sequences import Actions, ActionSequences
from schemas.events import Block, Follow, GraphEvent
from schemas.ids import key_of, partition_of

# A change and whether somebody else made it about a viewer of this instance.
GraphChange = tuple[GraphEvent, bool]
# Viewer partitions of a job, whoever owns them.
PARTITIONS: Final = 16


@dataclass(slots=True)
class ServedRecord:
    """The newest posts served to a viewer, oldest first."""

    at_ms: np.ndarray
    posts: Keys


class Viewers:
    """Action sequences, relations, seen and served posts of the viewers that this instance owns."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._slots = Interner()
        self.sequences = ActionSequences(parameters.history.groups_max, parameters.history.window_s)
        self._relations: dict[int, Relations] = {}
        self._seen: dict[int, Keys] = {}
        # By viewer partition, as sweeping is: an instance owns whole partitions, so what a viewer is remembered to have
        # been served never depends on which others this instance owns, not even for a request that comes late.
        self._served: defaultdict[int, dict[int, ServedRecord]] = defaultdict(dict)
        self._served_swept_ms: defaultdict[int, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._relations.keys() | set(self._slots.known().tolist()))

    def memory_bytes(self) -> int:
        """Return the bytes of sequences and of the slot of each viewer; relations are Python objects, not counted."""
        return self.sequences.memory_bytes() + self._slots.memory_bytes()

    def apply(self, actions: Actions | None, graph: Iterable[GraphChange], requests: Iterable[Request]) -> list[Query]:
        """Take a poll's changes, then hydrate its requests in their order.

        In `actions` the column `slot` holds viewer keys still.
        """
        if actions is not None and len(actions.slot):
            slots = self._slots.handles(actions.slot.view(np.uint64)).astype(np.int64)
            self.sequences.append(actions._replace(slot=slots))
        for event, from_other in graph:
            self._change(event, from_other)
        return [self.query(request) for request in requests]

    def _change(self, event: GraphEvent, from_other: bool) -> None:
        if from_other and isinstance(event, Follow | Block):
            self._relations_of(key_of(event.author)).apply_from_other(event)
        else:
            self._relations_of(key_of(event.viewer)).apply(event)

    def _relations_of(self, viewer: int) -> Relations:
        relations = self._relations.get(viewer)
        if relations is None:
            relations = self._relations[viewer] = Relations()
        return relations

    def query(self, request: Request) -> Query:
        """Hydrate a request: remember what it says was seen, and gather what is known of the viewer."""
        viewer, event = request.viewer, request.event
        if event.seen_ids:
            self._remember_seen(viewer, keys_of(event.seen_ids))
        history = self.sequences.of(self._slots.handle_of(viewer))
        return Query(
            request=request,
            context=Context(key=viewer, history=history, at_ms=event.at, surface=event.surface),
            relations=replaced(self._relations.get(viewer, NO_RELATIONS)),
            seen=np.sort(self._seen.get(viewer, NO_KEYS)),
            engaged=np.unique(history.post),
        )

    def _remember_seen(self, viewer: int, posts: Keys) -> None:
        known = self._seen.get(viewer, NO_KEYS)
        everything = np.concatenate([known, posts[~np.isin(posts, known)]])
        self._seen[viewer] = everything[max(0, len(everything) - self._parameters.filters.seen_max) :]

    def served(self, viewer: int, at_ms: int) -> Keys:
        """Return the posts served to a viewer in the window before `at_ms`, sorted (x-algorithm.md 1.5 row 11)."""
        record = self._served[partition_of(viewer, PARTITIONS)].get(viewer)
        if record is None:
            return NO_KEYS
        return np.sort(record.posts[record.at_ms >= at_ms - self._parameters.filters.served_window_s * 1000])

    def remember_served(self, viewer: int, at_ms: int, posts: Sequence[int]) -> None:
        """Remember posts as served; the newest `served_max` are kept."""
        if not posts:
            return
        filters = self._parameters.filters
        partition = partition_of(viewer, PARTITIONS)
        self._sweep_served(partition, at_ms)
        new = np.fromiter(posts, np.uint64, len(posts))
        times = np.full(len(new), at_ms, np.int64)
        record = self._served[partition].get(viewer)
        if record is not None:
            times, new = np.concatenate([record.at_ms, times]), np.concatenate([record.posts, new])
        start = max(0, len(new) - filters.served_max)
        self._served[partition][viewer] = ServedRecord(times[start:], new[start:])

    def _sweep_served(self, partition: int, at_ms: int) -> None:
        """Forget, once a window, the viewers of a partition to whom nothing was served within it."""
        window_ms = self._parameters.filters.served_window_s * 1000
        if at_ms - self._served_swept_ms[partition] < window_ms:
            return
        self._served_swept_ms[partition] = at_ms
        records = self._served[partition]
        self._served[partition] = {key: one for key, one in records.items() if one.at_ms.max() >= at_ms - window_ms}
