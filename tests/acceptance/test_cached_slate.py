"""The cached slate in the whole flow: the second request asks no model, and is ranked again by today's weights."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.replay import Replay, merge, replay
from models.phoenix import Phoenix
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Value
from operators.pipeline.scorers.value import squeezed
from schemas.events import Event, FeedRequest, PostCreated, PostDeleted, UserDeleted
from schemas.feeds import Feed
from tests.acceptance.playing import HOUR, MINUTE, SECOND, T0, Played, Player, outputs, write_log

POSTS: list[Event] = [PostCreated(T0 + number, number, 900 + number) for number in range(1, 61)]
# A slate of sixty will do; what was shown a moment ago comes again, one post an author, nothing chosen for diversity.
ON: dict[str, Value] = {"cached_slate.enabled": True, "cached_slate.candidates_min": 50}
PLAIN: dict[str, Value] = {"filters.previously_served": False, "dpp.enabled": False}


def ask(name: str, at_ms: int, viewer: int = 7, **parameters: bool | int | float | str) -> FeedRequest:
    named = {name.replace("__", "."): value for name, value in parameters.items()}
    return FeedRequest(at_ms, name, viewer, limit=60, explain=True, parameters=named)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the model is asked, as it is asked."""
    found: list[str] = []

    def counted(name: str) -> None:
        plain = getattr(Phoenix, name)

        def call(self: Phoenix, *args: Any) -> Any:
            found.append(name)
            return plain(self, *args)

        monkeypatch.setattr(Phoenix, name, call)

    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    counted("rank")
    counted("embed_viewer")
    return found


def outcome(feed: Feed) -> dict[int, dict[str, float]]:
    return {int(item.post): item.explanation.probabilities for item in feed.items if item.explanation is not None}


def by_hand(outputs_of: dict[int, dict[str, float]], **weights: float) -> list[tuple[int, float]]:
    """Return posts and scores, best first: the weighted sum, its offset, and .75 for strangers."""
    used = DEFAULTS.overridden({f"weights.{name}": value for name, value in weights.items()}).weights
    scores = {}
    for post, said in outputs_of.items():
        weighted = 0.0
        for name, value in said.items():
            weighted += getattr(used, name) * value * (name != "vqv")  # no post has a video
        scores[post] = float(squeezed(np.array([weighted]), used, 0.001)[0]) * 0.75
    return sorted(scores.items(), key=lambda one: (-one[1], -one[0]))


def ranked(feed: Feed) -> list[tuple[int, float]]:
    return [(int(item.post), item.score) for item in feed.items]


def test_a_second_request_is_ranked_again_without_the_model(play: Player, calls: list[str]) -> None:
    first, second = ask("first", T0 + MINUTE), ask("second", T0 + 4 * MINUTE)
    feeds = play([*POSTS, first, second], ON | PLAIN).feeds
    assert calls == ["embed_viewer", "rank"]
    assert "cached_slate" not in {item.source for item in feeds["first"].items}
    assert {item.source for item in feeds["second"].items} == {"cached_slate"}
    assert [item.why for item in feeds["second"].items] == [item.why for item in feeds["first"].items]
    assert len(feeds["second"].items) == 60
    assert outcome(feeds["second"]) == outcome(feeds["first"])
    assert ranked(feeds["second"]) == by_hand(outcome(feeds["first"]))
    asked = [stage.stage for stage in feeds["second"].stages if stage.stage.startswith("source.")]
    assert asked == ["source.cached_slate"]
    assert feeds["second"].model == feeds["first"].model
    assert not feeds["second"].degraded


def test_other_weights_give_another_order(play: Player, calls: list[str]) -> None:
    other = {"favorite": 30.0, "report": -1.0, "mute_author": -1.0}
    second = ask("second", T0 + 2 * MINUTE, **{f"weights__{name}": value for name, value in other.items()})
    feeds = play([*POSTS, ask("first", T0 + MINUTE), second], ON | PLAIN).feeds
    assert calls == ["embed_viewer", "rank"]
    assert ranked(feeds["second"]) == by_hand(outcome(feeds["first"]), **other)
    assert [post for post, _ in ranked(feeds["second"])] != [post for post, _ in ranked(feeds["first"])]


@pytest.mark.parametrize(("later_s", "models"), [(180, 1), (181, 2)])
def test_three_minutes_later_the_model_is_asked_again(
    play: Player, calls: list[str], later_s: int, models: int
) -> None:
    played = play([*POSTS, ask("first", T0 + MINUTE), ask("second", T0 + MINUTE + later_s * SECOND)], ON | PLAIN)
    assert calls.count("rank") == models
    sources = {item.source for item in played.feeds["second"].items}
    assert ("cached_slate" in sources) == (models == 1)


@pytest.mark.parametrize(
    ("parameters", "models"),
    [({}, 1), ({"cached_slate.candidates_min": 61}, 2), ({"cached_slate.kept_max": 49}, 2),
     ({"cached_slate.enabled": False}, 2)],
)  # fmt: skip
def test_a_short_slate_is_none(play: Player, calls: list[str], parameters: dict[str, Value], models: int) -> None:
    play([*POSTS, ask("first", T0 + MINUTE), ask("second", T0 + 2 * MINUTE)], ON | PLAIN | parameters)
    assert calls.count("rank") == models


def test_what_has_happened_since_counts(play: Player) -> None:
    # Served and deleted posts are gone from the slate; new ones are not in it.
    since: list[Event] = [PostDeleted(T0 + MINUTE, 60, 960), PostCreated(T0 + MINUTE, 99, 999)]
    first = FeedRequest(T0 + MINUTE, "first", 7, limit=10)
    feeds = play([*POSTS, first, *since, ask("second", T0 + 2 * MINUTE)], ON | {"dpp.enabled": False}).feeds
    shown = {item.post for item in feeds["first"].items}
    assert {item.post for item in feeds["second"].items} == set(range(1, 60)) - shown
    assert {item.source for item in feeds["second"].items} == {"cached_slate"}


def test_an_earlier_request_that_is_still_at_the_ranker_is_waited_for(
    play: Player, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = Phoenix.rank

    def slow(self: Phoenix, *args: Any) -> Any:
        time.sleep(0.2)
        return rank(self, *args)

    monkeypatch.setattr(Phoenix, "rank", slow)
    feeds = play([*POSTS, ask("first", T0 + MINUTE), ask("second", T0 + MINUTE)], ON | PLAIN).feeds
    assert calls.count("rank") == 1
    assert ranked(feeds["second"]) == ranked(feeds["first"])


def test_where_the_model_failed_there_is_no_slate(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    rank, asked = Phoenix.rank, []

    def fails_once(self: Phoenix, *args: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("the model is broken on purpose")
        return rank(self, *args)

    monkeypatch.setattr(Phoenix, "warm_up", lambda *_: None)
    monkeypatch.setattr(Phoenix, "rank", fails_once)
    feeds = play([*POSTS, ask("first", T0 + MINUTE), ask("second", T0 + 2 * MINUTE)], ON | PLAIN).feeds
    assert feeds["first"].degraded == ("phoenix",)
    assert "cached_slate" not in {item.source for item in feeds["second"].items}
    assert not feeds["second"].degraded


def test_a_deleted_user_leaves_no_slate(play: Player) -> None:
    gone = [UserDeleted(T0 + MINUTE, 901), UserDeleted(T0 + MINUTE, 7)]
    played = play([*POSTS, ask("first", T0 + MINUTE), *gone, ask("second", T0 + 2 * MINUTE)], ON | PLAIN)
    assert list(played.feeds) == ["first"]
    assert [letter.reason for letter in played.dead_letters] == ["the viewer was deleted"]


def _instances(what: Replay, count: int, out: Path) -> dict[str, bytes]:
    parts = [replace(what, out=out / f"{count}-{k}", ownership=Ownership(k, count)) for k in range(count)]
    for part in parts:
        replay(part)
    merge([part.out for part in parts], out / f"{count}")
    return outputs(out / f"{count}")


def _often(viewers: Iterable[int]) -> list[FeedRequest]:
    """Return requests of viewers by turns, some of whom come again at once and some after too long."""
    return [
        FeedRequest(T0 + HOUR + turn * 50 * SECOND + viewer, f"{viewer}-{turn}", viewer, limit=5)
        for turn in range(6)
        for viewer in viewers
        for _ in range(1 + viewer % 2)
    ]


@pytest.mark.full
def test_instances_and_threads_make_no_difference(checkpoint: Path, tmp_path: Path) -> None:
    # With room for one viewer a partition, some of forty drive each other out: the same ones everywhere.
    log = write_log(tmp_path / "log.jsonl", [*POSTS, *_often(range(1, 41))])
    few = ON | {"cached_slate.candidates_min": 20, "cached_slate.viewers_max": 16}
    what = Replay(log, tmp_path / "one", checkpoint, DEFAULTS.overridden(few))
    sources = Played(what.out, replay(what)).summary.sources
    assert sources["cached_slate"] > 50
    assert len(sources) > 1
    expected = outputs(what.out)
    for count in (2, 4):
        assert _instances(what, count, tmp_path) == expected
    for threads in (1, 4):
        again = replace(what, out=tmp_path / f"threads-{threads}", threads=threads)
        replay(again)
        assert outputs(again.out) == expected
