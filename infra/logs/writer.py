"""Recorded logs written: merged or one file a topic, compressed by suffix, in place only when complete."""

import gzip
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

import msgspec
import zstandard

from infra.logs.files import SUFFIXES, LogRefused, compression_of, stem_of
from schemas.events import TOPIC_OF, TOPICS, Event

GZIP_LEVEL: Final = 6  # zlib's default; 9 costs three times the time for 2 % here
ZSTD_LEVEL: Final = 3  # zstd's default

_encode_lines = msgspec.json.Encoder().encode_lines


class LogWriter:
    """Write a log; use it as a context manager. Nothing is at `path` until all of it is there.

    A `path` with a log's suffix (.jsonl, .jsonl.gz, .jsonl.zst) becomes one merged file in the order written; one
    without a suffix becomes a folder with a file for each topic written, compressed as `compression` says ("", "gz",
    "zst"). The same events give the same bytes. Raises LogRefused where the path can't be written or would
    replace something that is not a log.
    """

    def __init__(self, path: str | os.PathLike[str], compression: str = "zst") -> None:
        self.path = Path(path)
        self.is_folder = not self.path.suffix
        self._compression = compression if self.is_folder else compression_of(self.path)
        self._refuse_place()
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._files: dict[str, BinaryIO] = {}
        self._raw_files: list[BinaryIO] = []

    def _refuse_place(self) -> None:
        """Raise LogRefused where writing would fail or destroy what isn't ours."""
        if self.is_folder and f".jsonl{'.' * bool(self._compression)}{self._compression}" not in SUFFIXES:
            raise LogRefused(f"{self._compression} is no compression of a log: use gz, zst or none.")
        if not self.path.parent.is_dir():
            raise LogRefused(f"{self.path.parent} isn't a folder, so {self.path.name} can't be written there.")
        if self.is_folder and self.path.exists() and not _is_log_folder(self.path):
            raise LogRefused(f"{self.path} exists and is not a log, so it is left alone.")
        if not self.is_folder and self.path.is_dir():
            raise LogRefused(f"{self.path} is a folder, so no file can be written there.")

    def write(self, events: Iterable[Event]) -> None:
        """Append events."""
        if not self.is_folder:
            self._file("").write(_encode_lines(events))
            return
        by_topic: dict[str, list[Event]] = {}
        for event in events:
            by_topic.setdefault(TOPIC_OF[type(event)], []).append(event)
        for topic, of_topic in by_topic.items():
            self._file(topic).write(_encode_lines(of_topic))

    def write_raw(self, topic: str, lines: Iterable[bytes]) -> None:
        """Append lines as they are, without newlines, for a topic of schemas.events.TOPICS."""
        file = self._file(topic if self.is_folder else "")
        file.write(b"".join(line + b"\n" for line in lines))

    def _file(self, topic: str) -> BinaryIO:
        if topic not in self._files:
            if self.is_folder:
                self._partial.mkdir(exist_ok=True)
                suffix = f".{self._compression}" if self._compression else ""
                self._files[topic] = self._open(self._partial / f"{topic}.jsonl{suffix}")
            else:
                self._files[topic] = self._open(self._partial)
        return self._files[topic]

    def _open(self, path: Path) -> BinaryIO:
        raw = path.open("wb")
        self._raw_files.append(raw)
        if self._compression == "gz":
            # No name and no time in the header, so that the same events give the same bytes.
            return cast(BinaryIO, gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0))
        if self._compression == "zst":
            compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
            return cast(BinaryIO, compressor.stream_writer(raw, closefd=False))
        return raw

    def close(self) -> None:
        """Finish the files and put them in place."""
        if not self._files:
            for topic in TOPICS[:1] if self.is_folder else ("",):
                self._file(topic)
        self._close_files()
        if not (self.is_folder and self.path.exists()):
            self._partial.replace(self.path)
            return
        old = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
        self.path.replace(old)
        self._partial.replace(self.path)
        shutil.rmtree(old)

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        for file in self._raw_files:
            file.close()

    def abandon(self) -> None:
        """Remove what was written so far; nothing appears at `path`."""
        self._close_files()
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        else:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def _is_log_folder(path: Path) -> bool:
    """Tell whether a folder holds nothing but a log's files."""
    if not path.is_dir():
        return False
    try:
        return all(stem_of(child) in TOPICS for child in path.iterdir() if not child.name.startswith("."))
    except LogRefused:
        return False
