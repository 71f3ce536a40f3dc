"""Recorded logs: JSON Lines of the events of schemas.events, one merged file or a folder with one file a topic."""

from infra.logs.files import LINE_BYTES_MAX, LogRefused, Progress
from infra.logs.reader import BATCH_LINES, LogBatch, LogLine, LogReader, LogSource
from infra.logs.validation import BadLine, LogReport, validate
from infra.logs.writer import LogWriter

__all__ = [
    "BATCH_LINES",
    "LINE_BYTES_MAX",
    "BadLine",
    "LogBatch",
    "LogLine",
    "LogReader",
    "LogRefused",
    "LogReport",
    "LogSource",
    "LogWriter",
    "Progress",
    "validate",
]
