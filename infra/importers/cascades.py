"""Cascades, posts and who took them up when, as events: the form in which Twitter 2010 and Douban are recorded."""

from pathlib import Path
from typing import Final

import polars as pl

from infra.importers.base import ImportRefused, hourly_requests, read_table, shift
from schemas.actions import Action
from schemas.events import Engagement, Event, PostCreated

COLUMNS: Final = ("time_ms", "event", "user", "post", "author")


def read_cascades(path: Path) -> pl.DataFrame:
    """Return a cascade file in order of time, post ids plus one; raises ImportRefused for another form."""
    table = read_table(path, COLUMNS)
    unknown = set(table["event"].unique()) - {"post", "retweet"}
    if unknown:
        raise ImportRefused(
            f"{path} holds events that are neither post nor retweet: {', '.join(sorted(map(str, unknown)))}."
        )
    return table.with_columns(shift("post")).sort("time_ms", maintain_order=True)


def cascade_events(table: pl.DataFrame, action: Action, requests_from: float) -> list[Event]:
    """Return the events of cascades, [time_ms, event, user, post, author]: posts, `action` for each reshare, requests.

    A user asks for a feed in each hour of activity, after the share `requests_from` of the time.
    """
    events: list[Event] = []
    for at, event, user, post, author in table.iter_rows():
        if event == "post":
            events.append(PostCreated(at, post, author))
        else:
            events.append(Engagement(at, user, post, action, author))
    events += hourly_requests(table.select("user", at="time_ms"), requests_from)
    return events


def facts_of(table: pl.DataFrame) -> dict[str, int | float | str]:
    """Return the numbers that can be compared with the description of the data."""
    return {
        "posts": table.filter(pl.col("event") == "post").height,
        "engagements": table.filter(pl.col("event") == "retweet").height,
        "users": table["user"].n_unique(),
    }
