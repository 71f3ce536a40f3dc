"""The job's clock: what makes posts expire, and what does not."""

import numpy as np
import pytest

from flows.intake import Intake
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Value
from operators.state import MemoryState, live_posts
from schemas.codec import encode
from schemas.events import Engagement, Event, FeedRequest, Follow, Insert, PostCreated
from schemas.feeds import Feed, FeedItem, Module, Suggestion
from schemas.polls import RawPoll

NOW_MS = 1_770_000_000_000
DAY_MS = 86_400_000


def intake() -> Intake:
    return Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())


def take(into: Intake, *made: Event) -> None:
    count = len(made)
    raw = RawPoll([encode(one) for one in made], [""] * count, [0] * count, list(range(count)), 0.0, 2**53)
    for poll in into.update_posts(into.decode(raw)):
        into.update_viewers(poll)


def ticks(start_ms: int, count: int = 20) -> list[Event]:
    return [Follow(at=start_ms + number, viewer=1, author=2) for number in range(count)]


@pytest.mark.parametrize("wrong_clocks", [1, 4])
def test_a_few_events_from_the_future_expire_nothing(wrong_clocks: int) -> None:
    job = intake()
    take(job, PostCreated(at=NOW_MS, post=1, author=2), *ticks(NOW_MS))
    future = [PostCreated(at=NOW_MS + 9 * DAY_MS, post=10 + n, author=3) for n in range(wrong_clocks)]
    take(job, *future, PostCreated(at=NOW_MS + 30, post=2, author=2))
    take(job, *ticks(NOW_MS + 40))
    assert job.clock_ms < NOW_MS + DAY_MS
    assert (job.state.posts.table.rows_of(_keys(1, 2)) >= 0).all()


def test_time_that_goes_on_expires_posts() -> None:
    job = intake()
    take(job, PostCreated(at=NOW_MS, post=1, author=2), *ticks(NOW_MS))
    take(job, PostCreated(at=NOW_MS + 3 * DAY_MS, post=2, author=2), *ticks(NOW_MS + 3 * DAY_MS))
    take(job, PostCreated(at=NOW_MS + 3 * DAY_MS + 50, post=3, author=2))
    assert (job.state.posts.table.rows_of(_keys(1, 2, 3)) >= 0).tolist() == [False, True, True]


def _keys(*posts: int) -> np.ndarray:
    return np.array(posts, np.uint64)


def test_an_engagement_knows_only_posts_that_came_before_it() -> None:
    post = PostCreated(at=NOW_MS, post=1, author=7, topics=("space",))
    engagement = Engagement(at=NOW_MS, viewer=5, post=1, action="favorite")
    for made, author in (((engagement, post), 0), ((post, engagement), 7)):
        together, apart = intake(), intake()
        take(together, *made)
        for one in made:
            take(apart, one)
        for job in (together, apart):
            history = job.state.viewers.sequences.of(1)
            assert history.author.tolist() == [author]
            assert history.terms.any() == (author != 0)


@pytest.mark.parametrize(
    ("parameters", "standing", "waits_ms"),
    [
        ({}, False, 1200),
        ({}, True, 100),
        ({"serving.wait_target_ms": 300}, True, 300),
        ({"serving.wait_target_ms": 300, "serving.deadline_ms": 200}, True, 200),
        ({"serving.deadline_ms": 0}, True, None),
    ],
)
def test_of_a_standing_queue_requests_are_late_sooner(
    parameters: dict[str, Value], standing: bool, waits_ms: int | None
) -> None:
    asks = encode(FeedRequest(NOW_MS, "r", 1, parameters=parameters))
    raw = RawPoll([asks], ["feed-requests"], [0], [0], 0.0, 2**53, keys=[b"1"], published_ms=[5], standing=standing)
    (request,) = intake().decode(raw).requests
    assert request.deadline_ms == (0 if waits_ms is None else 5 + waits_ms)


def test_events_on_a_topic_of_others_are_refused() -> None:
    raw = RawPoll([encode(Follow(at=1, viewer=1, author=2))] * 2, ["posts", "graph"], [0, 0], [1, 2], 0.0, 2**53)
    poll = intake().decode(raw)
    assert [(one.offset, one.path, one.reason) for one in poll.dead_letters] == [
        (1, "$.kind", "belongs to topic graph, not posts")
    ]
    assert poll.events == 1


def test_requests_before_the_first_to_answer_are_passed_over() -> None:
    job = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership(), answer_from_ms=NOW_MS)
    made = [FeedRequest(at=NOW_MS + gap, request=gap + 2, viewer=1) for gap in (-1, 0, 1)]
    raw = RawPoll([encode(one) for one in made], [""] * 3, [0] * 3, [1, 2, 3], 0.0, 2**53)
    assert [query.at_ms for query in job.update_viewers(job.decode(raw))] == [NOW_MS, NOW_MS + 1]


def test_a_request_answered_before_a_restart_leaves_behind_what_its_feed_showed() -> None:
    items = tuple(FeedItem(post, 9, 1.0, "thunder", True, "") for post in (4, 5))
    modules = (Module(0, "push_to_home", 3), Module(2, "who_to_follow", suggestions=(Suggestion(9, "", (4,)),)))
    feed = Feed(NOW_MS, "first", 1, "model", items, (), feed="blended", modules=modules)
    job = Intake(
        MemoryState(DEFAULTS, live_posts(DEFAULTS)),
        DEFAULTS,
        Ownership(),
        answered=lambda request: feed if request.event.request == "first" else None,
    )
    take(job, FeedRequest(NOW_MS, "first", 1, feed="blended", inserts=(Insert("push_to_home", 3),)))
    raw = RawPoll([encode(FeedRequest(NOW_MS + 1, "next", 1, feed="blended"))], [""], [0], [1], 0.0, 2**53)
    (poll,) = job.update_posts(job.decode(raw))
    (query,) = job.update_viewers(poll)
    assert query.request.event.request == "next"
    assert job.state.viewers.modules_ms(query.request) == (NOW_MS, 0)
    assert job.state.viewers.served(query.request).tolist() == [3, 4, 5]
