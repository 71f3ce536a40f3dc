"""Every bad line of a log, with its place and reason, and what the good ones amount to."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from infra.logs.files import Progress, read_blocks
from infra.logs.reader import LogSource, find_sources
from schemas.codec import Refused, decode
from schemas.events import TOPIC_OF, Event

# The name of each type of event in JSON.
KINDS: Final = {kind: str(kind.__struct_config__.tag) for kind in TOPIC_OF}


class BadLine(Struct, frozen=True):
    """A line that can't be taken: `path` is the field as in `$.post`, `$` for the whole line."""

    file: str
    line: int
    path: str
    reason: str


class LogReport(Struct):
    """What a log holds: lines by kind of event, and how far it departs from the order of time.

    `late` counts events earlier than one before them in their file, `late_ms_max` is the furthest any lies behind.
    """

    lines: int = 0
    bad: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    first_at: int | None = None
    last_at: int | None = None
    late: int = 0
    late_ms_max: int = 0


def validate(
    path: str | os.PathLike[str],
    at_max: int,
    report: LogReport | None = None,
    progress: Progress | None = None,
) -> Iterator[BadLine]:
    """Yield the bad lines of a log, file by file, and fill `report` on the way.

    `at_max` is the latest time accepted, in milliseconds. Raises LogRefused for a path that can't be a log.
    """
    report = LogReport() if report is None else report
    progress = Progress() if progress is None else progress
    for source in find_sources(Path(path)):
        yield from _validate_file(source, at_max, report, progress)


def _validate_file(source: LogSource, at_max: int, report: LogReport, progress: Progress) -> Iterator[BadLine]:
    line_number = 0
    latest = -1
    for block in read_blocks(source.path, progress):
        last = len(block.lines) - 1
        for place, line in enumerate(block.lines):
            line_number += 1
            error = block.error if place == last else ""
            if not line and not error:
                continue
            report.lines += 1
            event = Refused(error) if error else _decoded(line, source.topic, at_max)
            if isinstance(event, Refused):
                report.bad += 1
                yield BadLine(source.name, line_number, event.path, event.reason)
                continue
            report.kinds[KINDS[type(event)]] += 1
            if event.at < latest:
                report.late += 1
                report.late_ms_max = max(report.late_ms_max, latest - event.at)
            latest = max(latest, event.at)
            report.first_at = event.at if report.first_at is None else min(report.first_at, event.at)
            report.last_at = event.at if report.last_at is None else max(report.last_at, event.at)


def _decoded(line: bytes, topic: str | None, at_max: int) -> Event | Refused:
    """Return the event of a line, or why it is refused; in a topic's own file an event of another topic is."""
    try:
        event = decode(line, at_max)
    except Refused as refused:
        return refused
    if topic is not None and TOPIC_OF[type(event)] != topic:
        return Refused(f"belongs to topic {TOPIC_OF[type(event)]}, not {topic}", "$.kind")
    return event
