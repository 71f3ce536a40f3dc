"""Training examples as files: a folder of Parquet files in order of time, and a manifest that says what they hold.

A row is an example (flows/training_examples.py): who asked, when, the history by then, the posts, and what came of
each. Columns of histories and posts are lists, one entry a group or post; `terms`, `counts` and `co_liked` have several
entries for each. The manifest is written last: a folder without one was cut short. Of each file it has the length, the
hash, the rows and the times, and a file that differs from that is refused with its name, one row at a time.
"""

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from flows.example_columns import LABELLED, LABELS, MAY_LACK, OF_GROUP, OF_POST, VIEWER_COLUMN
from flows.training_examples import Example
from infra.logs.files import LogRefused
from infra.logs.merging import JUMP_MS
from models.checkpoints import write_whole
from models.inputs import CO_LIKED_NAMES, TERMS, Candidates, Context, History
from schemas.actions import ACTIONS, COUNT_NAMES, VIEWER_COUNTS

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SUFFIX: Final = ".parquet"
HOUR_MS: Final = 3_600_000
# About 30 MB in memory with histories of 128 and 32 posts: a file is read and written whole.
ROWS_A_FILE: Final = 4096

Column = npt.NDArray[Any]
Told = Callable[[float, float], None]

# Beside the columns of lists, one entry a group or post (flows/example_columns.py).
_OF_REQUEST: Final = {"viewer": pl.UInt64, "at_ms": pl.Int64, "surface": pl.UInt8, "shown": pl.Boolean}
SCHEMA: Final[dict[str, Any]] = {
    **_OF_REQUEST,
    **{name: pl.List(pl.Series(np.empty(0, kind.name)).dtype) for name, kind in LABELLED.items()},
}


class Features(Struct, frozen=True):
    """What the numbers of the columns stand for; another version's may stand for something else."""

    columns: dict[str, str]
    actions: tuple[str, ...] = ACTIONS
    terms: int = TERMS
    counts: tuple[str, ...] = COUNT_NAMES
    viewer_counts: int = VIEWER_COUNTS
    co_liked: tuple[str, ...] = CO_LIKED_NAMES


FEATURES: Final = Features({name: str(kind) for name, kind in SCHEMA.items()})


class Part(Struct, frozen=True):
    """One file of examples."""

    name: str
    examples: int
    from_ms: int
    to_ms: int
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder of examples holds: made of which log, with which parameters, and its files in their order.

    `posts_max` posts of a request at most; `seed` sampled posts where the log does not say what was shown;
    `co_likers` says whether they were asked. Times are of the first and the last example.
    """

    format: int
    log: str
    command: str
    posts_max: int
    seed: int
    co_likers: bool
    examples: int
    from_ms: int
    to_ms: int
    features: Features
    parts: list[Part]


class ExamplesMade(Struct, frozen=True):
    """How examples were made, as a manifest says it."""

    log: str
    command: str
    posts_max: int
    seed: int
    co_likers: bool


def is_folder_of_examples(path: Path) -> bool:
    """Return whether a path is a folder that holds examples, whole or not, in place of a log."""
    return path.is_dir() and ((path / MANIFEST).exists() or any(path.glob(f"*{SUFFIX}")))


def write_examples(
    folder: Path, made: Iterator[Example], told_of: ExamplesMade, rows: int = ROWS_A_FILE, hourly: bool = False
) -> Manifest:
    """Write examples in their order, up to `rows` a file, with `hourly` a new file for each hour; return the manifest.

    Raises LogRefused for a folder that holds something already and where there are no examples, and OSError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise LogRefused(f"{folder} holds something already: name another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = []
    waiting: list[Example] = []
    for example in made:
        if waiting and (len(waiting) == rows or (hourly and _hour(example) != _hour(waiting[0]))):
            parts.append(write_part(folder, len(parts), waiting))
            waiting.clear()
        waiting.append(example)
    if waiting:
        parts.append(write_part(folder, len(parts), waiting))
    if not parts:
        raise LogRefused(f"{told_of.log} holds no examples: nothing was served or asked for in it")
    manifest = Manifest(
        format=FORMAT,
        **msgspec.structs.asdict(told_of),
        examples=sum(part.examples for part in parts),
        from_ms=min(part.from_ms for part in parts),
        to_ms=max(part.to_ms for part in parts),
        features=FEATURES,
        parts=parts,
    )
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def _hour(example: Example) -> int:
    return example.context.at_ms // HOUR_MS


def write_part(folder: Path, number: int, examples: list[Example]) -> Part:
    """Write examples as the file of a number in a folder, and return what a manifest says of it. Raises OSError."""
    buffer = BytesIO()
    pl.DataFrame(_columns(examples), schema=SCHEMA).write_parquet(buffer, compression="zstd")
    raw = buffer.getvalue()
    name = f"examples-{number:06}{SUFFIX}"
    write_whole(folder / name, raw)
    times = [one.context.at_ms for one in examples]
    return Part(name, len(examples), min(times), max(times), len(raw), hashlib.sha256(raw).hexdigest())


def _columns(examples: list[Example]) -> dict[str, pl.Series]:
    """Return the columns of some examples, in the order of SCHEMA."""
    contexts = [one.context for one in examples]
    columns: dict[str, Any] = {
        "viewer": np.array([one.key for one in contexts], np.uint64),
        "at_ms": [one.at_ms for one in contexts],
        "surface": [one.surface for one in contexts],
        "shown": [one.shown for one in examples],
        VIEWER_COLUMN: [one.counts for one in contexts],
    }
    for name in OF_GROUP:
        columns[f"history_{name}"] = [getattr(one.history, name).ravel() for one in contexts]
    for name in OF_POST:
        columns[f"posts_{name}"] = [getattr(one.posts, name).ravel() for one in examples]
    columns["label_actions"] = [one.actions for one in examples]
    columns["label_dwell_s"] = [one.dwell_s for one in examples]
    return {name: pl.Series(name, values, SCHEMA[name]) for name, values in columns.items()}


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder; raises LogRefused for one that is not whole or of another version."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise LogRefused(f"{folder} has no {MANIFEST}: it was cut short; make the examples anew") from None
    try:
        stated = msgspec.json.decode(raw, type=_FormatOnly)
        if stated.format != FORMAT:
            raise LogRefused(f"{path}: it has format {stated.format}; this version reads format {FORMAT}")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise LogRefused(f"{path}: it can't be read ({error}); make the examples anew") from None
    if manifest.features != FEATURES:
        differing = [name for name in FEATURES.__struct_fields__ if _differs(manifest.features, name)]
        raise LogRefused(f"{path}: these examples are of another version, whose {differing[0]} differ: make them anew")
    return manifest


def _differs(features: Features, name: str) -> bool:
    return bool(getattr(features, name) != getattr(FEATURES, name))


class _FormatOnly(Struct):
    """The one field that every format, past and future, has."""

    format: int


def read_examples(folder: Path, progress: Told | None = None) -> Iterator[Example]:
    """Yield the examples of a folder in their order.

    Raises LogRefused at the first file that is not as the manifest says, and at the first row that holds what can't be,
    or is of a time more than a day (JUMP_MS, as logs have it) before rows above it.
    """
    manifest = read_manifest(folder)
    latest_ms, done = 0, 0
    total = sum(part.bytes for part in manifest.parts)
    for part in manifest.parts:
        frame = _read(folder / part.name, part)
        columns = {name: _column(frame[name]) for name in SCHEMA if name not in _OF_REQUEST}
        times = frame["at_ms"].to_numpy()
        latest = np.maximum(np.maximum.accumulate(times), latest_ms)
        back = np.flatnonzero(times < latest - JUMP_MS)
        wrong = _first_wrong(columns, manifest.posts_max)
        if len(back) and (wrong is None or back[0] <= wrong[0]):
            raise LogRefused(
                f"{folder / part.name}, row {back[0] + 1}: it is of {times[back[0]]}, more than a day before rows above"
                f" it ({latest[back[0]]}): examples to train on must be in order of time"
            )
        if wrong is not None:
            raise LogRefused(f"{folder / part.name}, row {wrong[0] + 1}: {wrong[1]}")
        latest_ms = int(latest[-1])
        yield from _examples(frame, columns)
        done += part.bytes
        if progress is not None:
            progress(done, total)


def read_part(folder: Path, part: Part) -> Iterator[Example]:
    """Yield the examples of a file that this program has written. Raises LogRefused where it is not as `part` says."""
    frame = _read(folder / part.name, part)
    yield from _examples(frame, {name: _column(frame[name]) for name in SCHEMA if name not in _OF_REQUEST})


def _read(path: Path, part: Part) -> pl.DataFrame:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise LogRefused(f"{path} is missing, which {MANIFEST} names: make the examples anew") from None
    if len(raw) != part.bytes:
        raise LogRefused(f"{path} was cut: it has {len(raw):,} bytes of {part.bytes:,}; make the examples anew")
    if hashlib.sha256(raw).hexdigest() != part.sha256:
        raise LogRefused(f"{path} is not what {MANIFEST} says (its hash differs): make the examples anew")
    try:
        frame = pl.read_parquet(BytesIO(raw))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LogRefused(f"{path} can't be read as Parquet: {error}") from None
    if dict(frame.schema) != SCHEMA or len(frame) != part.examples:
        raise LogRefused(f"{path} has other columns or rows than {MANIFEST} says: make the examples anew")
    return frame


class _Lists(Struct, frozen=True):
    """A column of lists: all entries, and where each row's begin, one more than there are rows."""

    entries: Column
    starts: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return how many entries each row has."""
        return np.diff(self.starts)

    def row(self, number: int) -> Column:
        """Return one row's entries."""
        return self.entries[self.starts[number] : self.starts[number + 1]]


def _column(series: pl.Series) -> _Lists:
    lengths = series.list.len().to_numpy().astype(np.int64)
    entries = series.filter(series.list.len() > 0).explode().to_numpy()
    return _Lists(entries, np.concatenate([[0], np.cumsum(lengths)]))


def _first_wrong(columns: dict[str, _Lists], posts_max: int) -> tuple[int, str] | None:
    """Return the first row that holds what can't be, and what is wrong with it."""
    groups, posts = columns["history_post"].lengths, columns["posts_post"].lengths
    found = [
        _first(columns[VIEWER_COLUMN].lengths != VIEWER_COUNTS, f"{VIEWER_COLUMN} has not {VIEWER_COUNTS} entries")
    ]
    found.append(_first((posts == 0) | (posts > posts_max), f"it has not between 1 and {posts_max} posts"))
    wanted = {f"history_{name}": (groups, many) for name, (_, many) in OF_GROUP.items()}
    wanted |= {f"posts_{name}": (posts, many) for name, (_, many) in OF_POST.items()}
    wanted |= {f"label_{name}": (posts, 1) for name in LABELS}
    for name, (rows, many) in wanted.items():
        lengths = columns[name].lengths
        bad = (lengths != many * rows) & ~((lengths == 0) & (name in MAY_LACK))
        found.append(_first(bad, f"{name} has not {many} for each of its rows"))
    for name in ("history_dwell_s", "label_dwell_s"):
        column = columns[name]
        bad_entries = np.flatnonzero(~(np.isfinite(column.entries) & (column.entries >= 0)))
        rows = np.searchsorted(column.starts, bad_entries, "right") - 1
        found.append((int(rows[0]), f"{name} holds {column.entries[bad_entries[0]]}") if len(rows) else None)
    return min((one for one in found if one is not None), default=None)


def _first(bad: npt.NDArray[np.bool_], reason: str) -> tuple[int, str] | None:
    return (int(bad.argmax()), reason) if bad.any() else None


def _examples(frame: pl.DataFrame, columns: dict[str, _Lists]) -> Iterator[Example]:
    of_request = zip(*(frame[name].to_list() for name in _OF_REQUEST), strict=True)
    for row, (viewer, at_ms, surface, shown) in enumerate(of_request):
        history = {name: _shaped(columns[f"history_{name}"].row(row), many) for name, (_, many) in OF_GROUP.items()}
        posts = {name: _shaped(columns[f"posts_{name}"].row(row), many) for name, (_, many) in OF_POST.items()}
        yield Example(
            context=Context(viewer, History(**history), at_ms, surface, columns[VIEWER_COLUMN].row(row)),
            posts=Candidates(**posts),
            actions=columns["label_actions"].row(row),
            dwell_s=columns["label_dwell_s"].row(row),
            shown=shown,
        )


def _shaped(entries: Column, many: int) -> Column:
    return entries if many == 1 else entries.reshape(-1, many)
