"""Commits: what changed in an epoch is copied between two polls and written by a thread while the flow goes on."""

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from flows.intake import TakenIn
from flows.serving.durable import DurableState
from flows.serving.earlier import Earlier
from flows.serving.positions import DEAD_LETTERS, MODELS, OUTPUTS, Positions
from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS, Place
from infra.kafka.outbox import Outbox
from infra.operations import Metrics, get_log
from operators.viewers.viewers import ChangedViewers
from schemas.events import ModelAnnounced

log = get_log("commits")
POSTS: Final = CONTEXT[0]
GRAPH: Final = CONTEXT[1]
# Between two commits passes as long as the first took, and at most so long: under load they become fewer, and so does
# the work, since a viewer that changes twice is written once. Without a limit a slow disk would make them ever larger.
REST_MAX_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Epoch:
    """All that one commit makes durable, as it was at one moment; nothing in it changes any more."""

    viewers: ChangedViewers
    viewer_positions: dict[int, Positions]
    posts: list[TakenIn]
    posts_latest_ms: int
    posts_expired_ms: int
    posts_positions: Positions
    sent: frozenset[int]
    offsets: dict[Place, int]


class Commits:
    """Writes epochs, one after the other."""

    def __init__(
        self, state: DurableState, outbox: Outbox, earlier: Earlier, metrics: Metrics, in_memory_max: int
    ) -> None:
        self._state = state
        self._outbox = outbox
        self._earlier = earlier
        self._metrics = metrics
        self._in_memory_max = in_memory_max
        self._rests_until_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._running: Future[dict[Place, int]] | None = None
        # By partition: the next request and the end of the dead letters, at the commits that may still matter.
        self._marks = {
            one: deque([(max(0, begun.of(REQUESTS, one)), begun.outputs.get(DEAD_LETTERS, 0))])
            for one, begun in state.viewer_positions.items()
        }

    def may_begin(self) -> bool:
        """Return whether an epoch may begin: the last one is written, and did not take too much of the time."""
        return (self._running is None or self._running.done()) and time.perf_counter() >= self._rests_until_s

    def begin(
        self,
        positions: Mapping[Place, int],
        unanswered: set[tuple[int, int]],
        posts: list[TakenIn],
        posts_latest_ms: int,
        clock_ms: int,
        models: tuple[dict[int, int], dict[str, ModelAnnounced]],
    ) -> None:
        """Copy what changed and hand it to the thread; the flow stands still for that long.

        `positions` are the next offsets of all inputs, `unanswered` the partitions and offsets of requests in work,
        which are read again unless their answers are out by the next commit; `models` are the next offsets of
        announcements, and those in force.
        """
        start_s = time.perf_counter()
        epoch = Epoch(
            viewers=self._state.viewers.take_changed(),
            viewer_positions={
                one: self._viewer_positions(one, positions, unanswered) for one in self._state.viewer_positions
            },
            posts=posts,
            posts_latest_ms=posts_latest_ms,
            posts_expired_ms=self._state.expired_ms(),
            posts_positions=Positions(
                {POSTS: _of_topic(positions, POSTS)} | ({MODELS: models[0]} if models[0] else {}),
                clock_ms=clock_ms,
                announced=models[1],
            ),
            sent=self._outbox.unacknowledged(),
            offsets=dict(positions),
        )
        self._running = self._thread.submit(self._write, epoch)
        self._metrics.commit_stall_seconds.observe(time.perf_counter() - start_s)

    def finish(self, wait: bool = False) -> dict[Place, int] | None:
        """Return the offsets of a commit that has ended since the last call; raises what ended it otherwise."""
        if self._running is None or not (wait or self._running.done()):
            return None
        offsets, self._running = self._running.result(), None
        viewers = self._state.viewers
        viewers.forget_unused(self._in_memory_max, viewers.epoch)
        return offsets

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _viewer_positions(
        self, partition: int, positions: Mapping[Place, int], unanswered: set[tuple[int, int]]
    ) -> Positions:
        inputs = {topic: {partition: positions[topic, partition]} for topic in (*ENGAGEMENTS, REQUESTS)
                  if (topic, partition) in positions}  # fmt: skip
        open_offsets = [offset for one, offset in unanswered if one == partition]
        if open_offsets:
            inputs[REQUESTS] = {partition: min(open_offsets)}
        inputs[GRAPH] = _of_topic(positions, GRAPH)
        # Posts are kept elsewhere; whoever owns this partition next must know which of its posts were refused already.
        inputs[POSTS] = {partition: positions.get((POSTS, partition), 0)}
        outputs = self._state.viewer_positions[partition].outputs
        if not self._earlier.remains(partition):
            ends = {topic: self._end((topic, partition)) for topic in OUTPUTS}
            next_request = positions.get((REQUESTS, partition), 0)
            ends[DEAD_LETTERS] = self._letters_end(partition, next_request, min(open_offsets, default=next_request))
            outputs = {topic: max(end, outputs.get(topic, 0)) for topic, end in ends.items()}
        return Positions(inputs, outputs)

    def _letters_end(self, partition: int, next_request: int, oldest_open: int) -> int:
        """Return where dead letters may begin about requests that are read again: those from the oldest open one on.

        A bad request is refused at once, while good ones before it are in work: its letter is out before their feeds.
        """
        marks = self._marks[partition]
        marks.append((next_request, self._end((DEAD_LETTERS, partition))))
        while len(marks) > 1 and marks[1][0] <= oldest_open:
            marks.popleft()
        return marks[0][1]

    def _end(self, place: Place) -> int:
        return max(self._outbox.ends.get(place, 0), self._earlier.ends.get(place, 0))

    def _write(self, epoch: Epoch) -> dict[Place, int]:
        start_s = time.perf_counter()
        # Nothing counts as done before its answer is out.
        self._outbox.wait(epoch.sent)
        state, records = self._state, epoch.viewers.records()
        now, before = epoch.posts_positions, state.posts_positions
        moved = (now.inputs, now.announced) != (before.inputs, before.announced)
        if epoch.posts or state.untidy or moved:
            state.commit_posts(epoch.posts, epoch.posts_latest_ms, epoch.posts_expired_ms, now)
        for partition, positions in epoch.viewer_positions.items():
            changed = records.get(partition, [])
            if changed or positions != state.viewer_positions[partition]:
                state.commit_viewers(partition, changed, positions)
        end_s = time.perf_counter()
        self._rests_until_s = end_s + min(end_s - start_s, REST_MAX_S)
        self._metrics.commit_seconds.observe(end_s - start_s)
        self._metrics.commits.inc()
        return epoch.offsets


def _of_topic(positions: Mapping[Place, int], topic: str) -> dict[int, int]:
    return {partition: offset for (name, partition), offset in positions.items() if name == topic}
