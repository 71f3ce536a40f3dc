"""Events of a small world whose ids and times are plain."""

import time
from typing import Final

from schemas.events import Engagement, FeedRequest, Follow, PostCreated

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
NOW_MS: Final = int(time.time() * 1000)
AUTHORS: Final = [f"author-{number}" for number in range(8)]
WORDS: Final = ("films", "books", "space", "travel", "gaming")


def post(number: int, at_ms: int = NOW_MS - 30 * MINUTE_MS) -> PostCreated:
    """Return a post by one of the authors, half an hour old unless said otherwise."""
    word = WORDS[number % len(WORDS)]
    return PostCreated(at_ms + number, number, AUTHORS[number % len(AUTHORS)], f"about {word}, {number}", "en", (word,))


def like(viewer: str | int, of: int, at_ms: int = NOW_MS - 10 * MINUTE_MS) -> Engagement:
    """Return a like."""
    return Engagement(at_ms, viewer, of, "favorite")


def follow(viewer: str | int, author: str) -> Follow:
    """Return a follow of an hour ago."""
    return Follow(NOW_MS - 60 * MINUTE_MS, viewer, author)


def ask(request: str, viewer: str | int, explain: bool = False, at_ms: int = NOW_MS) -> FeedRequest:
    """Return a request for a feed."""
    return FeedRequest(at_ms, request, viewer, explain=explain)
