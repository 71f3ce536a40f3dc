"""Sources and sinks of a flow that runs on a recorded log, and the loop that runs it.

One input, one partition, one worker: several of any of them fall out of step after the first hiccup and stay there
(medians of 100 to 490 ms measured).
"""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, Generic, TypeVar

from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from infra.logs.reader import LogReader
from schemas.polls import RawPoll

X = TypeVar("X")

# Lines of a recorded log in one poll at most, when no request cuts it shorter: long enough to work in columns.
POLL_LINES: Final = 4096
# What every request line holds. Text that happens to hold it cuts a poll short, no more.
REQUEST_MARK: Final = b'"feed_request"'
SERVED_MARK: Final = b'"served"'
# Clocks of producers may be ahead by this much before an event counts as coming from the future.
FUTURE_TOLERANCE_S: Final = 300
# Epochs only matter where state is written by them; a second keeps their overhead out of sight.
EPOCH: Final = timedelta(seconds=1)


def latest_accepted_ms() -> int:
    """Return the latest event time accepted now, in milliseconds."""
    return int((time.time() + FUTURE_TOLERANCE_S) * 1000)


def polls_of(
    reader: LogReader, marks: tuple[bytes, ...] = (REQUEST_MARK,), at_max: int | None = None
) -> Iterator[RawPoll]:
    """Yield a log in polls that end with their first line holding one of `marks`, cut alike by every process.

    `at_max` is the latest event time accepted, in milliseconds; by default a little more than now.
    """
    at_max = latest_accepted_ms() if at_max is None else at_max
    for batch in reader.batches():
        one = len(reader.sources) == 1
        topics = (
            [(batch.sources[0].topic or batch.sources[0].name)] * len(batch.raw)
            if one
            else [source.topic or source.name for source in batch.sources]
        )
        start = 0
        for end in _cuts(batch.raw, marks):
            yield RawPoll(
                raw=batch.raw[start:end],
                topics=topics[start:end],
                partitions=[0] * (end - start),
                offsets=batch.offsets[start:end],
                read_at_s=time.perf_counter(),
                at_max=at_max,
                errors={at - start: reason for at, reason in batch.errors.items() if start <= at < end},
            )
            start = end


def _cuts(lines: list[bytes], marks: tuple[bytes, ...]) -> Iterator[int]:
    """Yield the ends of polls: after each marked line, and at the end of the lines."""
    # One search over all of a batch first: most batches hold no mark, and a search a line costs ten times as much.
    whole = b"\n".join(lines)
    marks = tuple(mark for mark in marks if mark in whole)
    ends = {index + 1 for mark in marks for index, line in enumerate(lines) if mark in line}
    yield from sorted(ends | {len(lines)} if lines else ends)


class PollSource(FixedPartitionedSource[RawPoll, None]):
    """All topics behind one partition. While `ready()` is false nothing is polled: no queue grows without bound."""

    def __init__(self, polls: Iterator[RawPoll], ready: Callable[[], bool]) -> None:
        self._polls = polls
        self._ready = ready

    def list_parts(self) -> list[str]:
        """Return the one partition."""
        return ["all"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_Polls":
        """Return the partition, at the start of its polls."""
        return _Polls(self._polls, self._ready)


class _Polls(StatefulSourcePartition[RawPoll, None]):
    def __init__(self, polls: Iterator[RawPoll], ready: Callable[[], bool]) -> None:
        self._polls = polls
        self._ready = ready

    def next_batch(self) -> list[RawPoll]:
        """Return the next poll, nothing while the flow is busy; raises StopIteration at the end.

        After a poll Bytewax comes back at once, after nothing in 1 ms.
        """
        return [next(self._polls)] if self._ready() else []

    def snapshot(self) -> None:
        """Return nothing: a recorded log is replayed from its start."""
        return


class EachSink(DynamicSink[X], Generic[X]):
    """Hand every batch of items to a function."""

    def __init__(self, write: Callable[[list[X]], None]) -> None:
        self._write = write

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Each[X]":
        """Return this worker's sink."""
        return _Each(self._write)


class _Each(StatelessSinkPartition[X], Generic[X]):
    def __init__(self, write: Callable[[list[X]], None]) -> None:
        self._write = write

    def write_batch(self, items: list[X]) -> None:
        """Write items."""
        self._write(items)


def run(flow: Dataflow, epoch_interval: timedelta = EPOCH) -> None:
    """Run a flow to its end in this thread, with one worker."""
    cli_main(flow, workers_per_process=1, epoch_interval=epoch_interval)  # type: ignore[no-untyped-call]
