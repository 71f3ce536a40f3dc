"""Checkpoints: one file that states its format, its configuration, how it was made, and a hash of it all.

Layout: 8 bytes of magic, the header's length (8 bytes, little endian), the header (JSON: format, configuration,
origin, and name, shape and place of each leaf), the leaves as little-endian f16, and a SHA-256 of everything before
it. No pickle: reading one runs no code. Weights are rounded to f16 before a model is used at all, so a model and its
checkpoint score alike.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import jax
import msgspec
import numpy as np
from numpy.typing import NDArray

from models.config import PhoenixConfig

FORMAT: Final = 1
MAGIC: Final = b"PHOENIX\n"
HEADER_BYTES_MAX: Final = 1 << 20
DIGEST_BYTES: Final = 32
LEAF: Final = np.dtype("<f2")


class CheckpointRefused(ValueError):
    """A checkpoint that can't be used, and why, in one sentence."""


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from: the command, the data's time span (ms since 1970), examples and steps."""

    command: str = ""
    data: str = ""
    from_ms: int = 0
    to_ms: int = 0
    examples: int = 0
    steps: int = 0
    seed: int = 0


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array of the file; `offset` counts bytes from the end of the header."""

    name: str
    shape: tuple[int, ...]
    offset: int


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint states of itself."""

    format: int
    config: dict[str, Any]
    origin: Origin
    leaves: list[Leaf]


def named_leaves(parameters: Any) -> list[tuple[str, Any]]:
    """Return the leaves of a parameter tree with their paths, as `ranker.blocks[0].qkv`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def rounded(parameters: Any) -> Any:
    """Return the tree as f32 values that f16 holds exactly.

    Raises ValueError where a weight is not finite or beyond f16 (65,504).
    """
    for name, leaf in named_leaves(parameters):
        if not np.isfinite(np.asarray(leaf).astype(LEAF)).all():
            raise ValueError(f"{name} holds a weight that is not finite, or too large for f16")
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(LEAF).astype(np.float32), parameters)


def version_of(config: PhoenixConfig, parameters: Any) -> str:
    """Return 12 hexadecimal digits that stand for the configuration and the weights."""
    digest = hashlib.sha256(msgspec.json.encode(config.as_dict()))
    for name, leaf in named_leaves(parameters):
        digest.update(name.encode())
        digest.update(np.asarray(leaf).astype(LEAF).tobytes())
    return digest.hexdigest()[:12]


def save(path: Path, config: PhoenixConfig, parameters: Any, origin: Origin) -> None:
    """Write a checkpoint; the file appears whole or not at all, and the same contents give the same bytes."""
    leaves, chunks, offset = [], [], 0
    for name, leaf in named_leaves(parameters):
        raw = np.asarray(leaf).astype(LEAF).tobytes()
        leaves.append(Leaf(name, tuple(np.shape(leaf)), offset))
        chunks.append(raw)
        offset += len(raw)
    header = msgspec.json.encode(Header(FORMAT, config.as_dict(), origin, leaves))
    body = b"".join([MAGIC, len(header).to_bytes(8, "little"), header, *chunks])
    write_whole(path, body + hashlib.sha256(body).digest())


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file that appears whole or not at all: what stood there before stays until the new one is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the new name may be lost with the power
        finally:
            os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, shapes_of: Any, sha256: str = "") -> tuple[PhoenixConfig, Any, Origin]:
    """Return configuration, parameter tree and origin of a checkpoint.

    `shapes_of(config)` gives the tree of shapes that a configuration demands; `sha256`, unless empty, is that of the
    file meant, in hexadecimal. Raises CheckpointRefused for a file that is missing, not the one meant, not a
    checkpoint, cut off or damaged, of another format, of an unknown or impossible configuration, or whose arrays do not
    have the shapes its configuration demands.
    """
    raw = _read(path)
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise CheckpointRefused(f"{path}: this is another file than the one told of (its SHA-256 is not {sha256})")
    header, data = _parse(path, raw)
    try:
        config = msgspec.convert(header.config, PhoenixConfig)
    except (msgspec.ValidationError, ValueError) as error:
        raise CheckpointRefused(f"{path}: its configuration is not one this version knows: {error}") from None
    wanted = shapes_of(config)
    found = {leaf.name: leaf for leaf in header.leaves}
    arrays = []
    names = named_leaves(wanted)
    if extra := sorted(found.keys() - {name for name, _ in names}):
        raise CheckpointRefused(f"{path}: its configuration has no place for {extra[0]}")
    for name, shape in names:
        if name not in found:
            raise CheckpointRefused(f"{path}: {name} is missing, which its configuration demands")
        if found[name].shape != shape.shape:
            raise CheckpointRefused(
                f"{path}: {name} has shape {list(found[name].shape)}; its configuration demands {list(shape.shape)}"
            )
        arrays.append(_array(path, found[name], data))
    return config, jax.tree.unflatten(jax.tree.structure(wanted), arrays), header.origin


def _read(path: Path) -> bytes:
    """Return a file's bytes after checking what stands before its header and its hash."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointRefused(f"{path}: there is no such file") from None
    except OSError as error:
        raise CheckpointRefused(f"{path}: it can't be read: {error.strerror}") from None
    if raw[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused(f"{path}: this is not a Phoenix checkpoint")
    if len(raw) < len(MAGIC) + 8 + DIGEST_BYTES:
        raise CheckpointRefused(f"{path}: it is cut off or damaged (its hash does not match)")
    if hashlib.sha256(raw[:-DIGEST_BYTES]).digest() != raw[-DIGEST_BYTES:]:
        raise CheckpointRefused(f"{path}: it is cut off or damaged (its hash does not match)")
    return raw


def _parse(path: Path, raw: bytes) -> tuple[Header, bytes]:
    """Return the header and the bytes of the leaves."""
    start = len(MAGIC) + 8
    size = int.from_bytes(raw[len(MAGIC) : start], "little")
    if size > min(HEADER_BYTES_MAX, len(raw) - start - DIGEST_BYTES):
        raise CheckpointRefused(f"{path}: its header is longer than the file allows")
    text = raw[start : start + size]
    try:
        number = msgspec.json.decode(text, type=_FormatOnly).format
        if number != FORMAT:
            raise CheckpointRefused(f"{path}: it has format {number}; this version reads format {FORMAT}")
        header = msgspec.json.decode(text, type=Header)
    except msgspec.DecodeError as error:
        raise CheckpointRefused(f"{path}: its header can't be read: {error}") from None
    return header, raw[start + size : -DIGEST_BYTES]


class _FormatOnly(msgspec.Struct):
    """The one field that every format, past and future, has."""

    format: int


def _array(path: Path, leaf: Leaf, data: bytes) -> NDArray[np.float32]:
    """Return one leaf as f32."""
    count = int(np.prod(leaf.shape, dtype=np.int64))
    if leaf.offset < 0 or leaf.offset + count * LEAF.itemsize > len(data):
        raise CheckpointRefused(f"{path}: {leaf.name} lies outside the file")
    flat = np.frombuffer(data, LEAF, count, leaf.offset)
    if not np.isfinite(flat).all():
        raise CheckpointRefused(f"{path}: {leaf.name} holds a weight that is not finite")
    return flat.reshape(leaf.shape).astype(np.float32)
