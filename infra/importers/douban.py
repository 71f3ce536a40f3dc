"""Douban 2005 to 2011: who took up which film, book or record when, over a follow graph; time is compressed."""

from pathlib import Path
from typing import Annotated, Final

import polars as pl
from msgspec import Meta, Struct

from infra.importers.base import ImportRefused, ImportSummary, Progress, read_table, write_log
from infra.importers.cascades import cascade_events, facts_of, read_cascades
from schemas.events import Follow

FILES: Final = ("douban_cascades.csv.gz", "douban_edges_subset.csv.gz")
DAY_MS: Final = 86_400_000
NOTES: Final = (
    "The first to take an item up posts it, the others favorite it; follows are all there before the first event.",
    "Time is compressed: retention, hours of activity and post ages are hours of compressed time.",
    "Post ids are the file's plus one.",
)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """`days`: the length of the log after compression; `requests_from`: the share of it without feed requests."""

    days: Annotated[float, Meta(gt=0)] = 60.0
    requests_from: Annotated[float, Meta(ge=0, le=1)] = 0.0


def import_log(sources: list[Path], out: Path, options: Options, progress: Progress) -> ImportSummary:
    """Write the log of the cascades in sources[0] over the follows (src follows dst) in sources[1].

    The first event keeps its time, the last one comes `days` later. The follows are a millisecond before the first
    request.
    """
    if len(sources) != 2:
        raise ImportRefused("douban takes two files: the cascades and the edges.")
    table = read_cascades(sources[0])
    first, last = table["time_ms"][0], table["time_ms"][-1]
    factor = max((last - first) / (options.days * DAY_MS), 1.0)
    compressed = ((pl.col("time_ms") - first) / factor).round().cast(pl.Int64) + first
    table = table.with_columns(time_ms=compressed)
    progress(0.1)
    events = cascade_events(table, "favorite", options.requests_from)
    edges = read_table(sources[1], ("src", "dst"))
    events += [Follow(first - 2, src, dst) for src, dst in edges.iter_rows()]
    progress(0.5)
    authors = table.filter(pl.col("event") == "retweet").join(
        edges, left_on=["user", "author"], right_on=["src", "dst"], how="semi"
    )
    facts = facts_of(table) | {
        "follows": edges.height,
        "compressed": round(factor, 2),
        "engagements_with_followed_first_adopter": authors.height,
    }
    return write_log("douban", events, out, progress, facts, NOTES)
