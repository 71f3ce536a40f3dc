"""Requests that wait: in their order, with as many as there is room for, and what is no request in nobody's way."""

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.waiting import READ_AHEAD, WaitingRequests
from schemas.codec import encode
from schemas.events import FeedRequest, Follow

VIEWER = 7
GOOD = encode(FeedRequest(1, "r", VIEWER))


def message(good: bool, offset: int = 0) -> Message:
    return Message(topic="feed-requests", partition=0, offset=offset, key=b"7", value=GOOD if good else b"{")


def offsets(messages: list[Message]) -> list[int]:
    return [int(one.offset() or 0) for one in messages]


@pytest.mark.parametrize(
    ("key", "value"), [(b"8", GOOD), (None, GOOD), (b"7", None), (b"7", b"["), (b"7", encode(Follow(1, VIEWER, 9)))]
)
def test_what_is_no_request_under_its_key_takes_no_room(key: bytes | None, value: bytes | None) -> None:
    waiting = WaitingRequests(2)
    waiting.add([Message(topic="feed-requests", partition=0, offset=0, key=key, value=value)])
    assert len(waiting) == 0
    assert offsets(waiting.take(0)[0]) == [0]


def test_the_oldest_are_too_many() -> None:
    waiting = WaitingRequests(2)
    waiting.add([message(good, offset) for offset, good in enumerate([True, False, True, True, False, True])])
    taken, shed = waiting.take(0)
    # Four wait where two may: the first two go, with the bad one between them.
    assert (offsets(taken), shed, len(waiting)) == ([0, 1, 2], 3, 2)
    taken, shed = waiting.take(1)
    assert (offsets(taken), shed, len(waiting)) == ([3, 4], 0, 1)


def test_a_queue_stands_once_some_have_waited_without_a_break_for_long() -> None:
    now_s = [100.0]
    waiting = WaitingRequests(9, interval_s=0.5, clock=lambda: now_s[-1])
    standing = []
    # Seconds, how many come, how many are taken: it is empty again at 100.4, and at 101.4.
    turns = [(100.0, 3, 1), (100.4, 0, 2), (100.4, 1, 0), (100.9, 1, 1), (101.0, 1, 1), (101.2, 0, 0), (101.4, 0, 1)]
    for at_s, come, room in turns:
        now_s.append(at_s)
        waiting.add([message(True)] * come)
        waiting.take(room)
        standing.append(waiting.standing)
    assert standing == [False, False, False, False, True, True, False]
    never = WaitingRequests(9, clock=lambda: now_s[-1])
    never.add([message(True)])
    never.take(0)
    now_s.append(1e9)
    assert not never.standing


@given(st.lists(st.tuples(st.lists(st.booleans(), max_size=9), st.integers(0, 4)), max_size=30), st.integers(1, 5))
def test_nothing_is_lost_and_nothing_overtakes(turns: list[tuple[list[bool], int]], waiting_max: int) -> None:
    waiting, sent, given_out = WaitingRequests(waiting_max), 0, 0
    goods: list[bool] = []
    for come, room in turns:
        some = come[: max(0, waiting.room())]
        waiting.add([message(good, sent + place) for place, good in enumerate(some)])
        goods += some
        sent += len(some)
        before = len(waiting)
        taken, shed = waiting.take(room)
        assert offsets(taken) == list(range(given_out, given_out + len(taken)))
        kept_from = [goods[offset] for offset in offsets(taken)]
        assert sum(kept_from[:shed]) == max(0, before - waiting_max)
        assert sum(kept_from[shed:]) == min(room, before - sum(kept_from[:shed]))
        given_out += len(taken)
        assert len(waiting) == sum(goods[given_out:]) <= waiting_max
        assert sent - given_out <= READ_AHEAD * (waiting_max + 1)
