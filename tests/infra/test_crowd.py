"""Simulated people as users: what they do depends on their feeds, their tastes move as stated, and the truth knows."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest

from infra.world import Crowd, WorldParameters
from infra.world.rates import tired
from infra.world.simulator import open_world, truth_of
from schemas.codec import encode
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, PostDeleted
from schemas.ids import Id

DAY_MS = 24 * 3_600_000
SMALL = WorldParameters(people=30, days=1.5, follows_per_person=6.0, sessions_per_person_day=2.0)


def lived(parameters: WorldParameters, newest_first: bool) -> tuple[list[Event], dict[Id, list[Id]]]:
    """Return what people do who are shown the ten newest or oldest posts of the last day, and the feeds by request."""
    crowd, live, events, feeds = Crowd(parameters), dict[Id, int](), list[Event](), dict[Id, list[Id]]()
    while True:
        new, asked = crowd.next()
        events += new
        for event in new:
            if isinstance(event, PostCreated):
                live[event.post] = event.at
            elif isinstance(event, PostDeleted):
                live.pop(event.post, None)
        if asked is None:
            return events, feeds
        recent = [post for post, at in live.items() if at > asked.request.at - DAY_MS]
        feeds[asked.request.request] = list(reversed(recent[-10:])) if newest_first else recent[:10]
        crowd.show(feeds[asked.request.request])


@pytest.fixture(scope="module")
def newest() -> tuple[list[Event], dict[Id, list[Id]]]:
    return lived(SMALL, newest_first=True)


def test_the_same_feeds_make_the_same_events_and_other_feeds_others(
    newest: tuple[list[Event], dict[Id, list[Id]]],
) -> None:
    lines = [encode(event) for event in newest[0]]
    assert lines == [encode(event) for event in lived(SMALL, newest_first=True)[0]]
    assert lines != [encode(event) for event in lived(SMALL, newest_first=False)[0]]


def test_people_act_on_what_they_were_shown_in_order_of_time(newest: tuple[list[Event], dict[Id, list[Id]]]) -> None:
    events, feeds = newest
    assert [event.at for event in events] == sorted(event.at for event in events)
    shown: dict[Id, set[Id]] = {}
    asked, acts, created = 0, 0, set[Id]()
    for event in events:
        if isinstance(event, FeedRequest):
            asked += 1
            shown.setdefault(event.viewer, set()).update(feeds[event.request])
        elif isinstance(event, Engagement):
            acts += 1
            assert event.post in shown[event.viewer]
        elif isinstance(event, PostCreated):
            assert {event.reply_to, event.repost_of, event.quote_of} - {None} <= created
            created.add(event.post)
    assert asked == len(feeds) > 50
    assert acts > 5 * asked


def test_a_request_waits_for_its_feed_and_a_feed_for_its_request() -> None:
    crowd = Crowd(SMALL)
    with pytest.raises(ValueError, match="no request waits"):
        crowd.show([])
    _, asked = crowd.next()
    assert asked is not None
    with pytest.raises(ValueError, match="request 1 is not answered yet"):
        crowd.next()
    crowd.show(["a post of somebody else"])
    _, asked = crowd.next()
    assert asked is not None
    assert asked.request.request == 2


@pytest.mark.parametrize("tells_looks", [True, False])
def test_what_a_client_tells_as_seen(tells_looks: bool) -> None:
    """All of a feed, or what was on the screen before somebody left: the first posts, of most feeds not all."""
    crowd = Crowd(msgspec.structs.replace(SMALL, tells_looks=tells_looks))
    posts, shown = list[Id](), dict[Id, list[Id]]()
    told: list[int] = []
    while True:
        events, asked = crowd.next()
        posts += [event.post for event in events if isinstance(event, PostCreated)]
        if asked is None:
            break
        viewer = asked.request.viewer
        if viewer in shown:
            told.append(len(asked.request.seen_ids))
            assert list(asked.request.seen_ids) == shown[viewer][: told[-1]]
            crowd.show([])
        else:
            shown[viewer] = posts[-30:]
            crowd.show(shown[viewer])
    assert told
    sizes = [len(feed) for feed in shown.values()]
    assert set(told) <= set(sizes) if not tells_looks else np.mean(told) < 0.9 * np.mean(sizes)


def test_a_repost_is_acted_on_and_its_original_judged() -> None:
    crowd = Crowd(SMALL)
    events: list[Event] = []
    while not (reposts := [one for one in events if isinstance(one, PostCreated) and one.repost_of is not None]):
        new, asked = crowd.next()
        assert asked is not None, "somebody reposts within the world's days"
        events += new
        crowd.show([event.post for event in events if isinstance(event, PostCreated)][-20:])
    new, asked = crowd.next()
    assert asked is not None
    rows = crowd.rows_of([reposts[0].post, reposts[0].repost_of])  # type: ignore[list-item]
    found = crowd.probabilities(asked, rows, np.array([False, False]))
    assert np.array_equal(found[0], found[1])
    crowd.show([reposts[0].post])
    after, _ = crowd.next()
    mine = [one for one in after if isinstance(one, Engagement) and one.viewer == asked.request.viewer]
    of_it = [one for one in mine if one.post == reposts[0].post]
    assert all(one.author == reposts[0].author for one in of_it)
    follows = [one for one in after if isinstance(one, Follow) and one.viewer == asked.request.viewer]
    assert all(one.author == reposts[0].repost_of_author for one in follows)


def test_everybody_trades_every_liked_topic_on_the_day_of_change_and_nobody_before() -> None:
    parameters = msgspec.structs.replace(SMALL, days=3.0, taste_change_day=1.5)
    world, _, _ = open_world(parameters)
    truth, people = truth_of(world), np.arange(parameters.people)
    change = parameters.start_ms + int(1.5 * DAY_MS)
    start = truth.over_time.at(people, np.full(len(people), parameters.start_ms - 5))
    before = truth.over_time.at(people, np.full(len(people), change - 1))
    after = truth.over_time.at(people, np.full(len(people), change))
    assert np.array_equal(start, truth.tastes)
    assert np.array_equal(before, truth.tastes)
    assert np.array_equal(np.sort(after, axis=1), np.sort(truth.tastes, axis=1))
    assert not np.any((after > 0) & (truth.tastes > 0))
    assert np.array_equal(after < 0, truth.tastes < 0)
    part = np.full(len(people), 2)
    focus = truth.over_time.focus_at(people, part, np.full(len(people), change))
    assert np.array_equal(focus > 0, after > 0)
    # Nobody who lives in a world without a change is another person.
    still = open_world(msgspec.structs.replace(parameters, taste_change_day=0.0))[0]
    assert np.array_equal(still.people.tastes, truth.tastes)


def test_tastes_that_drift_trade_one_liked_topic_a_day() -> None:
    parameters = msgspec.structs.replace(SMALL, days=4.0, taste_drift_day=1.0)
    world, _, _ = open_world(parameters)
    people = np.arange(parameters.people)
    days = [world.tastes.at(people, np.full(len(people), parameters.start_ms + day * DAY_MS)) for day in range(4)]
    for yesterday, today in pairwise(days):
        assert ((yesterday != today).sum(1) == 2).all()
        assert (((yesterday > 0) & (today <= 0)).sum(1) == 1).all()
    some = open_world(msgspec.structs.replace(parameters, taste_drift_day=0.5))[0]
    moved = some.tastes.at(people, np.full(len(people), parameters.start_ms + DAY_MS)) != some.people.tastes
    assert 0.2 < moved.any(axis=1).mean() < 0.8


def test_a_liking_wears_off_by_hand_and_a_dislike_stays() -> None:
    # Two posts of the topic shown before, a tenth off for each: .5 x .9 x .9.
    assert tired(np.array([0.5, 0.5, -0.2]), np.array([2, 0, 2]), 0.1) == pytest.approx([0.405, 0.5, -0.2])


def test_people_who_tire_act_less_on_the_same_slates() -> None:
    def actions(fatigue: float) -> int:
        events, _ = lived(msgspec.structs.replace(SMALL, fatigue=fatigue), newest_first=True)
        return sum(isinstance(one, Engagement) and one.action == "favorite" for one in events)

    assert actions(0.5) < 0.9 * actions(0.0)
