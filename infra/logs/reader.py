"""Recorded logs read in batches of raw lines, cut alike by every process that reads the same log."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from infra.logs.files import STANDARD_INPUT, LogRefused, Progress, compression_of, open_bytes, read_blocks, stem_of
from infra.logs.merging import Columns, TopicFile, merge
from schemas.events import TOPICS

BATCH_LINES: Final = 512


class LogSource(Struct, frozen=True):
    """A file of a log; `topic` is None for a merged file, whose lines tell their topics themselves."""

    name: str
    path: Path
    topic: str | None


class LogLine(Struct, frozen=True, gc=False):
    """One line: `offset` counts from 1 in its file. With an `error`, `raw` holds at most the beginning of it."""

    topic: str | None
    file: str
    offset: int
    raw: bytes
    error: str = ""


class LogBatch(Struct, frozen=True):
    """Consecutive lines as columns of one length; blank lines are left out.

    `position` counts all lines of the log before this batch's cut. `errors` maps a place in the columns to what is
    wrong with that line before any decoding.
    """

    position: int
    raw: list[bytes]
    sources: list[LogSource]
    offsets: Sequence[int]
    errors: dict[int, str]

    def lines(self) -> list[LogLine]:
        """Return the batch as one object a line."""
        topics = [source.topic for source in self.sources]
        files = [source.name for source in self.sources]
        lines = list(map(LogLine, topics, files, self.offsets, self.raw))
        for place, reason in self.errors.items():
            line = lines[place]
            lines[place] = LogLine(line.topic, line.file, line.offset, line.raw, reason)
        return lines


class LogReader:
    """Read a log: a merged file, a folder with one file a topic (merged by time), or `-` for standard input.

    Raises LogRefused for a path that can't be a log. What the files hold never raises: lines are delivered as they are,
    and a line too long or a compressed file cut short is one error in its batch.
    """

    def __init__(self, path: str | os.PathLike[str], batch_lines: int = BATCH_LINES) -> None:
        self.path = Path(path)
        self.batch_lines = batch_lines
        self.sources = find_sources(self.path)
        for source in self.sources:
            # Whatever can't be opened is refused here, where the caller can say so, not in the middle of a dataflow.
            with open_bytes(source.path):
                pass
        is_stream = str(self.path) == STANDARD_INPUT
        self.bytes_total = 0 if is_stream else sum(source.path.stat().st_size for source in self.sources)
        self._progress = Progress()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far of `bytes_total`, as they lie on disk (`bytes_total` is 0 for standard input)."""
        return self._progress.bytes_read

    def batches(self) -> Iterator[LogBatch]:
        """Yield the log from its start, cut at every `batch_lines`-th line whatever the lines hold."""
        self._progress.bytes_read = 0
        return self._one_file(self.sources[0]) if len(self.sources) == 1 else self._many_files()

    def lines(self) -> Iterator[list[LogLine]]:
        """Yield the same batches as lists of one object a line."""
        for batch in self.batches():
            yield batch.lines()

    def _one_file(self, source: LogSource) -> Iterator[LogBatch]:
        size = self.batch_lines
        position = 0
        waiting: list[bytes] = []
        errors: dict[int, str] = {}  # by place in `waiting`
        for block in read_blocks(source.path, self._progress):
            waiting = waiting + block.lines if waiting else block.lines
            if block.error:
                errors[len(waiting) - 1] = block.error
            whole = len(waiting) // size * size
            for start in range(0, whole, size):
                offsets = range(position + 1, position + 1 + size)
                yield _batch(
                    position, waiting[start : start + size], [source] * size, offsets, _cut(errors, start, size)
                )
                position += size
            waiting = waiting[whole:]
            errors = _cut(errors, whole, size)
        if waiting:
            count = len(waiting)
            yield _batch(position, waiting, [source] * count, range(position + 1, position + 1 + count), errors)

    def _many_files(self) -> Iterator[LogBatch]:
        files = [TopicFile(order, read_blocks(one.path, self._progress)) for order, one in enumerate(self.sources)]
        size = self.batch_lines
        position = 0
        waiting = Columns()
        for columns in merge(files):
            waiting.extend(columns.raw, columns.sources, columns.offsets, columns.errors)
            whole = waiting.take(len(waiting.raw) // size * size)
            sources = [self.sources[source] for source in whole.sources]
            for start in range(0, len(whole.raw), size):
                cut = slice(start, start + size)
                errors = _cut(whole.errors, start, size)
                yield _batch(position, whole.raw[cut], sources[cut], whole.offsets[cut], errors)
                position += size
        if waiting.raw:
            sources = [self.sources[source] for source in waiting.sources]
            yield _batch(position, waiting.raw, sources, waiting.offsets, waiting.errors)


def _cut(errors: dict[int, str], start: int, size: int) -> dict[int, str]:
    """Return the errors at the `size` places from `start`, by their place from there."""
    return {place - start: reason for place, reason in errors.items() if start <= place < start + size}


def _batch(
    position: int, raw: list[bytes], sources: list[LogSource], offsets: Sequence[int], errors: dict[int, str]
) -> LogBatch:
    """Return a batch of these lines without the blank ones; a line with an error is never blank."""
    if b"" in raw:
        kept = [place for place, line in enumerate(raw) if line or place in errors]
        errors = {new: errors[old] for new, old in enumerate(kept) if old in errors}
        raw = [raw[place] for place in kept]
        sources = [sources[place] for place in kept]
        offsets = [offsets[place] for place in kept]
    return LogBatch(position, raw, sources, offsets, errors)


def find_sources(path: Path) -> tuple[LogSource, ...]:
    """Return a log's files in the order of schemas.events.TOPICS; raises LogRefused with one clear sentence."""
    if str(path) == STANDARD_INPUT:
        return (LogSource("standard input", path, None),)
    if path.is_dir():
        return _folder_sources(path)
    if not path.exists():
        raise LogRefused(f"{path} doesn't exist.")
    compression_of(path)
    return (LogSource(path.name, path, None),)


def _folder_sources(folder: Path) -> tuple[LogSource, ...]:
    by_topic: dict[str, LogSource] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        topic = stem_of(path)
        if topic not in TOPICS:
            raise LogRefused(f"{path} belongs to no topic: the files of a log are named {', '.join(TOPICS)}.")
        if topic in by_topic:
            raise LogRefused(f"{folder} holds two files of one topic: {by_topic[topic].name} and {path.name}.")
        by_topic[topic] = LogSource(path.name, path, topic)
    if not by_topic:
        raise LogRefused(f"{folder} holds no log: expected files such as posts.jsonl or posts.jsonl.zst.")
    return tuple(by_topic[topic] for topic in TOPICS if topic in by_topic)
