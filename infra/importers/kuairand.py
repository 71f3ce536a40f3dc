"""KuaiRand-Pure: impressions of a short-video feed with what each viewer did, the passed-over ones included.

Consecutive impressions of a viewer become one request and one served feed as long as none comes more than `gap_minutes`
after the one before, the surface stays the same, no post repeats and there are at most `posts_a_request`; the boundary
between training and test always begins a new one. A request has the time of its first impression. What the viewer did
is logged when the video had been played, so no event is known before it happened.
"""

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import polars as pl
from msgspec import Meta, Struct

from infra.importers.base import ImportSummary, Progress, read_table, shift, write_log
from schemas.actions import SURFACES, Action
from schemas.events import DWELL_S_MAX, VIDEO_MS_MAX, Engagement, Event, FeedRequest, Follow, PostCreated, Served

FILES: Final = ("kuairand_pure_0425_0508_impressions.parquet",)
ACTIONS_OF: Final[dict[str, Action]] = {
    "is_click": "click",
    "is_like": "favorite",
    "is_comment": "reply",
    "is_forward": "share",
    "is_profile_enter": "profile_click",
    "long_view": "vqv",
    "is_follow": "follow_author",
    "is_hate": "not_interested",
}
COLUMNS: Final = (
    "time_ms", "user_id", "video_id", "author_id", "tab", "play_time_ms", "duration_ms", "upload_dt", "tag",
    *ACTIONS_OF,
)  # fmt: skip
TEST_ROWS: Final = 65_321  # the last rows are the reference's test set, the first 71 % of the time before them trains
CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))  # upload dates are local
NOTES: Final = (
    "Videos are two to four weeks old when shown: retention must be at least 30 days for them to count as live.",
    "click means a true click on surface 0 and a valid play on surface 1: never mix the two in one number.",
    "User and post ids are the file's plus one. Served posts without an engagement are those passed over.",
    "Served feeds from boundary_ms on hold exactly the test rows.",
)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """How impressions become requests, when posts begin, and which part is the test.

    `posts_at`: "upload" is midnight of the upload date in China, "first_impression" a millisecond before it.
    `requests_from`: the share of the time after which feed requests are logged (served feeds always are), 1 for none.
    """

    gap_minutes: Annotated[float, Meta(ge=0)] = 10.0
    posts_a_request: Annotated[int, Meta(ge=1, le=1000)] = 50
    posts_at: Literal["upload", "first_impression"] = "upload"
    dwell_s: Annotated[float, Meta(gt=0)] = 10.0
    test_rows: Annotated[int, Meta(ge=0)] = TEST_ROWS
    requests_from: Annotated[float, Meta(ge=0, le=1)] = 0.0


def import_log(sources: list[Path], out: Path, options: Options, progress: Progress) -> ImportSummary:
    """Write the log of the impressions in sources[0]; `boundary_ms` among the facts is where the test begins."""
    table = (
        read_table(sources[0], COLUMNS)
        .with_columns(shift("user_id"), shift("video_id"))
        .filter(pl.col("tab").is_between(0, SURFACES - 1))
        .sort("time_ms", maintain_order=True)
    )
    train_rows = max(table.height - options.test_rows, 0)
    boundary_ms = table["time_ms"][train_rows] if train_rows < table.height else table["time_ms"][-1] + 1
    progress(0.1)
    events: list[Event] = list(_posts(table, options))
    events += _engagements(table, options)
    progress(0.3)
    first, last = table["time_ms"][0], table["time_ms"][-1]
    requests_from_ms = first + options.requests_from * (last - first) if options.requests_from < 1.0 else last + 1
    requests = 0
    for request, served in _requests(table, options, train_rows):
        requests += 1
        events.append(served)
        if request.at >= requests_from_ms:
            events.append(request)
    progress(0.5)
    facts: dict[str, int | float | str] = {
        "impressions": table.height,
        "viewers": table["user_id"].n_unique(),
        "videos": table["video_id"].n_unique(),
        "authors": table["author_id"].n_unique(),
        "requests": requests,
        "train_rows": train_rows,
        "test_rows": table.height - train_rows,
        "boundary_ms": boundary_ms,
    }
    return write_log("kuairand", events, out, progress, facts, NOTES)


def _posts(table: pl.DataFrame, options: Options) -> Iterator[Event]:
    """Yield a post for each video, its tags and its length as topics; in no order."""
    videos = table.group_by("video_id", maintain_order=True).first()
    columns = ("video_id", "author_id", "time_ms", "upload_dt", "duration_ms", "tag")
    for video, author, seen_at, day, duration_ms, tags in videos.select(columns).iter_rows():
        at = seen_at - 1 if options.posts_at == "first_impression" else uploaded_ms(day)
        yield PostCreated(
            at=min(at, seen_at - 1),
            post=video,
            author=author,
            topics=topics_of(tags, duration_ms),
            video_ms=min(duration_ms, VIDEO_MS_MAX),
        )


def uploaded_ms(day: str) -> int:
    """Return midnight of an upload date, ms since 1970."""
    return int(datetime.datetime.fromisoformat(day).replace(tzinfo=CHINA).timestamp() * 1000)


def topics_of(tags: str, duration_ms: int) -> tuple[str, ...]:
    """Return a video's tags as topics, and its length in half octaves of seconds: long videos are watched otherwise."""
    named = (f"tag-{tag}" for tag in tags.split(",") if tag not in {"", "unknown"})
    return (*named, f"length-{round(2 * math.log2(max(duration_ms, 1000) / 1000))}")


def _engagements(table: pl.DataFrame, options: Options) -> Iterator[Event]:
    """Yield what viewers did, at the time when the video had been played."""
    acted = table.filter(pl.any_horizontal(pl.col(column) > 0 for column in (*ACTIONS_OF, "play_time_ms")))
    columns = ("time_ms", "play_time_ms", "user_id", "video_id", "author_id", "tab", *ACTIONS_OF)
    for seen_at, play_ms, viewer, post, author, tab, *flags in acted.select(columns).iter_rows():
        at = seen_at + max(play_ms, 1)
        for action, flag in zip(ACTIONS_OF.values(), flags, strict=True):
            if flag:
                yield Engagement(at, viewer, post, action, author, surface=tab)
                if action == "follow_author":
                    yield Follow(at, viewer, author)
        if play_ms >= options.dwell_s * 1000:
            yield Engagement(at, viewer, post, "dwell", author, surface=tab)
        if play_ms > 0:
            dwell_s = min(play_ms / 1000, DWELL_S_MAX)
            yield Engagement(at, viewer, post, "dwell_time", author, dwell_s, surface=tab)


def _requests(table: pl.DataFrame, options: Options, train_rows: int) -> Iterator[tuple[FeedRequest, Served]]:
    """Yield each request with what was served for it, numbered by viewer and time."""
    rows: Any = (
        table.with_row_index("row")
        .select("row", "user_id", "time_ms", "tab", "video_id")
        .sort("user_id", "row")
        .iter_rows()
    )
    gap_ms = options.gap_minutes * 60_000
    posts: list[int] = []
    start: tuple[int, int, int, bool] = (-1, 0, 0, False)  # viewer, time, surface, whether it is of the test
    number, before_at = 0, 0
    for row, viewer, at, tab, post in rows:
        is_test = row >= train_rows
        goes_on = (viewer, tab, is_test) == (start[0], start[2], start[3]) and at - before_at <= gap_ms
        if not goes_on or len(posts) == options.posts_a_request or post in posts:
            if posts:
                number += 1
                yield _request(number, start, posts)
            posts, start = [], (viewer, at, tab, is_test)
        posts.append(post)
        before_at = at
    yield _request(number + 1, start, posts)


def _request(number: int, start: tuple[int, int, int, bool], posts: list[int]) -> tuple[FeedRequest, Served]:
    viewer, at, tab, _ = start
    served = Served(at, number, viewer, tuple(posts), surface=tab, model="kuaishou")
    return FeedRequest(at, number, viewer, surface=tab), served
