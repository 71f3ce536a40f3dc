"""One viewer partition: the state of its viewers, owned by one step and reached by others through its methods."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced

import numpy as np

from models.inputs import Context
from operators.keys import NO_KEYS, Interner, Keys, keys_of
from operators.parameters import Parameters
from operators.viewers.query import Query, Request
from operators.viewers.relations import NO_RELATIONS, Relations
from operators.viewers.sequences import Actions, ActionSequences
from schemas.events import Block, Follow, GraphEvent
from schemas.ids import key_of


@dataclass(slots=True)
class ViewerBatch:
    """What one poll brings to one partition: bulk first, then the requests that end the poll.

    In `actions` the column `slot` holds viewer keys still; `graph` pairs each change with whether it was made by
    somebody else about a viewer of this partition.
    """

    actions: Actions | None = None
    graph: list[tuple[GraphEvent, bool]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class ServedRecord:
    """The newest posts served to a viewer, oldest first."""

    at_ms: np.ndarray
    posts: Keys


class ViewerPartition:
    """Action sequences, relations, seen and served posts of the viewers of one partition."""

    def __init__(self, number: int, parameters: Parameters, authors: Interner) -> None:
        self.number = number
        self._parameters = parameters
        self._slots = Interner()
        self.sequences = ActionSequences(parameters.history.groups_max, parameters.history.window_s, authors)
        self._relations: dict[int, Relations] = {}
        self._seen: dict[int, Keys] = {}
        self._served: dict[int, ServedRecord] = {}
        self._served_swept_ms = 0

    def __len__(self) -> int:
        return len(self._relations.keys() | self._slots.known()) - 1  # key 0 is nobody

    def apply(self, batch: ViewerBatch) -> list[Query]:
        """Take a poll's changes, then hydrate its requests in their order."""
        if batch.actions is not None:
            slots = self._slots.handles(batch.actions.slot.view(np.uint64)).astype(np.int64)
            self.sequences.append(batch.actions._replace(slot=slots))
        for event, from_other in batch.graph:
            self._change(event, from_other)
        return [self.query(request) for request in batch.requests]

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
            partition=self.number,
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
        record = self._served.get(viewer)
        if record is None:
            return NO_KEYS
        return np.sort(record.posts[record.at_ms >= at_ms - self._parameters.filters.served_window_s * 1000])

    def remember_served(self, viewer: int, at_ms: int, posts: Sequence[int]) -> None:
        """Remember posts as served; the newest `served_max` are kept."""
        if not posts:
            return
        filters = self._parameters.filters
        self._sweep_served(at_ms)
        new = np.fromiter(posts, np.uint64, len(posts))
        times = np.full(len(new), at_ms, np.int64)
        record = self._served.get(viewer)
        if record is not None:
            times, new = np.concatenate([record.at_ms, times]), np.concatenate([record.posts, new])
        start = max(0, len(new) - filters.served_max)
        self._served[viewer] = ServedRecord(times[start:], new[start:])

    def _sweep_served(self, at_ms: int) -> None:
        """Forget, once a window, the viewers to whom nothing was served within it."""
        window_ms = self._parameters.filters.served_window_s * 1000
        if at_ms - self._served_swept_ms < window_ms:
            return
        self._served_swept_ms = at_ms
        self._served = {key: one for key, one in self._served.items() if one.at_ms[-1] >= at_ms - window_ms}
