"""The posts of a simulated world: their table, their ids and their texts."""

import base64
import bisect
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import DAY_MS
from infra.world.people import TOPIC_COUNT
from infra.world.phrases import CLOSERS, OPENERS, QUOTES, REPLIES, SPAM, TOPICS
from infra.world.rates import Floats

NEVER: Final = 2**62  # the time of a deletion or label that doesn't happen
PRIMARY_SHARE: Final = 0.8  # of a post's mix; the rest is its second topic
# A post's id holds its time as X's do: milliseconds since this one, shifted by 22 bits.
SNOWFLAKE_EPOCH_MS: Final = 1_288_834_974_657
SNOWFLAKE_SHIFT: Final = 22

POST: Final = np.dtype(
    [
        ("created", "i8"),
        ("author", "i4"),
        ("primary", "i1"),
        ("secondary", "i1"),
        ("photo", "?"),
        ("quote", "?"),
        ("spam", "?"),
        ("nsfw", "?"),
        ("subscribers_only", "?"),
        ("video_ms", "i4"),
        ("quality", "f8"),
        ("deleted_at", "i8"),
        ("labelled_at", "i8"),
        ("original", "i4"),  # the row of the post reposted; of itself for all others
        ("root", "i4"),  # the row that began the conversation
    ]
)


class PostTable:
    """All posts so far, one row each, with their ids and texts beside them."""

    def __init__(self, capacity: int) -> None:
        self._rows = np.zeros(max(capacity, 16), POST)
        self.count = 0
        self.ids: list[int | str] = []
        self.texts: list[str] = []
        # The latest time among all rows so far: never falls, while `created` does where a person in a session writes
        # seconds ahead of the others.
        self._latest: list[int] = []

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """The rows in use, [count] of POST."""
        return self._rows[: self.count]

    def add(self, post: npt.NDArray[np.void], text: str, string_id: bool) -> int:
        """Append a post (one element of POST) and return its row; `original` and `root` < 0 mean the row itself."""
        if self.count == self._rows.size:
            self._rows = np.concatenate([self._rows, np.zeros(self.count, POST)])
        row = self.count
        self._rows[row] = post
        for name in ("original", "root"):
            if post[name] < 0:
                self._rows[name][row] = row
        self._latest.append(max(int(post["created"]), self._latest[-1] if row else 0))
        self.count += 1
        self.ids.append(post_id(int(post["created"]), row, string_id))
        self.texts.append(text)
        return row

    def first_since(self, at: int) -> int:
        """Return the first row from which on all posts of time `at` and later are found."""
        return bisect.bisect_left(self._latest, at)


def post_id(created_ms: int, row: int, string_id: bool) -> int | str:
    """Return the id of a post: a number that holds its time and row, or the same as 13 letters and digits."""
    number = (created_ms - SNOWFLAKE_EPOCH_MS) << SNOWFLAKE_SHIFT | row % (1 << SNOWFLAKE_SHIFT)
    return base64.b32encode(number.to_bytes(8, "big")).decode().rstrip("=").lower() if string_id else number


def mixes(rows: npt.NDArray[np.void]) -> Floats:
    """Return the topic mixes of posts, [n, 16]: four fifths the first topic, one fifth the second."""
    result = np.zeros((rows.size, TOPIC_COUNT))
    places = np.arange(rows.size)
    result[places, rows["primary"]] += PRIMARY_SHARE
    result[places, rows["secondary"]] += 1.0 - PRIMARY_SHARE
    return result


class TextWriter:
    """Writes sentences of a topic, each with its own draw of words."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def post(self, topic: int, photo: bool) -> str:
        """Return the text of a post of its own."""
        body = self._fill(TOPICS[topic].sentences, topic)
        return self._pick(OPENERS) + body + self._pick(CLOSERS) + (" [photo]" if photo else "")

    def reply(self, topic: int) -> str:
        """Return an answer to a post of that topic."""
        return self._fill(REPLIES, topic)

    def quote(self, topic: int) -> str:
        """Return a remark above a quoted post of that topic."""
        return self._fill(QUOTES, topic)

    def spam(self, topic: int) -> str:
        """Return what a spam account writes about a topic."""
        return self._fill(SPAM, topic)

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self._rng.integers(len(options)))]

    def _fill(self, sentences: tuple[str, ...], topic: int) -> str:
        x, y = self._pick(TOPICS[topic].things), self._pick(TOPICS[topic].matters)
        return self._pick(sentences).format(x=x, y=y, X=x[0].upper() + x[1:], Y=y[0].upper() + y[1:])


# Where the day's activity lies, in local hours: mean, deviation, share.
RHYTHM: Final = ((8.0, 1.5, 0.25), (13.0, 2.0, 0.30), (20.0, 2.5, 0.45))


def draw_times(
    time_zone_h: npt.NDArray[np.int64], start_ms: int, days: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return [n] times in ms: a day at random and an hour by the rhythm of the day in each person's time zone."""
    count = time_zone_h.size
    means, deviations, shares = (np.array(column) for column in zip(*RHYTHM, strict=True))
    peak = rng.choice(len(RHYTHM), count, p=shares)
    hours = rng.normal(means[peak], deviations[peak]) - time_zone_h
    day = rng.integers(0, int(np.ceil(days)), count)
    within_ms = (day * 24.0 + hours) * (DAY_MS / 24.0) % (days * DAY_MS)
    times: npt.NDArray[np.int64] = start_ms + within_ms.astype(np.int64)
    return times
