"""What importers share: where the data lies, and how events become a log."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from msgspec import Struct

from infra.logs import LogWriter
from infra.logs.validation import KINDS
from schemas.events import TOPIC_OF, TOPICS, Event, FeedRequest

DATA_FOLDER_VARIABLE: Final = "FORYOU_DATA"
EVENTS_A_WRITE: Final = 8192
HOUR_MS: Final = 3_600_000

Progress = Callable[[float], None]


class ImportRefused(ValueError):
    """Data that can't be imported; the message is one sentence for people."""


class ImportSummary(Struct, frozen=True):
    """What an import wrote: events by kind, times in ms, facts to compare with the source, notes for a replay."""

    name: str
    log: Path
    events: int
    kinds: dict[str, int]
    first_at: int
    last_at: int
    facts: dict[str, int | float | str]
    notes: tuple[str, ...]


def data_folder() -> Path:
    """Return the folder of recorded data: FORYOU_DATA, or shared/data beside the checkout."""
    named = os.environ.get(DATA_FOLDER_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"


def find_sources(sources: Sequence[Path], files: tuple[str, ...]) -> list[Path]:
    """Return the named sources, or the files of their usual names; raises ImportRefused when one is missing."""
    paths = list(sources) if sources else [data_folder() / name for name in files]
    for path in paths:
        if not path.exists():
            raise ImportRefused(
                f"{path} doesn't exist: name the file, or set {DATA_FOLDER_VARIABLE} to the folder that holds it."
            )
    return paths


def read_table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Return these columns of a CSV or Parquet file; raises ImportRefused when it is no such file or lacks one."""
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ImportRefused(f"{path} can't be read as a table: {str(error).splitlines()[0]}.") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ImportRefused(f"{path} lacks the columns {', '.join(missing)}.")
    if table.is_empty():
        raise ImportRefused(f"{path} holds no rows.")
    return table.select(columns)


def write_log(
    name: str,
    events: list[Event],
    out: Path,
    progress: Progress,
    facts: dict[str, int | float | str],
    notes: tuple[str, ...],
) -> ImportSummary:
    """Sort the events by time, ties in the order of their topics and then as given, write them and sum them up."""
    rank = {kind: TOPICS.index(topic) for kind, topic in TOPIC_OF.items()}
    events.sort(key=lambda event: (event.at, rank[type(event)]))
    with LogWriter(out) as writer:
        for start in range(0, len(events), EVENTS_A_WRITE):
            writer.write(events[start : start + EVENTS_A_WRITE])
            progress(0.5 + 0.5 * start / len(events))
    progress(1.0)
    kinds = Counter(KINDS[type(event)] for event in events)
    return ImportSummary(
        name=name,
        log=out,
        events=len(events),
        kinds=dict(kinds.most_common()),
        first_at=events[0].at,
        last_at=events[-1].at,
        facts=facts,
        notes=notes,
    )


def shift(column: str) -> pl.Expr:
    """Return an id column plus one: some sources count from 0, which means "none" in X's code (x-algorithm.md 3)."""
    return pl.col(column) + 1


def hourly_requests(activity: pl.DataFrame, requests_from: float) -> list[FeedRequest]:
    """Return a feed request for each user and hour of activity, 1 ms before the first thing the user does in it.

    So a request comes before what it is to predict and after all that had happened by then. `activity` is [at, user] in
    order of time; requests begin after the share `requests_from` of the time between first and last row, 1 for none.
    """
    if requests_from >= 1.0:
        return []
    first, last = activity["at"][0], activity["at"][-1]
    requests = (
        activity.group_by("user", pl.col("at").floordiv(HOUR_MS).alias("hour"))
        .agg(at=pl.col("at").min() - 1)
        .filter(pl.col("at") >= first - 1 + requests_from * (last - first))
        .sort("at", "user")
    )
    numbered = enumerate(zip(requests["at"], requests["user"], strict=True), start=1)
    return [FeedRequest(at, number, user) for number, (at, user) in numbered]
