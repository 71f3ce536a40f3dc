"""From a poll's bytes to columns and events, and dead letters for what can't be taken."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from operators.keys import keys_of, partitions_of
from operators.parameters import ParameterRefused, Parameters, for_request
from operators.viewers.partition import ViewerBatch
from operators.viewers.query import Origin, Request
from operators.viewers.sequences import NO_TERMS, Actions
from schemas.actions import ACTION_INDEX
from schemas.codec import Refused, decode_batch
from schemas.events import (
    Block,
    Engagement,
    Event,
    FeedRequest,
    Follow,
    GraphEvent,
    PostCreated,
    PostDeleted,
    PostEvent,
    PostLabelled,
    Served,
)
from schemas.feeds import DeadLetter
from schemas.ids import key_of, partition_of
from schemas.polls import RawPoll

POST_EVENTS: Final = (PostCreated, PostDeleted, PostLabelled)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which viewers this instance, k of n, answers: those whose partition p has p mod n = k."""

    instance: int = 0
    instances: int = 1
    partitions: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.instance < self.instances <= self.partitions:
            raise ValueError(
                f"instance {self.instance} of {self.instances} over {self.partitions} partitions: "
                "counts from 0, and no more instances than partitions"
            )

    def owns(self, viewer: int) -> bool:
        """Return whether this instance owns the viewer with this key."""
        return partition_of(viewer, self.partitions) % self.instances == self.instance


@dataclass(slots=True)
class Poll:
    """A decoded poll.

    `post_origins` are the places of `post_events`; `served` is what a recorded log says was shown, which training reads
    and a feed does not; `clock_ms` is the latest event time.
    """

    post_events: list[PostEvent] = field(default_factory=list)
    post_origins: list[Origin] = field(default_factory=list)
    actions: Actions | None = None
    graph: list[GraphEvent] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    events: int = 0
    clock_ms: int = 0

    def by_partition(self, ownership: Ownership) -> dict[int, ViewerBatch]:
        """Return what each viewer partition of this instance gets."""
        batches: dict[int, ViewerBatch] = {}

        def batch(partition: int) -> ViewerBatch:
            return batches.setdefault(partition, ViewerBatch())

        if self.actions is not None:
            for partition, actions in _split(self.actions, ownership):
                batch(partition).actions = actions
        for event in self.graph:
            sides = [(event.viewer, False)]
            if isinstance(event, Follow | Block):
                sides.append((event.author, True))
            for identity, from_other in sides:
                key = key_of(identity)
                if ownership.owns(key):
                    batch(partition_of(key, ownership.partitions)).graph.append((event, from_other))
        for request in self.requests:
            batch(partition_of(request.viewer, ownership.partitions)).requests.append(request)
        return batches


def decode(raw: RawPoll, parameters: Parameters, ownership: Ownership) -> Poll:
    """Return a poll's events, in columns where there are many of a kind; whatever is refused is a dead letter."""
    poll = Poll()
    engagements: list[Engagement] = []
    decoded = decode_batch(raw.raw, raw.at_max)
    for index, reason in raw.errors.items():
        decoded[index] = Refused(reason)
    for index, event in enumerate(decoded):
        kind = type(event)
        if kind is Engagement:
            engagements.append(event)  # type: ignore[arg-type]
        elif kind is Refused:
            poll.dead_letters.append(dead_letter(_origin(raw, index), event))  # type: ignore[arg-type]
        elif kind in POST_EVENTS:
            poll.post_events.append(event)  # type: ignore[arg-type]
            poll.post_origins.append(_origin(raw, index))
        elif kind is FeedRequest:
            _take_request(poll, event, _origin(raw, index), raw.read_at_s, parameters, ownership)  # type: ignore[arg-type]
        elif kind is Served:
            poll.served.append(event)  # type: ignore[arg-type]
        else:
            poll.graph.append(event)  # type: ignore[arg-type]
    events: list[Event] = [event for event in decoded if not isinstance(event, Refused)]
    poll.events = len(events)
    poll.clock_ms = max((event.at for event in events), default=0)
    if engagements:
        poll.actions = _columns(engagements)
    return poll


def dead_letter(origin: Origin, refused: Refused) -> DeadLetter:
    """Return the dead letter of an input."""
    return DeadLetter(origin.topic, origin.partition, origin.offset, refused.reason, refused.path, origin.raw)


def _origin(raw: RawPoll, index: int) -> Origin:
    return Origin(raw.topics[index], raw.partitions[index], raw.offsets[index], raw.raw[index])


def _take_request(
    poll: Poll, event: FeedRequest, origin: Origin, read_at_s: float, parameters: Parameters, ownership: Ownership
) -> None:
    viewer = key_of(event.viewer)
    if viewer == 0:
        poll.dead_letters.append(dead_letter(origin, Refused("viewer 0 is nobody", "$.viewer")))
        return
    try:
        resolved = for_request(parameters, event.parameters)
    except ParameterRefused as error:
        poll.dead_letters.append(dead_letter(origin, Refused(str(error), "$.parameters")))
        return
    if ownership.owns(viewer):
        poll.requests.append(Request(event, viewer, resolved, origin, read_at_s))


def _columns(engagements: list[Engagement]) -> Actions:
    """Return engagements as columns; `slot` holds viewer keys, `terms` are filled in where the posts live."""
    count = len(engagements)
    index = ACTION_INDEX
    return Actions(
        slot=keys_of([one.viewer for one in engagements]).view(np.int64),
        post=keys_of([one.post for one in engagements]),
        author=keys_of([one.author or 0 for one in engagements]),
        terms=np.zeros((count, NO_TERMS), np.uint16),
        action=np.array([index[one.action] for one in engagements], np.uint8),
        undo=np.array([one.undo for one in engagements], np.bool_),
        dwell_s=np.array([one.dwell_s for one in engagements], np.float32),
        surface=np.array([one.surface for one in engagements], np.uint8),
        at_ms=np.array([one.at for one in engagements], np.int64),
    )


def _split(actions: Actions, ownership: Ownership) -> list[tuple[int, Actions]]:
    """Return the actions of each owned partition, in their order."""
    partition = partitions_of(actions.slot.view(np.uint64), ownership.partitions)
    order = np.argsort(partition, kind="stable")
    edges = np.flatnonzero(np.diff(partition[order])) + 1
    parts = [part for part in np.split(order, edges) if len(part)]
    return [
        (number, actions.take(part))
        for part in parts
        if (number := int(partition[part[0]])) % ownership.instances == ownership.instance
    ]
