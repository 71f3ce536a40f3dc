"""From a poll's bytes to columns and events, and dead letters for what can't be taken."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.cursors import CursorRefused
from operators.cursors import read as read_cursor
from operators.experiments import NO_EXPERIMENTS, Experiments, Exposures
from operators.keys import keys_of, partitions_of
from operators.parameters import Overriding, ParameterRefused, Parameters
from operators.viewers.query import Origin, Request
from operators.viewers.sequences import NO_TERMS, Actions
from operators.viewers.viewers import PARTITIONS, GraphChange
from schemas.actions import ACTION_INDEX
from schemas.codec import Refused, decode_batch
from schemas.events import (
    POST_EVENTS,
    TOPIC_OF,
    TOPICS,
    Block,
    Engagement,
    Event,
    FeedRequest,
    Follow,
    GraphEvent,
    ModelAnnounced,
    PostEvent,
    Profile,
    Served,
    UserDeleted,
)
from schemas.feeds import DeadLetter
from schemas.ids import Id, key_of, partition_of
from schemas.message_keys import message_key, partition_of_id
from schemas.polls import RawPoll
from schemas.requests import check_together

TOPICS_SET: Final = frozenset(TOPICS)
# The job's clock is the median time of so many latest events: four of them may come from wrong clocks.
CLOCK_EVENTS: Final = 9


# Dwell times are kept as 16-bit floats: this is the longest they hold, 18 hours.
DWELL_S_KEPT: Final = np.float32(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which viewers this instance, k of n, answers: those whose partition p has p mod n = k."""

    instance: int = 0
    instances: int = 1
    partitions: int = PARTITIONS

    def __post_init__(self) -> None:
        if not 0 <= self.instance < self.instances <= self.partitions:
            raise ValueError(
                f"instance {self.instance} of {self.instances} over {self.partitions} partitions: "
                "counts from 0, and no more instances than partitions"
            )

    def owns(self, partition: int) -> bool:
        """Return whether this instance owns a viewer partition."""
        return partition % self.instances == self.instance

    @property
    def owned(self) -> range:
        """The viewer partitions of this instance."""
        return range(self.instance, self.partitions, self.instances)


@dataclass(slots=True)
class Poll:
    """A decoded poll.

    `action_places`, `everyones_places`, `follower_places` and `post_places` say where in the poll these stood,
    `action_partitions` the partitions of viewers, `post_origins` where post events came from; `everyones` are the
    actions of all viewers, whoever owns them, `followers` the changes to anybody's, and `served` what a recorded log
    says was shown to all; `deleted_users` are those of all instances; `announced` are models, with where each was
    announced; `latest_ms` are the times of the last few events.
    """

    post_events: list[PostEvent] = field(default_factory=list)
    post_origins: list[Origin] = field(default_factory=list)
    actions: Actions | None = None
    everyones: Actions | None = None
    everyones_places: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    action_places: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    action_partitions: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    post_places: list[int] = field(default_factory=list)
    graph: list[GraphChange] = field(default_factory=list)
    deleted_users: list[Id] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    followers: list[Follow | Profile] = field(default_factory=list)
    follower_places: list[int] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    announced: list[tuple[ModelAnnounced, Origin]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    events: int = 0
    latest_ms: list[int] = field(default_factory=list)


def decode(
    raw: RawPoll,
    parameters: Parameters,
    ownership: Ownership,
    experiments: Experiments = NO_EXPERIMENTS,
    check: Callable[[Parameters], None] | None = None,
) -> Poll:
    """Return a poll's events, in columns where there are many of a kind; whatever is refused is a dead letter.

    `check` raises ParameterRefused for a request's parameters that this job can't do with.
    """
    poll = Poll()
    decoded = decode_batch(raw.raw, raw.at_max)
    for index, reason in raw.errors.items():
        decoded[index] = Refused(reason)
    if not TOPICS_SET.isdisjoint(raw.topics):
        _refuse_strays(decoded, raw.topics)
    if raw.keys is not None:
        _refuse_wrong_keys(decoded, raw.keys)
    _refuse_nobody(decoded)
    _take_engagements(poll, decoded, raw, ownership)
    for index, event in enumerate(decoded):
        if isinstance(event, Engagement):
            continue
        if isinstance(event, Refused):
            poll.dead_letters.append(dead_letter(_origin(raw, index), event))
            continue
        poll.events += 1
        if isinstance(event, POST_EVENTS):
            poll.post_events.append(event)
            poll.post_origins.append(_origin(raw, index))
            poll.post_places.append(index)
        elif isinstance(event, FeedRequest):
            _take_request(poll, event, raw, index, partial(experiments.for_request, parameters), check, ownership)
        else:
            _take_other(poll, event, raw, index, ownership)
    last = (event.at for event in reversed(decoded) if not isinstance(event, Refused))
    poll.latest_ms = list(islice(last, CLOCK_EVENTS))[::-1]
    return poll


def _take_other(
    poll: Poll,
    event: GraphEvent | UserDeleted | Served | ModelAnnounced,
    raw: RawPoll,
    index: int,
    ownership: Ownership,
) -> None:
    if isinstance(event, Served):
        poll.served.append(event)
    elif isinstance(event, ModelAnnounced):
        poll.announced.append((event, _origin(raw, index)))
    elif isinstance(event, UserDeleted):
        poll.deleted_users.append(event.viewer)
    else:
        if isinstance(event, Follow | Profile):
            poll.followers.append(event)
            poll.follower_places.append(index)
        poll.graph += _owned_sides(event, raw, index, ownership)


def _take_engagements(poll: Poll, decoded: list[Event | Refused], raw: RawPoll, ownership: Ownership) -> None:
    """Take the engagements of owned viewers: most of what comes, so they go through in bulk, the rest one by one."""
    engagements = [event for event in decoded if type(event) is Engagement]
    if not engagements:
        return
    poll.events = len(engagements)
    places = np.array([place for place, event in enumerate(decoded) if type(event) is Engagement], np.int64)
    actions = poll.everyones = engagement_columns(engagements)
    poll.everyones_places = places
    if raw.keys is None:
        partitions = partitions_of(actions.slot.view(np.uint64), ownership.partitions)
    else:
        partitions = np.array(raw.partitions, np.int64)[places]
    owned: npt.NDArray[np.intp] | slice = slice(None)
    if ownership.instances > 1:
        owned = np.flatnonzero(partitions % ownership.instances == ownership.instance)
    poll.actions, poll.action_places, poll.action_partitions = actions.take(owned), places[owned], partitions[owned]


def _refuse_strays(decoded: list[Event | Refused], topics: Sequence[str]) -> None:
    """Refuse events that came on a topic of others; the merged file of a log is no topic."""
    for index, (event, topic) in enumerate(zip(decoded, topics, strict=True)):
        if not isinstance(event, Refused) and topic in TOPICS_SET and TOPIC_OF[type(event)] != topic:
            decoded[index] = Refused(f"belongs to topic {TOPIC_OF[type(event)]}, not {topic}", "$.kind")


def _refuse_nobody(decoded: list[Event | Refused]) -> None:
    """Refuse what viewer 0 is said to do: 0 stands for nobody."""
    for index, event in enumerate(decoded):
        if getattr(event, "viewer", 1) == 0:
            decoded[index] = Refused("viewer 0 is nobody", "$.viewer")


def _refuse_wrong_keys(decoded: list[Event | Refused], keys: Sequence[bytes | None]) -> None:
    """Refuse events whose message had another key: the key has decided on the partition, and so on the instance."""
    for index, (event, key) in enumerate(zip(decoded, keys, strict=True)):
        if isinstance(event, (Refused, *POST_EVENTS)) or key == message_key(event):
            continue
        decoded[index] = Refused(f"the message's key must be {message_key(event).decode()}", "$.viewer")


def dead_letter(origin: Origin, refused: Refused) -> DeadLetter:
    """Return the dead letter of an input."""
    return DeadLetter(
        origin.topic,
        origin.partition,
        origin.offset,
        refused.reason,
        refused.path,
        origin.raw,
        origin.key,
        origin.published_ms,
    )


def _origin(raw: RawPoll, index: int) -> Origin:
    origin = Origin(raw.topics[index], raw.partitions[index], raw.offsets[index], raw.raw[index])
    if raw.keys is None:
        return origin
    return replace(
        origin, key=raw.keys[index], published_ms=raw.published_ms[index], headers=raw.headers.get(index, ())
    )


def _take_request(
    poll: Poll,
    event: FeedRequest,
    raw: RawPoll,
    index: int,
    resolve: Callable[[int, dict[str, Overriding]], tuple[Parameters, Exposures]],
    check: Callable[[Parameters], None] | None,
    ownership: Ownership,
) -> None:
    viewer, origin = key_of(event.viewer), _origin(raw, index)
    try:
        check_together(event)
        resolved, exposures = resolve(viewer, event.parameters)
        if check is not None and event.parameters:
            check(resolved)
    except Refused as refused:
        poll.dead_letters.append(dead_letter(origin, refused))
        return
    except ParameterRefused as error:
        poll.dead_letters.append(dead_letter(origin, Refused(str(error), "$.parameters")))
        return
    try:
        cursor = read_cursor(event.cursor, viewer, event.feed) if event.cursor else None
    except CursorRefused as error:
        poll.dead_letters.append(dead_letter(origin, Refused(str(error), "$.cursor")))
        return
    partition = partition_of(viewer, ownership.partitions) if raw.keys is None else raw.partitions[index]
    if not ownership.owns(partition):
        return
    waits_ms = resolved.serving.deadline_ms
    if raw.standing:
        waits_ms = min(waits_ms, resolved.serving.wait_target_ms)
    deadline_ms = origin.published_ms + waits_ms if origin.published_ms and waits_ms else 0
    shed = index in raw.shed
    poll.requests.append(
        Request(event, viewer, resolved, origin, raw.read_at_s, partition, deadline_ms, shed, exposures, cursor)
    )


def engagement_columns(engagements: list[Engagement]) -> Actions:
    """Return engagements as columns; `slot` holds viewer keys, `terms` are filled in where the posts live."""
    # A list a field and its buffer: half the time of an array from Python objects, or of tuples taken apart.
    return Actions(
        slot=keys_of([one.viewer for one in engagements]).view(np.int64),
        post=keys_of([one.post for one in engagements]),
        author=keys_of([one.author or 0 for one in engagements]),
        terms=np.zeros((len(engagements), NO_TERMS), np.uint16),
        action=np.frombuffer(bytes([ACTION_INDEX[one.action] for one in engagements]), np.uint8),
        undo=np.frombuffer(bytes([one.undo for one in engagements]), np.bool_),
        dwell_s=np.minimum(np.frombuffer(array("f", [one.dwell_s for one in engagements]), np.float32), DWELL_S_KEPT),
        surface=np.frombuffer(bytes([one.surface for one in engagements]), np.uint8),
        at_ms=np.frombuffer(array("q", [one.at for one in engagements]), np.int64),
    )


def _owned_sides(event: GraphEvent, raw: RawPoll, index: int, ownership: Ownership) -> list[GraphChange]:
    """Return a change as the viewers of this instance see it: as their own, and as made about them."""
    partitions, sides = ownership.partitions, []
    computed = raw.keys is None
    own = partition_of(key_of(event.viewer), partitions) if computed else raw.partitions[index]
    if ownership.owns(own):
        sides.append((event, False, own))
    if isinstance(event, Follow | Block):
        other = (
            partition_of(key_of(event.author), partitions) if computed else partition_of_id(event.author, partitions)
        )
        if ownership.owns(other):
            sides.append((event, True, other))
    return sides
