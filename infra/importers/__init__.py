"""Recorded data of other platforms turned into logs of this project's events."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from infra.importers import douban, kuairand, movielens, twitter2010
from infra.importers.base import DATA_FOLDER_VARIABLE, ImportRefused, ImportSummary, find_sources

__all__ = ["DATA_FOLDER_VARIABLE", "IMPORTERS", "ImportRefused", "ImportSummary", "options_of", "run"]

# By name; each module has FILES (their usual names), Options and import_log.
IMPORTERS: Final[dict[str, Any]] = {
    "kuairand": kuairand,
    "twitter2010": twitter2010,
    "douban": douban,
    "movielens": movielens,
}


def run(
    name: str,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Mapping[str, object] | None = None,
    progress: Callable[[float], None] | None = None,
) -> ImportSummary:
    """Write the log of some recorded data to `out` and say what is in it; the same data gives the same bytes.

    Without `sources` the files are looked for by their usual names in the folder that FORYOU_DATA names. `progress` is
    told the share done, 0 to 1. Raises ImportRefused for an unknown name or option and for data that is missing or of
    another form, LogRefused where `out` can't be written.
    """
    if name not in IMPORTERS:
        raise ImportRefused(f"{name} is no importer: choose one of {', '.join(IMPORTERS)}.")
    importer = IMPORTERS[name]
    try:
        chosen = msgspec.convert(dict(options or {}), importer.Options, strict=False)
    except msgspec.ValidationError as error:
        raise ImportRefused(f"{name} refuses an option: {error}.") from None
    paths = find_sources([Path(source) for source in sources], importer.FILES)
    try:
        summary: ImportSummary = importer.import_log(paths, Path(out), chosen, progress or (lambda share: None))
    except (pl.exceptions.PolarsError, msgspec.ValidationError, TypeError) as error:
        named = ", ".join(map(str, paths))
        raise ImportRefused(f"{named}: not the data {name} expects: {str(error).splitlines()[0]}.") from error
    return summary


def options_of(name: str) -> dict[str, object]:
    """Return an importer's options with their defaults."""
    return msgspec.structs.asdict(IMPORTERS[name].Options())
