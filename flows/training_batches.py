"""Batches to train on, forward in time: from a log without holding it in memory, or from a spool on disk.

A run that reads its examples once takes them as the log is read. One that reads them several times, or must know how
many there are, first writes them to a spool beside its checkpoint: the log is followed once, memory holds one batch.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import zstandard
from msgspec import Struct

from infra.logs.files import LogRefused
from infra.logs.merging import JUMP_MS, WITNESSES, peek_times
from infra.logs.reader import LogBatch, LogReader
from models.checkpoints import CheckpointRefused, write_whole
from models.collisions import Collisions, Vocabulary
from models.config import PhoenixConfig
from models.inputs import ExampleBatch

SPOOL_LEVEL: Final = 1  # batches are mostly padding: the fastest level takes nine tenths off


class OrderedLog(LogReader):
    """A log that must be in order of time, as features of a moment must hold nothing from after it.

    A few lines with a wrong clock are bad lines, which decoding reports; a run of WITNESSES lines that lies more than
    a day (JUMP_MS, what merging takes for a wrong clock) before lines already read is a log out of order.
    """

    def batches(self) -> Iterator[LogBatch]:
        """Yield the log's batches; raises LogRefused at the first line that lies too far back."""
        latest = 0
        for batch in super().batches():
            times = np.array(peek_times(batch.raw))
            for start in range(0, len(times) - WITNESSES + 1, WITNESSES):
                some = times[start : start + WITNESSES]
                middle = int(np.median(some))
                if 0 <= middle < latest - JUMP_MS:
                    behind = (times >= 0) & (times < latest - JUMP_MS)
                    first = start + int(np.flatnonzero(behind[start:])[0])
                    while first and behind[first - 1]:
                        first -= 1
                    raise LogRefused(
                        f"{batch.sources[first].name}, line {batch.offsets[first]}: it is of {times[first]}, more than"
                        f" a day before lines above it ({latest}): a log to train on must be in order of time; sort it"
                    )
                latest = max(latest, middle)
            yield batch


class Spool:
    """A folder of batches in order, each a file; whole once it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self) -> None:
        """Start an empty spool."""
        self.remove()
        self._folder.mkdir(parents=True)

    def write(self, number: int, batch: ExampleBatch) -> None:
        """Add a batch."""
        buffer = BytesIO()
        np.savez(buffer, **{one.name: getattr(batch, one.name) for one in fields(batch)})
        packed = zstandard.ZstdCompressor(level=SPOOL_LEVEL, write_checksum=True).compress(buffer.getvalue())
        (self._folder / f"{number:08}.npz.zst").write_bytes(packed)

    def close(self, seen: "Seen") -> None:
        """Say what there is in all."""
        write_whole(self._folder / "whole", msgspec.json.encode(seen))

    def seen(self) -> "Seen | None":
        """Return what there is in all, None for a spool that is not whole."""
        try:
            return msgspec.json.decode((self._folder / "whole").read_bytes(), type=Seen)
        except (OSError, msgspec.MsgspecError):
            return None

    def read(self, start: int = 0, end: int | None = None) -> Iterator[ExampleBatch]:
        """Yield the batches from the `start`-th on, up to the `end`-th; raises CheckpointRefused for one unreadable."""
        seen = self.seen()
        for number in range(start, seen.batches if seen and end is None else end or 0):
            path = self._folder / f"{number:08}.npz.zst"
            try:
                raw = zstandard.ZstdDecompressor().decompress(path.read_bytes())
            except (OSError, zstandard.ZstdError) as error:
                raise CheckpointRefused(f"{path}: this batch can't be read ({error}): begin the run anew") from None
            with np.load(BytesIO(raw), allow_pickle=False) as columns:
                yield ExampleBatch(**{one.name: columns[one.name] for one in fields(ExampleBatch)})

    def remove(self) -> None:
        """Remove the spool."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Seen(Struct):
    """What passed by: batches, their time span, labelled actions, viewers (2 for several), how ids share table rows.

    `starts_ms` is the time of each batch's earliest example.
    """

    batches: int = 0
    from_ms: int = 2**63 - 1
    to_ms: int = 0
    actions: int = 0
    viewers: int = 0
    collisions: list[Collisions] = []
    starts_ms: list[int] = []


def noted(batches: Iterator[ExampleBatch], seen: Seen, config: PhoenixConfig) -> Iterator[ExampleBatch]:
    """Pass batches on and enter in `seen` what they hold; collisions once all have passed."""
    vocabulary, viewer = Vocabulary(), None
    for batch in batches:
        seen.batches += 1
        seen.starts_ms.append(int(batch.at_ms.min()))
        seen.from_ms = min(seen.from_ms, seen.starts_ms[-1])
        seen.to_ms = max(seen.to_ms, int(batch.at_ms.max()))
        seen.actions += int((batch.label_actions != 0).sum())
        viewer = batch.viewer[0] if viewer is None else viewer
        seen.viewers = 2 if seen.viewers == 2 or (batch.viewer != viewer).any() else 1
        vocabulary.add(batch)
        yield batch
    seen.collisions = vocabulary.collisions(config)


def spooled(
    spool: Spool, batches: Iterator[ExampleBatch], config: PhoenixConfig, stopped: Callable[[], bool]
) -> Seen | None:
    """Write batches to a spool and return what they hold; None where it was stopped before their end."""
    spool.begin()
    seen = Seen()
    for number, batch in enumerate(noted(batches, seen, config)):
        spool.write(number, batch)
        if stopped():
            return None
    spool.close(seen)
    return seen
