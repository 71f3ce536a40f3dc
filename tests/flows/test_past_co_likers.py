"""What co-likers say goes into an example as of its opening: likes that come while it takes labels have no say."""

from pathlib import Path

import numpy as np
import pytest

from flows.intake import Intake
from flows.training_examples import Example, batch, examples
from infra.logs import LogReader
from models.inputs import CO_LIKED, CO_LIKED_NAMES, untouched
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts
from schemas.events import Engagement, Event, FeedRequest, PostCreated, Served
from tests.acceptance.playing import MINUTE, T0, write_log

ME, ALIKE, OTHER = 7, 8, 9


def made(path: Path, events: list[Event], co_likers: bool = True) -> list[Example]:
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS, co_likers=co_likers)), DEFAULTS, Ownership())
    return list(examples(LogReader(write_log(path / "log.jsonl", events)), intake, posts_max=8))


def liked(at: int, viewer: int, post: int) -> Engagement:
    return Engagement(T0 + at * MINUTE, viewer, post, "favorite")


def story(opening: Event) -> list[Event]:
    """Return what was liked before an example opens, and what is liked in the minutes after."""
    return [
        *(PostCreated(T0, post, 900 + post) for post in (1, 2, 3)),
        *(liked(1, viewer, 1) for viewer in (ME, ALIKE)),
        liked(2, ALIKE, 2),
        opening,
        liked(11, ME, 2),
        liked(12, ALIKE, 3),
        liked(13, OTHER, 2),
    ]


OPENINGS: dict[str, Event] = {
    "served": Served(T0 + 10 * MINUTE, "r", ME, (2, 3)),
    "asked": FeedRequest(T0 + 10 * MINUTE, "r", ME),
}


@pytest.mark.parametrize("kind", OPENINGS)
def test_columns_are_those_of_the_opening(tmp_path: Path, kind: str) -> None:
    (one,) = made(tmp_path, story(OPENINGS[kind]))
    told = dict(zip(one.posts.post.tolist(), one.posts.co_liked, strict=True))
    affinity, idle = CO_LIKED_NAMES.index("affinity"), CO_LIKED_NAMES.index("idle_s")
    assert told[2][affinity] == 1, "who liked 2 has liked 1 as I did"
    assert told[2][idle] == 8 * 60
    if kind == "served":
        assert told[3][affinity] == 0, "that 3 is liked later isn't known"
        assert told[3][idle] == 10 * 60, "its author is the last who did"


def test_without_co_likers_nothing_is_said(tmp_path: Path) -> None:
    (one,) = made(tmp_path, story(OPENINGS["served"]), co_likers=False)
    assert np.array_equal(one.posts.co_liked, untouched(2))
    assert batch([one], 32, 4).co_liked.shape == (1, 4, CO_LIKED)
