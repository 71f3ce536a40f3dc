"""Viewers leave memory for their store and come back: nobody can tell from what is answered."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.decode import Ownership, decode
from operators.keys import keys_of
from operators.parameters import DEFAULTS
from operators.viewers.query import Query
from operators.viewers.slots import NOBODY, ViewerSlots
from operators.viewers.viewers import Viewers
from schemas import events
from schemas.codec import encode
from schemas.polls import RawPoll

NOW = 1_770_000_000_000
PARTITIONS = 3
SMALL = DEFAULTS.overridden({"history.groups_max": 4, "filters.seen_max": 5, "filters.served_max": 5})
people = st.integers(1, 12) | st.sampled_from(["ada", "bob"])


class Records:
    """A store in memory; `read` counts who was read."""

    def __init__(self) -> None:
        self.records: dict[tuple[int, int], bytes] = {}
        self.read: Counter[int] = Counter()

    def get_many(self, partition: int, viewers: list[int]) -> list[bytes | None]:
        """Return viewers' records."""
        self.read.update(viewers)
        return [self.records.get((partition, viewer)) for viewer in viewers]

    def take(self, viewers: Viewers) -> None:
        """Write what changed."""
        for partition, some in viewers.take_changed().records().items():
            for key, record in some:
                self.records[partition, key] = record


def events_at(at: int) -> st.SearchStrategy[events.Event]:
    """Return a strategy of events that change viewers, or ask about them."""
    return st.one_of(
        st.builds(
            events.Engagement,
            at=st.just(at),
            viewer=people,
            post=st.integers(1, 9),
            author=people,
            action=st.sampled_from(["favorite", "reply"]),
            undo=st.booleans(),
        ),
        st.builds(events.Follow, at=st.just(at), viewer=people, author=people, undo=st.booleans()),
        st.builds(events.Block, at=st.just(at), viewer=people, author=people, undo=st.booleans()),
        st.builds(events.Mute, at=st.just(at), viewer=people, author=people, undo=st.booleans()),
        st.builds(events.MuteKeyword, at=st.just(at), viewer=people, keyword=st.sampled_from(["a b", "c"])),
        st.builds(events.Profile, at=st.just(at), viewer=people, followers=st.integers(0, 99)),
        st.builds(
            events.FeedRequest,
            at=st.just(at),
            request=st.just("r"),
            viewer=people,
            seen_ids=st.lists(st.integers(1, 99), max_size=3).map(tuple),
        ),
    )


@st.composite
def polls(draw: st.DrawFn) -> list[list[events.Event]]:
    """Return polls, each a second after the last; within a poll requests come last."""
    made = []
    for number in range(draw(st.integers(1, 12))):
        poll = draw(st.lists(events_at(NOW + 1000 * number), max_size=6))
        made.append(sorted(poll, key=lambda event: isinstance(event, events.FeedRequest)))
    return made


def told(viewers: Viewers, made: list[events.Event]) -> list[Query]:
    """Let viewers take a poll, and serve each request three posts."""
    count = len(made)
    raw = RawPoll([encode(one) for one in made], ["log"] * count, [0] * count, list(range(count)), 0.0, NOW * 2)
    poll = decode(raw, SMALL, Ownership(partitions=PARTITIONS))
    assert not poll.dead_letters
    queries = viewers.apply(poll.actions, poll.action_partitions, poll.graph, poll.requests)
    for query in queries:
        query.served = viewers.served(query.request)
        viewers.remember_served(query.request, keys_of([query.at_ms % 1009, 2, 3]))
    return queries


def seen_in(query: Query) -> list[object]:
    """Return all that a query says of its viewer, as plain values."""
    history, relations = query.context.history, query.relations
    sets = [getattr(relations, name) for name in relations.__dataclass_fields__ if name.endswith(("ed", "by"))]
    return [
        query.context.key,
        *(getattr(history, name).tolist() for name in history.__dataclass_fields__),
        *(one.tolist() for one in sets),
        {word: tokens.tolist() for word, tokens in relations.keywords.items()},
        (relations.account_created_ms, relations.followers),
        *(one.tolist() for one in (query.seen, query.engaged, query.served)),
    ]


@settings(max_examples=60, deadline=None)
@given(polls(), st.integers(0, 4), st.integers(1, 3))
def test_a_limit_of_memory_changes_no_query(made: list[list[events.Event]], limit: int, polls_per_epoch: int) -> None:
    everybody, records = Viewers(SMALL), Records()
    few = Viewers(SMALL, records)
    for number, poll in enumerate(made):
        expected, found = told(everybody, poll), told(few, poll)
        assert list(map(seen_in, found)) == list(map(seen_in, expected))
        if number % polls_per_epoch == 0:
            records.take(few)
            few.forget_unused(limit, few.epoch)
            assert len(few) <= limit
    asked = [events.FeedRequest(NOW + 10**6, "r", viewer) for viewer in [*range(1, 13), "ada", "bob"]]
    assert list(map(seen_in, told(few, [*asked]))) == list(map(seen_in, told(everybody, [*asked])))


@settings(max_examples=60, deadline=None)
@given(polls(), st.integers(0, 4))
def test_a_process_that_has_only_the_records_goes_on_as_the_one_before(
    made: list[list[events.Event]], cut: int
) -> None:
    straight, before, records = Viewers(SMALL), Viewers(SMALL), Records()
    for poll in made[:cut]:
        told(straight, poll)
        told(before, poll)
    records.take(before)
    after = Viewers(SMALL, records)
    for poll in made[cut:]:
        assert list(map(seen_in, told(after, poll))) == list(map(seen_in, told(straight, poll)))


def test_what_changed_or_was_asked_about_in_an_epoch_stays() -> None:
    records = Records()
    viewers = Viewers(SMALL, records)
    told(viewers, [events.Follow(NOW, viewer, 99) for viewer in range(1, 6)])
    records.take(viewers)
    told(viewers, [events.FeedRequest(NOW, "r", 2), events.FeedRequest(NOW, "r", 4)])
    told(viewers, [events.Follow(NOW, 5, 98)])
    assert viewers.forget_unused(0, viewers.epoch) == 3  # 1, 3 and 99
    assert len(viewers) == 4  # 2 and 4, which were served; 5 and 98, which changed
    records.read.clear()
    told(viewers, [events.FeedRequest(NOW, "r", viewer) for viewer in (2, 4, 5)])
    assert not records.read
    told(viewers, [events.FeedRequest(NOW, "r", viewer) for viewer in (1, 3)])
    assert records.read.keys() == {1, 3}


def test_those_unused_for_longest_leave_first() -> None:
    records = Records()
    viewers = Viewers(SMALL, records)
    for viewer in range(1, 6):
        told(viewers, [events.Profile(NOW, viewer, followers=viewer)])
        records.take(viewers)
    assert viewers.forget_unused(2, viewers.epoch) == 3
    records.read.clear()
    told(viewers, [events.Profile(NOW, viewer, followers=1) for viewer in range(1, 6)])
    assert records.read.keys() == {1, 2, 3}


def test_who_asks_and_is_not_known_is_not_kept() -> None:
    records = Records()
    viewers = Viewers(SMALL, records)
    viewers.query(decoded(events.FeedRequest(NOW, "r", 7)))
    assert len(viewers) == 0
    assert viewers.take_changed().records() == {}


def decoded(event: events.FeedRequest):  # type: ignore[no-untyped-def]
    """Return a request as a poll brings it."""
    raw = RawPoll([encode(event)], ["log"], [0], [0], 0.0, NOW * 2)
    return decode(raw, SMALL, Ownership(partitions=PARTITIONS)).requests[0]


def test_slots_are_given_to_others_once_they_are_free() -> None:
    slots = ViewerSlots()
    given_out = [int(slots.give(keys_of([key]), np.array([key % 5]))[0]) for key in range(1, 201)]
    given_out += slots.give(keys_of(range(201, 301)), np.arange(201, 301) % 5).tolist()
    assert sorted(given_out) == list(range(NOBODY + 1, 301))
    assert slots.find(keys_of([1, 300, 301])).tolist() == [given_out[0], given_out[-1], -1]
    slots.release(np.array(given_out[:100]))
    assert len(slots) == 200
    assert slots.find_one(1) == NOBODY
    again = slots.give(keys_of(range(1001, 1101)), np.zeros(100, np.int64)).tolist()
    assert sorted(again) == sorted(given_out[:100])
    assert slots.keys[again].tolist() == list(range(1001, 1101))
    assert slots.partitions[given_out[-1]] == 300 % 5
