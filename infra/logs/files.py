"""One file of a log: its compression by suffix, and its lines in blocks, whatever state the file is in."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from msgspec import Struct

# The longest line kept in memory. The longest valid post has 25,000 characters, at most 12 bytes each when escaped.
LINE_BYTES_MAX: Final = 1 << 20
# What is kept of a line beyond that: enough to recognise it in a dead letter.
KEPT_BYTES: Final = 1024
READ_BYTES: Final = 1 << 20
# A zstd block of 4 bytes may hold 128 KiB, so one call's input bounds its output: 512 MiB at most here, usually 10 x.
ZSTD_READ_BYTES: Final = 1 << 14

SUFFIXES: Final[dict[str, str]] = {".jsonl": "", ".jsonl.gz": "gz", ".jsonl.zst": "zst"}
STANDARD_INPUT: Final = "-"
CUT: Final = "log ends inside a compressed frame"

_MAGIC: Final = {
    "gz": (b"\x1f\x8b",),
    "zst": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
}


class LogRefused(ValueError):
    """A log that can't be opened at all; the message is one sentence for people."""


class LineBlock(Struct, frozen=True, gc=False):
    """Consecutive lines of a file. `error` says what is wrong with the last one, "" when nothing is."""

    lines: list[bytes]
    error: str = ""


class Progress:
    """Count the bytes read of a log's files, compressed as they lie on disk."""

    def __init__(self) -> None:
        self.bytes_read = 0


def compression_of(path: Path) -> str:
    """Return "", "gz" or "zst" for a log's file name; raises LogRefused for any other suffix."""
    for suffix, compression in sorted(SUFFIXES.items(), key=lambda item: -len(item[0])):
        if path.name.endswith(suffix):
            return compression
    raise LogRefused(f"{path} is not a log: its name must end in {', '.join(SUFFIXES)}.")


def stem_of(path: Path) -> str:
    """Return a log file's name without its suffix."""
    compression = compression_of(path)
    return path.name.removesuffix(f".{compression}" if compression else "").removesuffix(".jsonl")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a log's file, or standard input for `-`; raises LogRefused for one that isn't what its suffix says."""
    if str(path) == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    compression = compression_of(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise LogRefused(f"{path} can't be read: {error.strerror}.") from None
    with file:
        if compression:
            start = file.read(4)
            file.seek(0)
            if start and not start.startswith(_starts(compression, len(start))):
                raise LogRefused(f"{path} is not compressed as its suffix says.")
        yield file


def _starts(compression: str, size: int) -> tuple[bytes, ...]:
    """Return the first bytes a compressed file may have, cut to the file's own size."""
    return tuple(magic[:size] for magic in _MAGIC[compression])


def read_blocks(path: Path, progress: Progress) -> Iterator[LineBlock]:
    """Yield the lines of a file, without their newlines, in blocks of about 1 MiB.

    A line beyond LINE_BYTES_MAX ends its block with an error and its first KEPT_BYTES. A compressed file cut short or
    damaged yields all that could be decompressed, then one error with what is left of the last line. Never raises for
    what the file holds.
    """
    with open_bytes(path) as file:
        compression = "" if str(path) == STANDARD_INPUT else compression_of(path)
        chunks = _Chunks(file, compression, progress)
        rest = b""
        skipped = 0  # bytes of a line too long so far; the line is being passed over while > 0
        for chunk in chunks:
            lines = chunk.split(b"\n")
            if skipped:
                if len(lines) == 1:
                    skipped += len(chunk)
                    continue
                yield LineBlock([rest], _too_long(skipped + len(lines[0])))
                lines, rest, skipped = lines[1:], b"", 0
            else:
                lines[0] = rest + lines[0]
            rest = lines.pop()
            if lines and len(lines[0]) > LINE_BYTES_MAX:
                yield LineBlock([lines[0][:KEPT_BYTES]], _too_long(len(lines[0])))
                lines = lines[1:]
            if lines:
                yield LineBlock(lines)
            if len(rest) > LINE_BYTES_MAX:
                skipped, rest = len(rest), rest[:KEPT_BYTES]
        if chunks.error:
            yield LineBlock([rest[:KEPT_BYTES]], chunks.error)
        elif skipped:
            yield LineBlock([rest], _too_long(skipped))
        elif rest:
            yield LineBlock([rest])


def _too_long(size: int) -> str:
    return f"line of {size} bytes; at most {LINE_BYTES_MAX} are allowed"


class _Chunks:
    """Decompressed bytes of a file; `error` is set at the end when the file was cut or damaged."""

    def __init__(self, file: BinaryIO, compression: str, progress: Progress) -> None:
        self._file = file
        self._compression = compression
        self._progress = progress
        self.error = ""

    def __iter__(self) -> Iterator[bytes]:
        if self._compression == "gz":
            return self._gzip()
        if self._compression == "zst":
            return self._zstd()
        return self._plain()

    def _plain(self) -> Iterator[bytes]:
        while chunk := self._file.read(READ_BYTES):
            self._progress.bytes_read += len(chunk)
            yield chunk

    def _gzip(self) -> Iterator[bytes]:
        before = 0
        with gzip.GzipFile(fileobj=self._file, mode="rb") as stream:
            while not self.error:
                try:
                    chunk = stream.read1(READ_BYTES)
                except EOFError:
                    self.error = CUT
                    return
                except (gzip.BadGzipFile, zlib.error) as error:
                    self.error = f"log is damaged inside a compressed frame: {error}"
                    return
                here = self._file.tell()
                self._progress.bytes_read += here - before
                before = here
                if not chunk:
                    return
                yield chunk

    def _zstd(self) -> Iterator[bytes]:
        context = zstandard.ZstdDecompressor()
        frame = context.decompressobj()
        fed = False  # whether the frame now open has been given any bytes
        while data := self._file.read(ZSTD_READ_BYTES):
            self._progress.bytes_read += len(data)
            while data:
                try:
                    chunk = frame.decompress(data)
                except zstandard.ZstdError as error:
                    self.error = f"log is damaged inside a compressed frame: {error}"
                    return
                fed, data = True, b""
                # In pieces, so that only a piece's first line can be longer than LINE_BYTES_MAX.
                for start in range(0, len(chunk), READ_BYTES):
                    yield chunk[start : start + READ_BYTES]
                if frame.eof:
                    data, frame, fed = frame.unused_data, context.decompressobj(), False
        if fed:
            self.error = CUT
