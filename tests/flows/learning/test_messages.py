"""What trainers read of a served feed is what its ranker was given, to the bit; what can't be is refused."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from flows.example_columns import LABELLED, MAY_LACK
from flows.example_files import SCHEMA
from flows.learning.messages import decode_example, decode_features, example_of, labelled
from flows.replay import FEEDS, SERVED_FEATURES, Replay, replay
from models.inputs import Candidates, Context, History
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from operators.viewers.query import Request
from schemas.codec import Refused, encode
from schemas.events import Engagement, FeedRequest, Follow, PostCreated
from schemas.feeds import Feed
from schemas.ids import key_of
from schemas.learning import ServedFeatures
from tests.acceptance.playing import MINUTE, T0, Played, decoded

LEARNING = {"learning.features_enabled": True}
Seen = dict[tuple[int, int], tuple[Context, Candidates]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Note what the ranker is given, by viewer and time."""
    found: Seen = {}
    rank = Phoenix.rank

    def noting(self: Phoenix, context: Context, candidates: Candidates) -> Any:
        found[context.key, context.at_ms] = context, candidates
        return rank(self, context, candidates)

    monkeypatch.setattr(Phoenix, "rank", noting)
    return found


def features_in(out: Path) -> list[ServedFeatures]:
    return [decode_features(line) for line in (out / SERVED_FEATURES).read_bytes().splitlines()]


def same_bits(one: History | Candidates, other: History | Candidates) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


def test_trainers_read_what_the_ranker_saw(rough_log: Path, checkpoint: Path, tmp_path: Path, seen: Seen) -> None:
    replay(Replay(rough_log, tmp_path / "out", checkpoint, DEFAULTS.overridden(LEARNING)))
    feeds = {one.request: one for one in decoded(tmp_path / "out" / FEEDS, Feed)}
    told = features_in(tmp_path / "out")
    assert len(told) == sum(bool(feed.items) for feed in feeds.values()) > 30
    reposts = histories = 0
    for features in told:
        feed = feeds[features.request]
        assert features.posts == tuple(item.post for item in feed.items)
        assert (features.model, features.served_at) == (feed.model, feed.at)
        message = labelled(features, feed.at + 1, [0] * len(features.posts), [0.0] * len(features.posts))
        example = example_of(decode_example(encode(message)))
        context, candidates = seen[key_of(features.viewer), features.at]
        assert same_bits(example.context.history, context.history)
        assert example.context.counts.tobytes() == context.counts.tobytes()
        assert (example.context.key, example.context.surface) == (context.key, context.surface)
        rows = [candidates.post.tolist().index(post) for post in example.posts.post.tolist()]
        assert same_bits(example.posts, candidates.take(np.array(rows)))
        originals = [key_of(item.post if item.repost_of is None else item.repost_of) for item in feed.items]
        assert example.posts.post.tolist() == originals
        reposts += sum(item.repost_of is not None for item in feed.items)
        histories += len(context.history) > 0
    assert reposts > 3
    assert histories > 20


def test_without_the_parameter_nothing_is_logged(play: Callable[..., Played]) -> None:
    played = play([PostCreated(T0, 1, 10), FeedRequest(T0 + MINUTE, "r", 5)])
    assert played.posts("r") == [1]
    assert not (played.out / SERVED_FEATURES).exists()


def test_only_feeds_that_are_ranked_for_themselves_have_features(play: Callable[..., Played]) -> None:
    posts = [Follow(T0, 5, 10), *(PostCreated(T0 + one, one, 10) for one in range(1, 7))]
    asked = [
        FeedRequest(T0 + MINUTE, "scores", 5, feed="score_posts", posts=(1, 2)),
        FeedRequest(T0 + MINUTE, "newest first", 5, feed="following"),
        FeedRequest(T0 + MINUTE, "best of followed", 5, feed="following_ranked", limit=2),
        FeedRequest(T0 + MINUTE, "first", 5, limit=2),
        FeedRequest(T0 + MINUTE + 1, "from a slate", 5, limit=2),
    ]
    cached = {"cached_slate.enabled": True, "cached_slate.candidates_min": 1}
    played = play([*posts, *asked], {**LEARNING, **cached})
    assert len(played.posts("from a slate")) == 2
    assert [one.request for one in features_in(played.out)] == ["best of followed", "first"]


def test_late_feeds_have_the_features_that_the_model_would_have_seen(
    play: Callable[..., Played], seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [Follow(T0, 5, 10), *(PostCreated(T0 + one, one, 10, topics=("sea",)) for one in range(1, 7))]
    liked = [Engagement(T0 + 100 + one, 5 + one, one, "favorite") for one in range(1, 4)]
    asked = FeedRequest(T0 + MINUTE, "r", 5)
    log = [*posts, Engagement(T0 + 50, 5, 6, "dwell", dwell_s=3.0), *liked, asked]
    in_time = play(log, LEARNING).posts("r")
    context, candidates = seen.pop((5, asked.at))
    asks: list[Request] = []
    monkeypatch.setattr(Request, "is_late", lambda self: asks.append(self) is None)
    late = play([*log, FeedRequest(T0 + 2 * MINUTE, "followed", 5, feed="following")], LEARNING)
    assert late.feeds["r"].degraded == ("deadline",)
    assert (5, asked.at) not in seen, "no model was asked"
    assert [one.event.request for one in asks] == ["r", "followed"], "who begins in time is not late halfway"
    (features,) = features_in(late.out)
    assert set(features.posts) == set(in_time) == {1, 2, 3, 4, 5}
    message = labelled(features, T0 + 2 * MINUTE, [0] * 5, [0.0] * 5)
    example = example_of(decode_example(encode(message)))
    assert same_bits(example.context.history, context.history)
    assert example.context.counts.tobytes() == context.counts.tobytes()
    rows = [candidates.post.tolist().index(post) for post in example.posts.post.tolist()]
    assert same_bits(example.posts, candidates.take(np.array(rows)))


# Format 1 of files and messages, written down apart from the table: names, order, kinds in NumPy's and Polars' words,
# and how many entries there are a row. What changes here is another format.
FORMAT_1: dict[str, tuple[str, Any, int]] = {
    "viewer_counts": ("<u4", pl.UInt32, 11),
    "history_post": ("<u8", pl.UInt64, 1),
    "history_author": ("<u8", pl.UInt64, 1),
    "history_terms": ("<u2", pl.UInt16, 4),
    "history_actions": ("<u4", pl.UInt32, 1),
    "history_dwell_s": ("<f4", pl.Float32, 1),
    "history_surface": ("|u1", pl.UInt8, 1),
    "history_at_ms": ("<i8", pl.Int64, 1),
    "posts_post": ("<u8", pl.UInt64, 1),
    "posts_author": ("<u8", pl.UInt64, 1),
    "posts_terms": ("<u2", pl.UInt16, 4),
    "posts_created_ms": ("<i8", pl.Int64, 1),
    "posts_followed": ("|b1", pl.Boolean, 1),
    "posts_has_video": ("|b1", pl.Boolean, 1),
    "posts_counts": ("<u4", pl.UInt32, 10),
    "posts_co_liked": ("<u4", pl.UInt32, 4),
    "label_actions": ("<u4", pl.UInt32, 1),
    "label_dwell_s": ("<f4", pl.Float32, 1),
}


def test_columns_of_messages_and_files_are_those_of_their_format() -> None:
    assert {name: tuple(kind) for name, kind in LABELLED.items()} == {
        name: (kind, many) for name, (kind, _, many) in FORMAT_1.items()
    }
    of_request = ["viewer", "at_ms", "surface", "shown"]
    assert list(SCHEMA) == [*of_request, *FORMAT_1]
    assert {name: SCHEMA[name] for name in FORMAT_1} == {name: pl.List(kind) for name, (_, kind, _) in FORMAT_1.items()}
    assert {"posts_counts", "posts_co_liked"} == MAY_LACK


@pytest.fixture
def good(play: Callable[..., Played]) -> ServedFeatures:
    likes = [Engagement(T0 + 2, 5, 1, "favorite"), Engagement(T0 + 3, 5, 2, "dwell_time", dwell_s=2.5)]
    played = play([*(PostCreated(T0, one, 10) for one in range(1, 5)), *likes, FeedRequest(T0 + 9, "r", 5)], LEARNING)
    (one,) = features_in(played.out)
    assert set(one.posts) == {3, 4}, "the others were acted on"
    return one


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("posts_author", b"12345678", "$.columns.posts_author: 8 bytes; 2 entries of 8 bytes are needed"),
        ("viewer_counts", b"", "$.columns.viewer_counts: 0 bytes"),
        ("history_dwell_s", np.array([np.nan, 1], "<f4").tobytes(), "$.columns.history_dwell_s: it holds nan"),
        ("history_dwell_s", np.array([1, -1], "<f4").tobytes(), "$.columns.history_dwell_s: it holds -1.0"),
        ("posts_followed", b"\x00\x02", "$.columns.posts_followed: it holds 2; values are below 2"),
        ("history_surface", b"\x00\x10", "$.columns.history_surface: it holds 16; values are below 16"),
        ("history_post", b"1234567", "$.columns.history_post: 7 bytes"),
        ("label_actions", b"", "$.columns.label_actions: no such column"),
        ("posts_terms", None, "$.columns.posts_terms: column is missing"),
    ],
)
def test_columns_that_cannot_be_are_refused(
    good: ServedFeatures, column: str, value: bytes | None, reason: str
) -> None:
    columns = {name: raw for name, raw in {**good.columns, column: value}.items() if raw is not None}
    with pytest.raises(Refused) as refused:
        decode_features(encode(msgspec.structs.replace(good, columns=columns)))
    assert str(refused.value).startswith(reason)


def test_messages_that_cannot_be_are_refused(good: ServedFeatures) -> None:
    raw = encode(good)
    for bad, reason in (
        (raw[:-5], "$: not JSON"),
        (b"[" * 100_000, "$: Expected `object`, got `array`"),
        (b'{"kind":"served_features"}', "$: Object missing required field `at`"),
        (encode(msgspec.structs.replace(good, posts=())), "$.posts: no posts"),
        (encode(msgspec.structs.replace(good, surface=16)), "$.surface: surface 16"),
        (encode(labelled(good, 1, [0, 0], [0, 0])), "$.kind: Invalid value 'training_example'"),
    ):
        with pytest.raises(Refused) as refused:
            decode_features(bad)
        assert str(refused.value).startswith(reason)
    with pytest.raises(Refused, match="it holds inf"):
        decode_example(encode(labelled(good, 1, [0, 0], [0, float("inf")])))


def test_counts_of_nobody_may_lack(good: ServedFeatures) -> None:
    columns = {**good.columns, "posts_counts": b"", "posts_co_liked": b""}
    message = labelled(msgspec.structs.replace(good, columns=columns), 1, [1, 0], [0, 1.5])
    example = example_of(decode_example(encode(message)))
    assert (len(example.posts.counts), len(example.posts.co_liked)) == (0, 0)
    assert (example.actions.tolist(), example.dwell_s.tolist()) == ([1, 0], [0.0, 1.5])
