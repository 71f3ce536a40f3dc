"""Twitter 2010 as a task: who reshares what next, and the three references that were published for it.

The protocol, found by matching the published 26,476 test events and 1,322 candidates: of all 135,472 events, first
posts included, the last fifth tests. A reshare is asked about where its post had an event within the last 24 h; its
candidates are all posts that had one, but for those of which the user had an event before. The first tweet of a post
counts as its author's event. Everything before the event is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.importers.base import data_folder
from infra.importers.cascades import read_cascades
from infra.importers.twitter2010 import FILES
from infra.logs.writer import LogWriter
from operators.keys import Keys
from schemas.actions import Action
from schemas.events import Engagement, Event, FeedRequest, PostCreated

HOUR_MS: Final = 3_600_000
WINDOW_MS: Final = 24 * HOUR_MS
# Popularity counts the last 6 h: of all windows and half-lives tried, what comes nearest to the published figures.
POPULARITY_MS: Final = 6 * HOUR_MS
ACTION: Final[Action] = "retweet"
TEST_SHARE: Final = 0.2
TOP: Final = 20


@dataclass(frozen=True)
class Reshares:
    """The events, [time_ms, event, user, post, author] in the order of the file, and which of them tests."""

    table: pl.DataFrame
    first_test: int

    @classmethod
    def read(cls, until: float = 1.0) -> "Reshares":
        """Read the first share `until` of the events; the last fifth of those tests."""
        table = read_cascades(data_folder() / FILES[0])
        table = table.head(int(len(table) * until))
        return cls(table, int(len(table) * (1 - TEST_SHARE)))

    def write(self, log: Path, train_from: float, train_every: int) -> tuple[Keys, npt.NDArray[np.bool_]]:
        """Write a log with a request before each reshare that is asked about; return posts and which test, by request.

        Asked about are all of the test part, and from the share `train_from` of the events on one in `train_every`.
        """
        events: list[Event] = []
        goals: list[int] = []
        tests: list[bool] = []
        for number, (at, event, user, post, author) in enumerate(self.table.iter_rows()):
            if event == "post":
                events.append(PostCreated(at, post, author))
                continue
            test = number >= self.first_test
            if test or (number >= train_from * len(self.table) and number % train_every == 0):
                events.append(FeedRequest(at, len(goals), user))
                goals.append(post)
                tests.append(test)
            events.append(Engagement(at, user, post, ACTION, author))
        with LogWriter(log) as writer:
            writer.write(events)
        return np.array(goals, np.uint64), np.array(tests, np.bool_)


def reference_ranks(data: Reshares) -> Iterator[dict[str, int]]:
    """Yield the rank of each reshare asked about by each reference; ties count against it.

    popularity: events of the last 6 h. co-reshare affinity: how many users' events a candidate has in common with each
    post of the user, all in all. both: affinity, popularity of the last 24 h where it's equal.
    """
    posts, users = (np.unique(data.table[name].to_numpy(), return_inverse=True)[1] for name in ("post", "user"))
    times, is_post = data.table["time_ms"].to_numpy(), (data.table["event"] == "post").to_numpy()
    count = int(posts.max()) + 1
    common = np.zeros((count, count), np.float32)
    of_user: list[list[int]] = [[] for _ in range(int(users.max()) + 1)]
    windows = {WINDOW_MS: np.zeros(count), POPULARITY_MS: np.zeros(count)}
    heads = dict.fromkeys(windows, 0)
    for number, (at, post, user) in enumerate(zip(times, posts, users, strict=True)):
        for window_ms, counts in windows.items():
            while times[heads[window_ms]] < at - window_ms:
                counts[posts[heads[window_ms]]] -= 1
                heads[window_ms] += 1
        mine = of_user[user]
        day, late = windows[WINDOW_MS], windows[POPULARITY_MS]
        if number >= data.first_test and not is_post[number] and day[post]:
            others = day > 0
            others[mine] = False
            affinity = common[mine].sum(axis=0)
            scores = {"popularity": late, "co-reshare affinity": affinity, "both": affinity + 1e-3 * day}
            yield {name: int((score[others] >= score[post]).sum()) for name, score in scores.items()}
        common[post, mine] += 1
        common[mine, post] += 1
        mine.append(post)
        for counts in windows.values():
            counts[post] += 1
