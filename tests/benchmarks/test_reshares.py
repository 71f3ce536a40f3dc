"""The protocol of Twitter 2010: who is asked about what, and references by hand; ties count against them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.reshares import HOUR_MS, Reshares, reference_ranks
from infra.importers import DATA_FOLDER_VARIABLE
from infra.importers.base import data_folder
from infra.importers.twitter2010 import FILES
from infra.logs.reader import LogReader
from schemas.codec import decode

Row = tuple[int, str, int, int, int]  # hours, kind, user, post, author


def reshares(rows: list[Row], tests: int) -> Reshares:
    """Return a task whose last `tests` events test."""
    timed = [(hours * HOUR_MS, *rest) for hours, *rest in rows]
    table = pl.DataFrame(timed, schema=["time_ms", "event", "user", "post", "author"], orient="row")
    return Reshares(table, len(rows) - tests)


# Posts 10, 11, 12 by users 1, 2, 3; users 4 and 5 both reshare 10, and 5 reshares 11.
PAST: list[Row] = [
    (0, "post", 1, 10, 1),
    (0, "post", 2, 11, 2),
    (0, "post", 3, 12, 3),
    (1, "retweet", 4, 10, 1),
    (2, "retweet", 5, 10, 1),
    (9, "retweet", 5, 11, 2),
    (10, "retweet", 6, 12, 3),
    (10, "retweet", 7, 12, 3),
]


def test_ranks_by_hand() -> None:
    # User 4 may reshare 11, which a fellow resharer of 10 did, or 12, which is more popular.
    (ranks,) = reference_ranks(reshares([*PAST, (11, "retweet", 4, 11, 2)], tests=1))
    assert ranks == {"popularity": 2, "co-reshare affinity": 1, "both": 1}
    (ranks,) = reference_ranks(reshares([*PAST, (11, "retweet", 4, 12, 3)], tests=1))
    assert ranks == {"popularity": 1, "co-reshare affinity": 2, "both": 2}


def test_a_tie_counts_against_the_reference() -> None:
    # Nobody is like user 8, so all three are equal; by the day 10 has as many events as 12.
    (ranks,) = reference_ranks(reshares([*PAST, (11, "retweet", 8, 12, 3)], tests=1))
    assert ranks == {"popularity": 1, "co-reshare affinity": 3, "both": 2}


def test_not_asked_about_are_posts_without_an_event_in_a_day_and_first_tweets() -> None:
    late: list[Row] = [(40, "retweet", 9, 10, 1), (40, "post", 9, 13, 9), (41, "retweet", 4, 13, 9)]
    ranks = list(reference_ranks(reshares([*PAST, *late], tests=3)))
    assert len(ranks) == 1
    assert ranks[0]["popularity"] == 1, "10 was reshared before by user 4, the others are not active"


def test_the_log_asks_before_each_reshare_that_tests_and_before_some_of_the_past(tmp_path: Path) -> None:
    data = reshares([*PAST, (11, "retweet", 4, 11, 2), (12, "retweet", 6, 10, 1)], tests=2)
    goals, tests = data.write(tmp_path / "log.jsonl", train_from=0.0, train_every=3)
    assert goals.tolist() == [10, 12, 11, 10]
    assert tests.tolist() == [False, False, True, True]
    lines = (line for raw in LogReader(tmp_path / "log.jsonl").batches() for line in raw.raw)
    kinds = [type(decode(line)).__name__ for line in lines]
    assert kinds.count("FeedRequest") == 4
    assert all(kinds[place + 1] == "Engagement" for place, kind in enumerate(kinds) if kind == "FeedRequest")


def test_the_protocol_gives_the_published_numbers_of_events_and_candidates() -> None:
    if not (data_folder() / FILES[0]).exists():
        pytest.skip(f"{FILES[0]} is not there: set {DATA_FOLDER_VARIABLE} to the folder that holds it")
    data = Reshares.read()
    times, posts, users = (data.table[name].to_numpy() for name in ("time_ms", "post", "user"))
    latest = np.full(int(posts.max()) + 1, -(2**62))
    mine: dict[int, list[int]] = {}
    asked, candidates = 0, 0
    kinds = data.table["event"].to_list()
    for number, (at, post, user) in enumerate(zip(times.tolist(), posts.tolist(), users.tolist(), strict=True)):
        of_user = mine.setdefault(user, [])
        if number >= data.first_test and kinds[number] == "retweet" and latest[post] >= at - 24 * HOUR_MS:
            active = latest >= at - 24 * HOUR_MS
            active[of_user] = False
            asked, candidates = asked + 1, candidates + int(active.sum())
        latest[post] = at
        of_user.append(post)
    assert asked == 26_476
    assert round(candidates / asked) == 1_322
