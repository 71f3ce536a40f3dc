"""Asking along a log: what is known is what came before, candidates are by the rule, and the goal is among them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.intake import Intake
from flows.prequential import Asked, Asking
from infra.logs.reader import LogReader
from infra.logs.writer import LogWriter
from models.inputs import CO_LIKED_NAMES, IDLE_UNKNOWN_S
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts
from schemas.actions import ACTION_INDEX
from schemas.events import Engagement, Event, FeedRequest, PostCreated

START_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
AFFINITY, IDLE = CO_LIKED_NAMES.index("affinity"), CO_LIKED_NAMES.index("idle_s")
GOALS = [100, 101, 102]


def log_of(path: Path, events: list[Event]) -> LogReader:
    with LogWriter(path) as writer:
        writer.write(events)
    return LogReader(path)


def reshare(at_ms: int, viewer: int, post: int) -> Engagement:
    return Engagement(START_MS + at_ms, viewer, post, "retweet")


def story() -> list[Event]:
    """Return posts 100 to 103 and who reshares them: viewer 2 is asked about thrice."""
    posts = [
        PostCreated(START_MS + at, post, author) for at, (post, author) in enumerate([(100, 7), (101, 8), (102, 9)])
    ]
    return [
        *posts,
        PostCreated(START_MS + 5, 103, 2),
        reshare(1000, 1, 100),
        FeedRequest(START_MS + 2000, 0, 2),
        reshare(2000, 2, 100),
        reshare(3000, 1, 101),
        FeedRequest(START_MS + 4000, 1, 2),
        reshare(4000, 2, 101),
        reshare(5000, 3, 102),
        FeedRequest(START_MS + 30 * HOUR_MS, 2, 2),
        reshare(30 * HOUR_MS, 2, 102),
    ]


def asked(
    tmp_path: Path,
    events: list[Event],
    window_ms: int = 24 * HOUR_MS,
    posts_max: Callable[[int], int | None] | None = None,
) -> tuple[list[Asked], int]:
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS, co_likers=True)), DEFAULTS, Ownership())
    asking = Asking(intake, np.array(GOALS, np.uint64), window_ms, posts_max or (lambda _: None))
    return list(asking.along(log_of(tmp_path / "log.jsonl", events))), asking.not_asked


def test_candidates_are_active_posts_that_the_viewer_had_nothing_to_do_with(tmp_path: Path) -> None:
    (first, second), not_asked = asked(tmp_path, story())
    assert first.posts.post.tolist() == [100, 101, 102], "103 is the viewer's own"
    assert second.posts.post.tolist() == [101, 102], "100 was reshared before"
    assert [int(one.posts.post[one.goal]) for one in (first, second)] == GOALS[:2]
    assert not_asked == 1, "30 h later nothing is active any more"
    (*_, third), none = asked(tmp_path, story(), window_ms=48 * HOUR_MS)
    assert third.posts.post.tolist() == [102]
    assert none == 0


def test_co_likers_say_what_they_knew_before_the_answer(tmp_path: Path) -> None:
    (first, second), _ = asked(tmp_path, story())
    assert first.posts.co_liked[:, AFFINITY].tolist() == [0, 0, 0]
    # Viewer 1 reshared 100 as viewer 2 did, and 101 since; the authors of 100 and 2 have 100 in common, too.
    assert second.posts.co_liked[:, AFFINITY].tolist() == [1, 0]
    assert second.posts.co_liked[:, IDLE].tolist() == [1, 3]
    assert (second.posts.co_liked[:, IDLE] < IDLE_UNKNOWN_S).all()


def test_what_is_asked_is_the_same_whatever_comes_after(tmp_path: Path) -> None:
    whole, _ = asked(tmp_path, story())
    for number in (0, 1):
        cut = next(place for place, one in enumerate(story()) if isinstance(one, FeedRequest) and one.request == number)
        early, _ = asked(tmp_path, story()[: cut + 1])
        ours, theirs = whole[number], early[number]
        for name in ("post", "author", "created_ms", "counts", "co_liked"):
            assert np.array_equal(getattr(ours.posts, name), getattr(theirs.posts, name)), name
        assert np.array_equal(ours.context.history.post, theirs.context.history.post)


def test_a_sample_holds_the_goal_and_others(tmp_path: Path) -> None:
    (drawn, _), _ = asked(tmp_path, story(), posts_max=lambda _: 2)
    assert len(drawn.posts) == 2
    assert int(drawn.posts.post[drawn.goal]) == GOALS[0]
    (whole, _), _ = asked(tmp_path, story())
    sample = whole.sample(2, np.random.default_rng(1))
    assert (len(sample.posts), int(sample.posts.post[sample.goal])) == (2, GOALS[0])
    example = sample.example("retweet")
    assert example.actions.tolist() == [1 << ACTION_INDEX["retweet"], 0]
    assert not example.shown


def test_without_co_likers_there_is_nothing_to_ask() -> None:
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())
    with pytest.raises(ValueError, match="nobody keeps co-likers"):
        Asking(intake, np.array(GOALS, np.uint64), HOUR_MS)
