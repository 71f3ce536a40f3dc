"""Viewers: relations, what was seen and served, and hydrated requests."""

import pytest

from operators.decode import Ownership, decode
from operators.keys import keys_of
from operators.parameters import DEFAULTS
from operators.viewers.query import Origin, Query, Request
from operators.viewers.viewers import Viewers
from schemas import events
from schemas.codec import encode
from schemas.polls import RawPoll

NOW = 1_770_000_000_000
ONE = Ownership(partitions=1)


def some_viewers(**parameters: int) -> Viewers:
    values = {f"filters.{name}": value for name, value in parameters.items()}
    return Viewers(DEFAULTS.overridden(values))


def raw(*made: events.Event) -> RawPoll:
    count = len(made)
    return RawPoll([encode(one) for one in made], ["log"] * count, [0] * count, list(range(1, count + 1)), 0.0, NOW * 2)


def told(viewers: Viewers, *made: events.Event) -> list[Query]:
    poll = decode(raw(*made), DEFAULTS, ONE)
    assert not poll.dead_letters
    return viewers.apply(poll.actions, poll.action_partitions, poll.graph, poll.requests)


def request(viewer: int | str = 1, **fields: object) -> events.FeedRequest:
    return events.FeedRequest(at=NOW, request="r", viewer=viewer, **fields)  # type: ignore[arg-type]


def test_relations_count_from_both_sides_and_can_be_undone() -> None:
    viewers = some_viewers()
    (query,) = told(
        viewers,
        events.Follow(at=1, viewer=1, author=5),
        events.Follow(at=1, viewer=1, author=4),
        events.Follow(at=2, viewer=1, author=5, undo=True),
        events.Follow(at=2, viewer=4, author=1),
        events.Block(at=3, viewer=1, author=6),
        events.Block(at=3, viewer=7, author=1),
        events.Mute(at=4, viewer=1, author=8),
        events.Subscribe(at=5, viewer=1, author=9),
        events.MuteKeyword(at=6, viewer=1, keyword="Spoiler Alert"),
        events.Profile(at=7, viewer=1, followers=12, account_created_at=3),
        request(),
    )
    relations = query.relations
    assert relations.followed.tolist() == [4]
    assert relations.followed_by.tolist() == [4]
    assert relations.blocked.tolist() == [6]
    assert relations.blocked_by.tolist() == [7]
    assert relations.muted.tolist() == [8]
    assert relations.subscribed.tolist() == [9]
    assert list(relations.keywords) == ["Spoiler Alert"]
    assert (relations.followers, relations.account_created_ms) == (12, 3)


def test_a_query_does_not_change_when_the_state_does() -> None:
    viewers = some_viewers()
    (before,) = told(
        viewers, events.Follow(at=1, viewer=1, author=5), events.MuteKeyword(at=1, viewer=1, keyword="a"), request()
    )
    told(viewers, events.Follow(at=2, viewer=1, author=6), events.MuteKeyword(at=1, viewer=1, keyword="b"))
    assert before.relations.followed.tolist() == [5]
    assert list(before.relations.keywords) == ["a"]


def test_an_unknown_viewer_gets_an_empty_query() -> None:
    viewers = some_viewers()
    (query,) = told(viewers, request(viewer="nobody yet"))
    assert len(query.context.history) == 0
    assert len(query.relations.followed) == len(query.seen) == len(query.engaged) == 0
    assert len(viewers) == 0


def test_the_history_of_a_query_is_what_came_before_it() -> None:
    viewers = some_viewers()
    (query,) = told(viewers, events.Engagement(at=NOW - 5000, viewer=1, post=9, author=3, action="favorite"), request())
    assert query.context.history.post.tolist() == [9]
    assert query.engaged.tolist() == [9]
    assert query.context.at_ms == NOW


def test_seen_ids_are_remembered_up_to_the_limit() -> None:
    viewers = some_viewers(seen_max=3)
    told(viewers, request(seen_ids=(1, 2, 3)))
    (query,) = told(viewers, request(seen_ids=(9, 2)))
    assert query.seen.tolist() == [2, 3, 9]


def asked(at_ms: int, viewer: int = 1) -> Request:
    event = events.FeedRequest(at=at_ms, request="r", viewer=viewer)
    return Request(event, viewer, DEFAULTS, Origin("feed-requests", 0, 1), 0.0)


def test_served_posts_are_remembered_for_a_window_and_up_to_a_limit() -> None:
    viewers = some_viewers(served_window_s=600, served_max=4)
    viewers.remember_served(asked(NOW), keys_of([1, 2]))
    viewers.remember_served(asked(NOW + 1000), keys_of([3, 4, 5]))
    assert viewers.served(asked(NOW + 1000)).tolist() == [2, 3, 4, 5]
    assert viewers.served(asked(NOW + 600_000)).tolist() == [2, 3, 4, 5]
    assert viewers.served(asked(NOW + 600_001)).tolist() == [3, 4, 5]
    assert viewers.served(asked(NOW + 601_001)).tolist() == []
    assert viewers.served(asked(NOW, viewer=2)).tolist() == []


def test_a_feed_read_again_after_a_restart_counts_once() -> None:
    viewers = some_viewers(served_max=4)
    viewers.remember_served(asked(NOW), keys_of([1, 2]))
    viewers.remember_served(asked(NOW + 1), keys_of([3, 1]))
    viewers.remember_served(asked(NOW), keys_of([1, 2]))
    viewers.remember_served(asked(NOW + 1), keys_of([3, 1]))
    assert viewers.take_changed().facts[0].served.tolist() == [1, 2, 3, 1]


def test_a_late_request_does_not_make_newer_served_posts_be_forgotten() -> None:
    viewers = some_viewers()
    viewers.remember_served(asked(NOW + 700_000), keys_of([1]))
    viewers.remember_served(asked(NOW), keys_of([2]))
    assert viewers.served(asked(NOW + 800_000)).tolist() == [1]


@pytest.mark.parametrize("instances", [1, 2, 4])
def test_instances_share_the_viewers_and_lose_none(instances: int) -> None:
    made = [events.Engagement(at=NOW, viewer=v, post=1, action="favorite") for v in range(1, 200)]
    made += [events.Follow(at=NOW, viewer=v, author=v + 1) for v in range(1, 200)]  # type: ignore[misc]
    owned, followers, followed = [], [], []
    for k in range(instances):
        ownership = Ownership(k, instances)
        poll = decode(raw(*made), DEFAULTS, ownership)
        assert poll.actions is not None
        owned += poll.actions.slot.tolist()
        followers += [event.viewer for event, from_other, _ in poll.graph if not from_other]
        followed += [event.author for event, from_other, _ in poll.graph if from_other]  # type: ignore[union-attr]
        assert all(ownership.owns(partition) for partition in poll.action_partitions.tolist())
    assert sorted(owned) == sorted(followers) == list(range(1, 200))
    assert sorted(followed) == list(range(2, 201))


def test_bad_requests_are_dead_letters() -> None:
    poll = decode(
        raw(request(viewer=0), request(parameters={"scoring.oon": 1}), request(parameters={"posts.retention_s": 1})),
        DEFAULTS,
        ONE,
    )
    assert [(one.path, one.offset) for one in poll.dead_letters] == [
        ("$.viewer", 1),
        ("$.parameters", 2),
        ("$.parameters", 3),
    ]
    assert "did you mean scoring.oon_factor?" in poll.dead_letters[1].reason
    assert "belongs to the job" in poll.dead_letters[2].reason
