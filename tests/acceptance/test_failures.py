"""A component that fails is passed over: the feed goes out, says what it went without, and the rest is as before."""

import dataclasses
from typing import Any

import pytest

import operators.slate
from models.phoenix import Phoenix
from operators.parameters import Value
from operators.pipeline import selection
from operators.pipeline.filters import PRE_SCORING, Filter
from operators.pipeline.surfaces import SURFACES
from operators.posts.thunder import Thunder
from schemas.events import Event, FeedRequest, Follow, PostCreated
from tests.acceptance.playing import T0, Player

AUTHOR, STRANGER = 10, 20
LOG: tuple[Event, ...] = (
    Follow(T0, 1, AUTHOR),
    *(PostCreated(T0 + number, number, AUTHOR if number % 2 else STRANGER) for number in range(1, 21)),
    FeedRequest(T0 + 100, "known", 1, explain=True),
    FeedRequest(T0 + 100, "unknown", 2),
)


def fails(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("this component is broken on purpose")


# Nothing to fall back on.
ALONE: dict[str, Value] = {"fallback.enabled": False}


def test_without_the_ranker_the_newest_come_first(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phoenix, "rank", fails)
    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    played = play(LOG)
    for feed in played.feeds.values():
        assert feed.degraded == ("phoenix",)
        assert [item.post for item in feed.items] == list(range(20, 0, -1))
        assert {item.score for item in feed.items} == {0.0}
        assert all("newest first" in item.why and item.explanation is None for item in feed.items)
    assert played.summary.degraded == {"phoenix": 2}


def test_without_thunder_retrieval_finds_the_posts(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thunder, "newest", fails)
    played = play(LOG)
    feed = played.feeds["known"]
    assert feed.degraded == ("source.thunder",)
    assert {item.source for item in feed.items} == {"phoenix_retrieval"}
    assert {item.post for item in feed.items if item.in_network} == set(range(1, 21, 2))
    assert played.shown("known") == set(range(1, 21))


def test_without_retrieval_the_network_is_left(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phoenix, "embed_viewer", fails)
    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    played = play(LOG, ALONE)
    assert {feed.degraded for feed in played.feeds.values()} == {("source.phoenix_retrieval",)}
    assert played.shown("known") == set(range(1, 21, 2))
    assert played.posts("unknown") == []


def test_without_retrieval_who_follows_nobody_gets_what_is_new(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phoenix, "embed_viewer", fails)
    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    played = play(LOG)
    assert played.shown("unknown") == set(range(1, 21))
    assert {item.source for item in played.feeds["unknown"].items} == {"fresh"}


def test_without_any_source_an_empty_feed_goes_out(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thunder, "newest", fails)
    monkeypatch.setattr(Phoenix, "embed_viewer", fails)
    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    played = play(LOG, ALONE)
    assert played.feeds["known"].degraded == ("source.thunder", "source.phoenix_retrieval")
    assert played.posts("known") == []


def test_a_filter_that_fails_drops_nothing(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(LOG)

    def broken(_query: object, _table: object) -> Any:
        """Fail."""
        return fails()

    def short(_query: object, _table: object) -> Any:
        """Answer for one row where there are many."""
        import numpy as np

        return np.ones(1, np.bool_)

    chain = (Filter(broken, "this test"), *PRE_SCORING, Filter(short, "this test"))
    monkeypatch.setitem(SURFACES, "for_you", dataclasses.replace(SURFACES["for_you"], filters=chain))
    played = play(LOG)
    for request, feed in played.feeds.items():
        assert feed.degraded == ("filter.broken", "filter.short")
        # Explanations say which filters failed on the post; else all is as it was.
        assert [(item.post, item.score) for item in feed.items] == [
            (item.post, item.score) for item in expected.feeds[request].items
        ]


def test_a_last_filter_that_fails_drops_nothing(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(LOG)
    broken = selection.PostSelection(fails_like_a_filter, "this test", "")
    last = (broken, *selection.POST_SELECTION)
    monkeypatch.setitem(SURFACES, "for_you", dataclasses.replace(SURFACES["for_you"], post_selection=last))
    played = play(LOG)
    for request, feed in played.feeds.items():
        assert feed.degraded == ("filter.fails_like_a_filter",)
        assert feed.items == expected.feeds[request].items


def fails_like_a_filter(_query: object, _table: object, _scores: object) -> Any:
    """Fail."""
    return fails()


def test_scorers_that_fail_leave_the_newest_first(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.slate, "score", fails)
    feed = play(LOG).feeds["known"]
    assert feed.degraded == ("scorers",)
    assert [item.post for item in feed.items] == list(range(20, 0, -1))


def test_one_failure_leaves_the_next_request_alone(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(LOG)
    rank, calls = Phoenix.rank, []

    def fails_once(self: Phoenix, *args: Any) -> Any:
        calls.append(1)
        return fails() if len(calls) == 1 else rank(self, *args)

    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    monkeypatch.setattr(Phoenix, "rank", fails_once)
    played = play(LOG)
    assert sorted(feed.degraded for feed in played.feeds.values()) == [(), ("phoenix",)]
    (whole,) = [feed for feed in played.feeds.values() if not feed.degraded]
    assert whole == expected.feeds[whole.request]
