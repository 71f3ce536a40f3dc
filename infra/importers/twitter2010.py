"""Twitter in autumn 2010: a post is a URL, its author the first to tweet it, whoever tweets it later reshares it."""

from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from infra.importers.base import ImportSummary, Progress, write_log
from infra.importers.cascades import cascade_events, facts_of, read_cascades

FILES: Final = ("twitter2010_cascades.csv.gz",)
NOTES: Final = (
    "There are no texts, follows or impressions: all that can be learned is who reshares what after whom.",
    "Post ids are the file's plus one.",
    "Half of the reshares come more than 15 h after the post, a tenth more than 123 h: 48 h of retention lose some.",
)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """`requests_from`: the share of the time after which feed requests are logged, 1 for none."""

    requests_from: Annotated[float, Meta(ge=0, le=1)] = 0.0


def import_log(sources: list[Path], out: Path, options: Options, progress: Progress) -> ImportSummary:
    """Write the log of the cascades in sources[0]: posts, retweets, and a request per user and hour of activity."""
    table = read_cascades(sources[0])
    progress(0.1)
    events = cascade_events(table, "retweet", options.requests_from)
    progress(0.5)
    return write_log("twitter2010", events, out, progress, facts_of(table), NOTES)
