"""Recorded logs read in batches of raw lines, cut alike by every process that reads the same log."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from infra.logs.files import STANDARD_INPUT, LogRefused, Progress, compression_of, read_blocks, stem_of
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
    offsets: list[int]
    errors: dict[int, str]

    def lines(self) -> list[LogLine]:
        """Return the batch as one object a line."""
        lines = [
            LogLine(source.topic, source.name, offset, raw)
            for source, offset, raw in zip(self.sources, self.offsets, self.raw, strict=True)
        ]
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
        position = 0
        waiting = Columns()
        for columns in self._columns():
            waiting.extend(columns.raw, columns.sources, columns.offsets, columns.errors)
            whole = waiting.take(len(waiting.raw) // self.batch_lines * self.batch_lines)
            for start in range(0, len(whole.raw), self.batch_lines):
                yield self._batch(position, whole, start)
                position += self.batch_lines
        if waiting.raw:
            yield self._batch(position, waiting, 0)

    def lines(self) -> Iterator[list[LogLine]]:
        """Yield the same batches as lists of one object a line."""
        for batch in self.batches():
            yield batch.lines()

    def _columns(self) -> Iterator[Columns]:
        if len(self.sources) > 1:
            files = [
                TopicFile(order, read_blocks(source.path, self._progress)) for order, source in enumerate(self.sources)
            ]
            yield from merge(files)
            return
        offset = 1
        for block in read_blocks(self.sources[0].path, self._progress):
            count = len(block.lines)
            columns = Columns()
            errors = {count - 1: block.error} if block.error else {}
            columns.extend(block.lines, [0] * count, range(offset, offset + count), errors)
            offset += count
            yield columns

    def _batch(self, position: int, columns: Columns, start: int) -> LogBatch:
        """Return the lines from `start` up to a whole batch, without blank lines."""
        stop = start + self.batch_lines
        raw = columns.raw[start:stop]
        files = self.sources
        errors = {at - start: reason for at, reason in columns.errors.items() if start <= at < stop}
        sources = [files[0]] * len(raw) if len(files) == 1 else [files[i] for i in columns.sources[start:stop]]
        offsets = columns.offsets[start:stop]
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
