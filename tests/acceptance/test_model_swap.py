"""A model taken up in the middle: each feed is that of one model alone, to the bit, retrieval included."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.for_you import ForYou
from flows.intake import Intake
from models.config import PhoenixConfig
from models.phoenix import CheckpointRefused, Phoenix
from operators.clusters import Clusters
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Value
from operators.ranking import Ranker
from operators.state import MemoryState, live_posts
from schemas.codec import encode
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, PostDeleted
from schemas.feeds import Feed
from schemas.polls import RawPoll
from tests.acceptance.playing import SECOND, T0
from tests.conftest import shaken

POSTS: tuple[Event, ...] = tuple(
    PostCreated(T0 + number, number + 1, 100 + number % 9, f"words {number % 7} and {number % 5}")
    for number in range(120)
)
TASTES: tuple[Event, ...] = tuple(
    Engagement(T0 + SECOND + viewer, viewer, 1 + 13 * viewer % 120, "favorite") for viewer in range(1, 40)
)
FOLLOWS: tuple[Event, ...] = tuple(Follow(T0 + SECOND, viewer, 100 + viewer % 9) for viewer in range(1, 40))


class Job:
    """One instance in memory, a call a step, as the dataflow does it."""

    def __init__(self, phoenix: Phoenix, parameters: dict[str, Value] | None = None, **others: Phoenix) -> None:
        tree = DEFAULTS.overridden({"retrieval.posts_max": 30, **(parameters or {})})
        clusters = Clusters(phoenix, others)
        intake = Intake(MemoryState(tree, live_posts(tree, phoenix)), tree, Ownership())
        self.ranker = Ranker(1, 8)
        self.flow = ForYou(intake, clusters, self.ranker)

    def hand_in(self, *events: Event) -> None:
        """Take events in, a poll each; requests go as far as the ranker."""
        for event in events:
            raw = RawPoll([encode(event)], [""], [0], [0], 0.0, 2**53)
            for poll in self.flow.intake.update_posts(self.flow.intake.decode(raw)):
                for query in self.flow.intake.update_viewers(poll):
                    self.flow.rank(self.flow.filter(self.flow.candidates(query)))

    def feeds(self) -> list[Feed]:
        """Return the feeds of the requests handed in, once they are made."""
        return [self.flow.slate(one).feed for one in self.ranker.finished(wait=True)]

    def ask(self, viewer: int, at: int = T0 + 10 * SECOND, **fields: object) -> Feed:
        """Return the feed of a request."""
        self.hand_in(FeedRequest(at, f"{viewer} at {at}", viewer, explain=True, **fields))  # type: ignore[arg-type]
        (feed,) = self.feeds()
        return feed


@pytest.fixture(scope="module")
def models(tiny: PhoenixConfig) -> Sequence[Phoenix]:
    """Return three models, the last one's vectors longer than those of the others."""
    wider = msgspec.structs.replace(tiny, retrieval_width=64)
    configurations = (tiny, tiny, wider)
    return [shaken(Phoenix.untrained(one, seed=seed), seed=seed) for seed, one in enumerate(configurations)]


def told(feed: Feed) -> bytes:
    return encode(feed)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["ask", "first", "second", "post", "delete"]), min_size=3, max_size=14))
def test_feeds_are_those_of_the_model_that_they_name_alone(models: Sequence[Phoenix], steps: list[str]) -> None:
    """Each viewer asks once: what was served before is then the same with any model."""
    jobs = {name: Job(models[0]) for name in ("first", "second", "swapping")}
    jobs["second"] = Job(models[2])
    for job in jobs.values():
        job.hand_in(*POSTS, *TASTES, *FOLLOWS)
    in_force = "first"
    for number, step in enumerate(("ask", "second", *steps, "ask")):
        at = T0 + (20 + number) * SECOND
        if step in ("first", "second"):
            in_force = step
            jobs["swapping"].flow.take_model(models[0] if step == "first" else models[2])
        elif step == "ask":
            made = {name: job.ask(number + 1, at) for name, job in jobs.items()}
            assert told(made["swapping"]) == told(made[in_force])
            assert made["first"].model != made["second"].model
            assert told(made["first"]) != told(made["second"])
        else:
            event = PostCreated(at, 1000 + number, 101) if step == "post" else PostDeleted(at, 1 + 7 * number, 100)
            for job in jobs.values():
                job.hand_in(event)


def test_requests_handed_in_before_are_computed_by_the_model_they_came_with(models: Sequence[Phoenix]) -> None:
    alone = {phoenix.version: Job(phoenix) for phoenix in models[:2]}
    swapping = Job(models[0])
    for job in (swapping, *alone.values()):
        job.hand_in(*POSTS, *TASTES, *FOLLOWS)
    requests = [FeedRequest(T0 + 20 * SECOND, f"r{viewer}", viewer, explain=True) for viewer in range(1, 9)]
    swapping.hand_in(*requests[:4])
    swapping.flow.take_model(models[1])
    swapping.hand_in(*requests[4:])
    feeds = swapping.feeds()
    assert [feed.model for feed in feeds] == [models[0].version] * 4 + [models[1].version] * 4
    expected = []
    for phoenix, some in zip(models[:2], (requests[:4], requests[4:]), strict=True):
        alone[phoenix.version].hand_in(*some)
        expected += alone[phoenix.version].feeds()
    assert [told(feed) for feed in feeds] == [told(feed) for feed in expected]


def test_a_slate_that_the_old_model_left_is_not_served_on(models: Sequence[Phoenix]) -> None:
    parameters: dict[str, Value] = {"cached_slate.enabled": True, "cached_slate.candidates_min": 1}
    job = Job(models[0], parameters)
    job.hand_in(*POSTS, *TASTES, *FOLLOWS)
    first, second = (job.ask(1, T0 + (20 + turn) * SECOND) for turn in range(2))
    assert (first.model, second.model) == (models[0].version, models[0].version)
    assert {item.source for item in second.items} == {"cached_slate"}
    job.flow.take_model(models[1])
    third = job.ask(1, T0 + 22 * SECOND)
    assert third.model == models[1].version
    assert "cached_slate" not in {item.source for item in third.items}


def test_another_than_prod_is_taken_up_without_a_new_index(models: Sequence[Phoenix]) -> None:
    job = Job(models[0], {"models.cluster": "experiment1"}, experiment1=models[0])
    job.hand_in(*POSTS, *TASTES, *FOLLOWS)
    index = job.flow.state.posts.index
    job.flow.take_model(models[1], "experiment1")
    assert job.flow.state.posts.index is index
    assert job.ask(1).model == models[1].version


def test_what_cannot_serve_here_is_refused_and_nothing_changes(models: Sequence[Phoenix], tiny: PhoenixConfig) -> None:
    asking = Phoenix.untrained(msgspec.structs.replace(tiny, co_likers=True))
    changed, alone = Job(models[0]), Job(models[0])
    for job in (changed, alone):
        job.hand_in(*POSTS, *TASTES, *FOLLOWS)
    with pytest.raises(CheckpointRefused, match=f"{asking.version} reads what co-likers say, and nobody keeps that"):
        changed.flow.take_model(asking)
    with pytest.raises(CheckpointRefused, match="no cluster is called experiment1; this job has prod"):
        changed.flow.take_model(models[1], "experiment1")
    assert told(changed.ask(1)) == told(alone.ask(1))
