"""Models announced on Kafka, read by every instance: loaded and embedded beside the flow, taken up between two polls.

A model goes through four steps: a thread loads and compiles it; the live posts are handed to the same thread, a few a
turn, for an index of its vectors; a commit that names it becomes durable; the flow switches. So a job that was killed
never goes back to a model after it has answered with the next one (docs/decisions/0025-taking-a-model-up.md).

Of several announcements for a cluster that wait, the newest is tried first, and older ones are passed over once it is
in force: an instance that begins need not go through all that were ever announced. Between two models it rests.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Message

from flows.for_you import ForYou
from flows.serving.durable import FORMAT_VERSION, posts_folder
from flows.serving.positions import MODELS, Positions
from infra.kafka.inbox import SILENCE_S, Connection, Lane
from infra.operations import Metrics, get_log
from infra.polls import latest_accepted_ms
from infra.stores import PartitionStore, StoreRefused
from models.phoenix import CheckpointRefused, Phoenix
from operators.clusters import PROD, Clusters, load_announced, read_announced
from operators.decode import dead_letter
from operators.posts.renewal import Renewal, Work
from operators.viewers.query import Origin
from schemas.codec import Refused, decode
from schemas.events import TOPIC_OF, ModelAnnounced
from schemas.feeds import DeadLetter
from schemas.message_keys import message_key

log = get_log("models")

# Nobody is in a hurry for a model, and a poll costs the turn some microseconds.
LOOKED_FOR_EVERY_S: Final = 0.1
MESSAGES_AT_ONCE: Final = 16
# Rows of the table in a call of the candidate tower, some milliseconds of a thread's time.
ROWS_A_TURN: Final = 256
# While requests are in work the thread has so many rows in so long: under a steady load it must come to an end. After a
# longer turn it has as many more, up to so many times.
RESTS_MAX_S: Final = 0.02
TIMES_MAX: Final = 4
# After a model it rests as long as that one took, and at most so long: where models come faster than they can be taken
# up, half of the time goes into it, and the newest is taken next.
RESTS_BETWEEN_MAX_S: Final = 60.0
# So few rows left are embedded on the spot, for the flow stands still meanwhile.
LEFT_MAX: Final = 256


class _Stopped(Exception):
    """The job ends while a model is loaded."""


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement and where it stood."""

    event: ModelAnnounced
    origin: Origin


@dataclass(slots=True)
class TakingUp:
    """An announced model on its way: once it is loaded, with the index that grows; and how far the commit is."""

    what: Announced
    begun_s: float
    loaded: Future[Phoenix]
    phoenix: Phoenix | None = None
    renewal: Renewal | None = None
    works: deque[Future[None]] = field(default_factory=deque)
    committing: bool = False
    durable: bool = False


class AnnouncedModels:
    """Takes announced models up, one after the other; a turn at a time."""

    def __init__(
        self,
        connection: Connection,
        partitions: int,
        flow: ForYou,
        folder: Path,
        begun: Positions,
        metrics: Metrics,
        bury: Callable[[list[DeadLetter]], None],
    ) -> None:
        """Begin where the positions say. Announced checkpoints lie in `folder` unless their paths are absolute."""
        self._next = {one: begun.of(MODELS, one) for one in range(partitions)}
        self._lane = Lane(connection, {(MODELS, one): at for one, at in self._next.items()}, "earliest")
        # Who knows of no model yet answers nothing before it has seen what there is.
        self._awaited = {} if MODELS in begun.inputs else {one: end for (_, one), end in self._lane.ends().items()}
        self._flow, self._folder, self._metrics, self._bury = flow, folder, metrics, bury
        self._candidates_max = flow.intake.parameters.selection.candidates_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._waiting: list[Announced] = []
        self._now: TakingUp | None = None
        self._looked_at_s = self._worked_at_s = self._rests_until_s = 0.0
        self._stopping = False
        self.announced = dict(begun.announced)

    @property
    def started(self) -> bool:
        """Whether requests may be answered: not before a job that knows of no model has seen what was announced."""
        if not self._awaited:
            return True
        left = [one for one, end in self._awaited.items() if max(0, self._next[one]) < end]
        if left and time.monotonic() - self._lane.heard_at_s < SILENCE_S:
            return False
        if not self._waiting and self._now is None:
            self._awaited = {}
        return not self._awaited

    def take(self, busy: bool) -> None:
        """Do a turn's worth; `busy` says that requests are in work."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= LOOKED_FOR_EVERY_S:
            self._looked_at_s = now_s
            for message in self._lane.poll(MESSAGES_AT_ONCE):
                self._read(message)
        now = self._now
        if now is None:
            if self._waiting and now_s >= self._rests_until_s:
                self._begin()
            return
        try:
            if now.phoenix is None:
                if now.loaded.done():
                    self._loaded(now, now.loaded.result())
                return
            self._embed(now, busy, now_s)
            if now.durable and self._up_to_date(now):
                self._switch(now, now.phoenix)
        except CheckpointRefused as error:
            self._give_up(now, error)
        except Exception as error:  # whatever is wrong with a file, a compiler or a vector: serving goes on
            log.exception("model_fails", model=now.what.event.model)
            self._give_up(now, CheckpointRefused(f"{now.what.event.checkpoint}: taking it up fails: {error}"))

    def recorded(self) -> tuple[dict[int, int], dict[str, ModelAnnounced]]:
        """Return what a commit that begins now is to say: the next offsets, and what is in force by cluster.

        No offsets before it has started: who is killed before must wait again.
        """
        now, waiting, announced = self._now, self._waiting, dict(self.announced)
        if now is not None and now.phoenix is not None and (now.renewal is None or now.renewal.left <= LEFT_MAX):
            now.committing = True
            event = now.what.event
            announced[event.cluster] = event
            waiting = [one for one in waiting if not _is_older(one, now.what)]
        elif now is not None:
            waiting = [*waiting, now.what]
        open_offsets: dict[int, int] = {}
        for one in waiting:
            place = one.origin.partition
            open_offsets[place] = min(one.origin.offset, open_offsets.get(place, one.origin.offset))
        if self._awaited:
            return {}, announced
        return {one: open_offsets.get(one, max(0, at)) for one, at in self._next.items()}, announced

    def committed(self) -> None:
        """Hear that the commit is durable for which `recorded` was asked last."""
        if self._now is not None and self._now.committing:
            self._now.durable = True

    def close(self) -> None:
        """Leave; what is not taken up yet is begun anew by the next process."""
        self._stopping = True
        self._thread.shutdown(cancel_futures=True)
        self._lane.close()

    def _read(self, message: Message) -> None:
        """Let an announcement wait for its turn, or refuse it."""
        origin = origin_of(message)
        self._next[origin.partition] = origin.offset + 1
        if not origin.raw:
            return  # nothing is announced any more: what is in force stays
        try:
            event = read(origin)
            self._flow.clusters.version(event.cluster)
        except (Refused, CheckpointRefused) as error:
            self._refuse(origin, error)
            return
        log.info("model_announced", model=event.model, checkpoint=event.checkpoint, cluster=event.cluster)
        self._waiting.append(Announced(event, origin))

    def _begin(self) -> None:
        """Begin with the newest announcement of a cluster; nothing is to do where its model is in force already."""
        what = next(one for one in self._waiting if not any(_is_older(one, other) for other in self._waiting))
        self._waiting.remove(what)
        if what.event.model == self._flow.clusters.version(what.event.cluster):
            self._in_force(what)
            return
        self._now = TakingUp(what, time.monotonic(), self._thread.submit(self._load, what.event))

    def _load(self, event: ModelAnnounced) -> Phoenix:
        return load_announced(event, self._folder, self._candidates_max, self._go_on)

    def _go_on(self, _done: int, _of: int) -> None:
        if self._stopping:
            raise _Stopped

    def _loaded(self, now: TakingUp, phoenix: Phoenix) -> None:
        """Begin the index of a model that is loaded."""
        self._flow.with_model(phoenix, now.what.event.cluster)
        now.phoenix = phoenix
        if now.what.event.cluster == PROD:

            def aside(work: Work) -> None:
                now.works.append(self._thread.submit(work))

            now.renewal = self._flow.state.posts.renew(phoenix.dimensions, phoenix.embed_posts, aside)

    def _embed(self, now: TakingUp, busy: bool, now_s: float) -> None:
        """Hand the next posts over once the thread is through; beside requests, as many as time has passed for."""
        while now.works and now.works[0].done():
            now.works.popleft().result()
        times = min(int((now_s - self._worked_at_s) / RESTS_MAX_S), TIMES_MAX) if busy else 1
        if now.renewal is not None and now.renewal.left and not now.works and times:
            self._worked_at_s = now_s
            now.renewal.advance(ROWS_A_TURN * times)

    def _up_to_date(self, now: TakingUp) -> bool:
        """Return whether the new index holds all posts; the last few are put into it here and now."""
        renewal = now.renewal
        if renewal is not None:
            if renewal.left > LEFT_MAX:
                return False
            renewal.advance(LEFT_MAX)
            while now.works:
                now.works.popleft().result()
        return True

    def _switch(self, now: TakingUp, phoenix: Phoenix) -> None:
        clusters = self._flow.with_model(phoenix, now.what.event.cluster)
        if now.renewal is not None:
            self._flow.state.posts.adopt(now.renewal)
        self._flow.switch(clusters)
        self._now = None
        self._in_force(now.what)
        now_s = time.monotonic()
        taking_s = now_s - now.begun_s
        self._rests_until_s = now_s + min(taking_s, RESTS_BETWEEN_MAX_S)
        self._metrics.model_swap_seconds.set(taking_s)
        self._metrics.set_model(clusters.version(self._flow.intake.parameters.models.cluster))
        log.info("model_taken_up", model=phoenix.version, cluster=now.what.event.cluster, seconds=round(taking_s, 3))

    def _in_force(self, what: Announced) -> None:
        self.announced[what.event.cluster] = what.event
        self._waiting = [one for one in self._waiting if not _is_older(one, what)]

    def _give_up(self, now: TakingUp, error: CheckpointRefused) -> None:
        if now.renewal is not None:
            self._flow.state.posts.give_up()
        self._now = None
        self._refuse(now.what.origin, error)

    def _refuse(self, origin: Origin, error: Refused | CheckpointRefused) -> None:
        """Bury an announcement; what is in force stays."""
        refused = error if isinstance(error, Refused) else Refused(str(error), "$.checkpoint")
        log.error("model_refused", path=refused.path, reason=refused.reason)
        self._metrics.models_refused.inc()
        self._flow.intake.dead_letters += 1
        self._bury([dead_letter(origin, refused)])


def _is_older(one: Announced, other: Announced) -> bool:
    """Return whether an announcement comes before another of the same cluster: they lie on one partition."""
    return one.event.cluster == other.event.cluster and one.origin.offset < other.origin.offset


def clusters_at_start(begun: Positions, folder: Path, checkpoint: Path, others: Mapping[str, Path]) -> Clusters:
    """Return the models that were in force at the last commit: those of the command line where none was announced.

    One that is gone since is replaced by that of the command line, and said loudly. Raises CheckpointRefused for those
    of the command line.
    """
    clusters = Clusters.load(checkpoint, others)
    for name, event in begun.announced.items():
        try:
            clusters = clusters.with_model(name, read_announced(event, folder))
        except CheckpointRefused as error:
            told = clusters.version(name) if name in clusters.names else ""
            log.error("model_in_force_is_gone", model=event.model, cluster=name, goes_on_with=told, reason=str(error))
    return clusters


def begun_by(state: Path, instance: int) -> Positions:
    """Return what the store of an instance's posts says of itself, before it is opened to be written.

    A store that can't be read says nothing here: what is wrong with it is told when it is opened.
    """
    folder = posts_folder(state, instance)
    if not folder.exists():
        return Positions()
    try:
        store = PartitionStore.open(folder, FORMAT_VERSION, read_only=True)
    except (StoreRefused, OSError):
        return Positions()
    try:
        return Positions.decoded(store.meta)
    finally:
        store.close()


def origin_of(message: Message) -> Origin:
    """Return where a message of the topic of models came from."""
    place = MODELS, int(message.partition() or 0), int(message.offset() or 0)
    return Origin(*place, message.value() or b"", message.key(), max(0, message.timestamp()[1]))


def read(origin: Origin) -> ModelAnnounced:
    """Return what a message of the topic of models announces. Raises Refused."""
    event = decode(origin.raw, latest_accepted_ms())
    if not isinstance(event, ModelAnnounced):
        raise Refused(f"belongs to topic {TOPIC_OF[type(event)]}, not {MODELS}", "$.kind")
    if origin.key != message_key(event):
        raise Refused(f"the message's key must be {message_key(event).decode()}", "$.cluster")
    return event
