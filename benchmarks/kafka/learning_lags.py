"""How long what people did takes to reach the model, from what the processes left on the topics and in `learn`'s log.

An engagement is part of an example; an example of the interval whose end is the first past its offset; what an interval
taught is in the models published at the ends of later intervals, for what goes out is the model that was judged.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
from msgspec import Struct

from benchmarks.kafka.plans import Seconds
from flows.learning.joining import LATE
from flows.learning.messages import decode_example, example_of
from infra.kafka.inbox import Connection
from infra.kafka.read_back import read_back
from infra.kafka.topics import PARTITIONS
from operators.viewers.query import DEADLINE
from schemas.actions import ACTION_INDEX
from schemas.events import Engagement, ModelAnnounced
from schemas.learning import LateEngagement

# Viewer, post and place of the action in the order of schemas.actions.
Label = tuple[str, str, int]


class Done(NamedTuple):
    """An engagement, its own time and that at which the broker took it, ms."""

    label: Label
    own_ms: int
    at_ms: int


class Made(NamedTuple):
    """An example: where it lies, when it went out and when its feed closed (ms), and what it says was done."""

    partition: int
    offset: int
    out_ms: int
    closed_ms: int
    labels: tuple[Label, ...]


class Ended(NamedTuple):
    """An interval that was learned from: when it ended (ms), the next offset of each partition, what was published."""

    at_ms: int
    offsets: dict[int, int]
    published: str | None


class Trace(NamedTuple):
    """All that a run left; times in ms. `late` are engagements that no example took though their post was served."""

    done: Sequence[Done]
    made: Sequence[Made]
    ended: Sequence[Ended]
    announced_ms: Mapping[str, int]
    served_ms: Mapping[str, int]  # the first feed of each model
    late: frozenset[tuple[Label, int]] = frozenset()
    unserved: frozenset[tuple[Label, int]] = frozenset()


class Waits(NamedTuple):
    """Seconds from each engagement on a served post to what came of it; infinite where it had not come by the end.

    `closing` counts from the last act on the feed to feeds of a model with the example, as if everybody had acted last.
    """

    example: Seconds
    learned: Seconds
    announced: Seconds
    served: Seconds
    closing: Seconds
    late: int


def waits(trace: Trace, from_ms: int, to_ms: int, inactivity_s: float) -> Waits:
    """Return the waits of what was done within a span of the broker's time."""
    at = _places(trace)
    steps = _steps(trace)
    found: list[list[float]] = []
    late = 0
    for one in trace.done:
        if not from_ms <= one.at_ms < to_ms or (one.label, one.own_ms) in trace.unserved:
            continue
        if (one.label, one.own_ms) in trace.late:
            late += 1
            continue
        # Of several feeds that show the post the latest took the label, if it had been served by then.
        place = next((here for here in reversed(at.get(one.label, ())) if trace.made[here].closed_ms >= one.at_ms), -1)
        made, step = (trace.made[place], steps[place]) if place >= 0 else (None, (np.inf,) * 3)
        out_ms = np.inf if made is None else made.out_ms
        last_ms = -np.inf if made is None else made.closed_ms - inactivity_s * 1000
        found.append([ms - one.at_ms for ms in (out_ms, *step)] + [step[-1] - max(last_ms, one.at_ms)])
    example, learned, announced, served, closing = np.array(found, float).reshape(-1, 5).T / 1000
    return Waits(example, learned, announced, served, closing, late)


def _places(trace: Trace) -> dict[Label, list[int]]:
    """Return the places of the examples that say so, by what was done, in the order they closed."""
    at: dict[Label, list[int]] = {}
    for place in sorted(range(len(trace.made)), key=lambda one: trace.made[one].closed_ms):
        for label in trace.made[place].labels:
            at.setdefault(label, []).append(place)
    return at


def _steps(trace: Trace) -> list[tuple[float, float, float]]:
    """Return when each example was learned from, a model with it announced, and the first feed of such a model, ms."""
    ends = {one: np.array([end.offsets.get(one, 0) for end in trace.ended]) for one in range(PARTITIONS)}
    versions = [end.published for end in trace.ended]
    # The earliest time of all models published at an interval or later.
    announced, served = (_from_then_on(times, versions) for times in (trace.announced_ms, trace.served_ms))
    steps = []
    for made in trace.made:
        interval = int(np.searchsorted(ends[made.partition], made.offset, side="right"))
        learned = float(trace.ended[interval].at_ms) if interval < len(trace.ended) else np.inf
        steps.append((learned, float(announced[interval + 1]), float(served[interval + 1])))
    return steps


def _from_then_on(times_ms: Mapping[str, int], versions: Sequence[str | None]) -> Seconds:
    """Return the earliest time of a model published at an interval or after it; infinite where there is none."""
    at = np.array([np.inf if one is None else times_ms.get(one, np.inf) for one in versions] + [np.inf, np.inf])
    return np.asarray(np.minimum.accumulate(at[::-1])[::-1])


def closing(feeds: Iterable[Sequence[float]], inactivity_s: float) -> tuple[Seconds, int]:
    """Return how long each act on a feed waits until the feed closes, and how many came too late for that.

    `feeds` are the times of the acts on each feed, in order, in seconds since it was served.
    """
    waits_s, late = list[float](), 0
    for acts in feeds:
        last_s, taken = 0.0, 0
        while taken < len(acts) and acts[taken] <= last_s + inactivity_s:
            last_s = acts[taken]
            taken += 1
        waits_s += [last_s + inactivity_s - act_s for act_s in acts[:taken]]
        late += len(acts) - taken
    return np.array(waits_s), late


def join_lag_s(trace: Trace) -> tuple[Seconds, Seconds]:
    """Return when each example went out (Unix time) and how long after its feed was to close, seconds."""
    out, closed = (np.array([getattr(one, name) for one in trace.made], float) for name in ("out_ms", "closed_ms"))
    return out / 1000, (out - closed) / 1000


def learn_lag(trace: Trace) -> tuple[Seconds, npt.NDArray[np.int64]]:
    """Return when each interval ended (Unix time) and how many examples were on the topic and not learned from then."""
    out = np.sort([one.out_ms for one in trace.made])
    at = np.array([one.at_ms for one in trace.ended], float)
    read = np.array([sum(one.offsets.values()) for one in trace.ended], np.int64)
    return at / 1000, np.searchsorted(out, at, side="right") - read


# -- reading


class _FeedModel(Struct):
    """What is read of a feed; one that came too late names the model that had no time for it."""

    model: str | None = None
    degraded: tuple[str, ...] = ()


def read_trace(connection: Connection, learn_log: Path) -> Trace:
    """Read all that a run left. Raises KafkaRefused."""
    done, made = list[Done](), list[Made]()
    announced, served = dict[str, int](), dict[str, int]()
    passed: dict[bool, set[tuple[Label, int]]] = {True: set(), False: set()}
    topics = ("engagements", "training-examples", "late-engagements", "models", "feeds")
    places = {(topic, one): 0 for topic in topics for one in range(PARTITIONS)}
    for (topic, partition), message in read_back(connection, places, {}):
        raw, at_ms = message.value() or b"", message.timestamp()[1]
        if topic == "engagements":
            act = msgspec.json.decode(raw, type=Engagement)
            done.append(Done(_label(act), act.at, at_ms))
        elif topic == "training-examples":
            made.append(_made(raw, partition, int(message.offset() or 0), at_ms))
        elif topic == "late-engagements":
            late = msgspec.json.decode(raw, type=LateEngagement)
            passed[late.reason == LATE].add((_label(late), late.at))
        elif topic == "models":
            announced.setdefault(msgspec.json.decode(raw, type=ModelAnnounced).model, at_ms)
        elif (feed := msgspec.json.decode(raw, type=_FeedModel)).model is not None and DEADLINE not in feed.degraded:
            served[feed.model] = min(at_ms, served.get(feed.model, at_ms))
    ended = ended_in(learn_log.read_text(errors="replace").splitlines())
    return Trace(done, made, ended, announced, served, frozenset(passed[True]), frozenset(passed[False]))


def ended_in(lines: Iterable[str]) -> list[Ended]:
    """Return the intervals that the lines of a log tell of."""
    found = []
    for line in lines:
        if line.startswith("{") and '"interval_learned"' in line:
            told = orjson.loads(line)
            offsets = {int(one): int(offset) for one, offset in told["position"]["offsets"].items()}
            at_ms = round(datetime.fromisoformat(told["at"]).timestamp() * 1000)
            found.append(Ended(at_ms, offsets, told["published"]))
    return found


def _label(act: Engagement | LateEngagement) -> Label:
    return str(act.viewer), str(act.post), ACTION_INDEX[act.action]


def _made(raw: bytes, partition: int, offset: int, out_ms: int) -> Made:
    message = decode_example(raw)
    labels = tuple(
        (str(message.viewer), str(post), action)
        for post, bits in zip(message.posts, example_of(message).actions.tolist(), strict=True)
        for action in range(int(bits).bit_length())
        if bits >> action & 1
    )
    return Made(partition, offset, out_ms, message.closed_at, labels)


KINDS_OF_WAIT: Final = {
    "example": "its example is on the topic",
    "learned": "the interval it was learned in ends",
    "announced": "a model that has learned it is announced",
    "served": "feeds are of such a model",
    "closing": "the same, from the last act on its feed",
}
