"""Published models: a folder of checkpoints, and a manifest that says of each what it learned from and how good it was.

A checkpoint is written first, the manifest that names it after that, and what is no longer kept is removed last; each
file appears whole or not at all. So whenever the writer is killed, the manifest names only checkpoints that are there.
A checkpoint that it does not name is left over from such a kill: readers pass over it, the next `publish` removes it,
or writes it anew where it is the same model. One process publishes into a folder; any number may read it.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from models.checkpoints import CheckpointRefused, write_whole
from models.phoenix import Phoenix

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SUFFIX: Final = ".phoenix"


class Facts(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a published model comes from; times in ms since 1970, `at` that of publishing in the stream's own time.

    `from_ms` to `to_ms` is the span of the `examples` it learned from in `steps`, `training` the settings it learned
    with, `metrics` what it was published for, by name, and `parent` the version published before it ("" for none).
    """

    at: int
    from_ms: int
    to_ms: int
    examples: int
    steps: int
    parent: str = ""
    training: dict[str, Any] = {}
    metrics: dict[str, float | None] = {}


class Entry(Struct, frozen=True):
    """One published model: its version, its checkpoint, the SHA-256 of that file, and where it comes from."""

    version: str
    path: Path
    sha256: str
    facts: Facts


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as the manifest has it."""

    version: str
    file: str
    sha256: str
    facts: Facts


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All entries, the oldest first."""

    format: int
    entries: list[_Line]


class _FormatOnly(Struct):
    """The one field that every format, past and future, has."""

    format: int


class Registry:
    """The published models of a folder, of which the last `keep` are kept. The folder need not be there yet."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Raises ValueError where nothing would be kept."""
        if keep < 1:
            raise ValueError("a registry keeps at least the newest model")
        self.folder = folder
        self._keep = keep

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first; none where nothing was published.

        Raises CheckpointRefused for a manifest that is cut off, damaged or of another format.
        """
        path = self.folder / MANIFEST
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointRefused(f"{path}: it can't be read: {error.strerror}") from None
        way_out = "name another folder, or remove the manifest to begin anew"
        try:
            stated = msgspec.json.decode(raw, type=_FormatOnly).format
            if stated != FORMAT:
                raise CheckpointRefused(
                    f"{path}: it has format {stated}, of another version; this one reads format {FORMAT}: {way_out}"
                )
            manifest = msgspec.json.decode(raw, type=_Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CheckpointRefused(f"{path}: it is cut off or damaged ({error}): {way_out}") from None
        for one in manifest.entries:
            if one.file != one.version + SUFFIX or Path(one.file).name != one.file:
                raise CheckpointRefused(f"{path}: it names a file {one.file} for version {one.version}: {way_out}")
        return [Entry(one.version, self.folder / one.file, one.sha256, one.facts) for one in manifest.entries]

    def latest(self) -> Entry | None:
        """Return the newest entry, None where nothing was published. Raises CheckpointRefused."""
        return next(reversed(self.entries()), None)

    def entry(self, version: str) -> Entry:
        """Return the entry of a version. Raises CheckpointRefused where there is none."""
        entries = self.entries()
        for one in entries:
            if one.version == version:
                return one
        have = ", ".join(one.version for one in entries) or "none"
        raise CheckpointRefused(f"{self.folder}: there is no model {version} (those there: {have})")

    def load(self, entry: Entry) -> Phoenix:
        """Return an entry's model. Raises CheckpointRefused for a file that is missing or not what was published."""
        if (wrong := damage(entry)) is not None:
            raise CheckpointRefused(f"{entry.path}: {wrong}")
        phoenix = Phoenix.load(entry.path)
        if phoenix.version != entry.version:
            raise CheckpointRefused(f"{entry.path}: it holds model {phoenix.version}, not {entry.version}")
        return phoenix

    def publish(self, phoenix: Phoenix, facts: Facts, keeping: Collection[str] = ()) -> Entry:
        """Write a model and enter it; all but the last `keep` are removed, and but those of the versions `keeping`.

        The newest model published once more stays one entry: so a writer killed after publishing may repeat itself.
        An older one becomes the newest again. Raises CheckpointRefused as `entries` does, and OSError.
        """
        entries = self.entries()
        path = self.folder / f"{phoenix.version}{SUFFIX}"
        newest = entries[-1] if entries else None
        if newest is not None and newest.version == phoenix.version and damage(newest) is None:
            return newest
        phoenix.save(path)
        made = Entry(phoenix.version, path, file_sha256(path), facts)
        entries = [*(one for one in entries if one.version != made.version), made]
        first = len(entries) - self._keep
        kept = [one for place, one in enumerate(entries) if place >= first or one.version in keeping]
        lines = [_Line(one.version, one.path.name, one.sha256, one.facts) for one in kept]
        write_whole(self.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(_Manifest(FORMAT, lines))) + b"\n")
        self._remove_all_but({one.path.name for one in kept})
        return made

    def _remove_all_but(self, kept: set[str]) -> None:
        """Remove checkpoints that the manifest does not name, and what a kill left of a file being written."""
        half_written = (f".*{SUFFIX}.*", f".{MANIFEST}.*")
        for path in (one for pattern in (f"*{SUFFIX}", *half_written) for one in self.folder.glob(pattern)):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def damage(entry: Entry) -> str | None:
    """Return what is wrong with an entry's checkpoint as a sentence, None where it is what was published."""
    try:
        found = file_sha256(entry.path)
    except FileNotFoundError:
        return f"it is missing, though {MANIFEST} names it: publish it anew"
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return None if found == entry.sha256 else f"it is not what {MANIFEST} says (its hash differs): publish it anew"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
