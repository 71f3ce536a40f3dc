"""Which slate is there when a request comes: by kind, time and place in the order of requests."""

import threading

import numpy as np
import pytest

from operators.parameters import DEFAULTS
from operators.pipeline.reranking import kept, kind_of, promised, slate_for
from operators.pipeline.scorers import HEADS
from operators.viewers.cached_slates import CachedSlate, CachedSlates
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

ON = DEFAULTS.overridden({"cached_slate.enabled": True, "cached_slate.candidates_min": 2})
PLAIN = (1,)


def slate(*posts: int) -> CachedSlate:
    keys = np.array(posts, np.uint64)
    return CachedSlate(keys, np.zeros(len(posts), np.uint8), np.zeros((len(posts), len(HEADS)), np.float32), "m")


def slates_with(viewer: int = VIEWER, at_ms: int = NOW_MS, viewers_max: int = 16) -> CachedSlates:
    slates = CachedSlates(viewers_max, 16)
    slates.promise(3, viewer, PLAIN, at_ms).end(slate(1, 2))
    return slates


@pytest.mark.parametrize(("later_s", "there"), [(0, True), (180, True), (180.001, False), (-1, False)])
def test_a_slate_holds_for_three_minutes(later_s: float, there: bool) -> None:
    found = slates_with().find(3, VIEWER, PLAIN, NOW_MS + int(later_s * 1000), 180)
    assert (found is not None) == there


def test_it_is_the_viewers_own_and_of_the_same_kind() -> None:
    slates = slates_with()
    assert slates.find(3, VIEWER + 1, PLAIN, NOW_MS, 180) is None
    assert slates.find(4, VIEWER, PLAIN, NOW_MS, 180) is None
    assert slates.find(3, VIEWER, (2,), NOW_MS, 180) is None
    slates.forget(VIEWER)
    assert slates.find(3, VIEWER, PLAIN, NOW_MS, 180) is None
    assert len(slates) == 0


def test_a_promise_that_ends_without_a_slate_leaves_none() -> None:
    slates = slates_with()
    promise = slates.promise(3, VIEWER, PLAIN, NOW_MS)
    promise.end()
    promise.end(slate(1))
    assert slates.find(3, VIEWER, PLAIN, NOW_MS, 180) is None


def test_who_asks_waits_for_the_ranker() -> None:
    slates = CachedSlates(16, 16)
    promise = slates.promise(3, VIEWER, PLAIN, NOW_MS)
    ranker = threading.Timer(0.05, promise.end, (slate(1, 2, 3),))
    ranker.start()
    found = slates.find(3, VIEWER, PLAIN, NOW_MS, 180)
    ranker.join()
    assert found is not None
    assert len(found) == 3


def test_each_partition_has_its_share_and_the_oldest_promise_goes() -> None:
    # 32 over 16 partitions are 2 each, whoever owns which.
    slates = CachedSlates(32, 16)
    for viewer in (1, 2, 1, 3):
        slates.promise(0, viewer, PLAIN, NOW_MS).end(slate(viewer))
    slates.promise(1, 4, PLAIN, NOW_MS).end(slate(4))
    there = [viewer for viewer in (1, 2, 3) if slates.find(0, viewer, PLAIN, NOW_MS, 180) is not None]
    assert there == [1, 3], "1 was promised again after 2"
    assert len(slates) == 3


def asked(parameters: dict[str, bool | int | float | str] | None = None, **switches: object) -> Query:
    event = FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, **switches)  # type: ignore[arg-type]
    return query(parameters=ON.overridden(dict(parameters or {})), event=event)


def test_what_makes_requests_of_another_kind() -> None:
    plain = kind_of(asked())
    others = [
        asked(surface=2), asked(in_network_only=True), asked(topics=("a",)), asked(excluded_topics=("a",)),
        asked(exclude_videos=True), asked({"models.cluster": "b"}), asked({"hybrid.reply": "b"}),
    ]  # fmt: skip
    assert len({kind_of(one) for one in others} | {plain}) == 8
    assert kind_of(asked({"weights.favorite": 9.0}, limit=5, bottom=True, explain=True, seen_ids=(1,))) == plain


def test_only_who_asks_for_it_gets_and_leaves_a_slate() -> None:
    slates = CachedSlates(16, 16)
    off = query()
    assert promised(off, slates) is None
    one = asked()
    promise = promised(one, slates)
    assert promise is not None
    promise.end(slate(1, 2))
    assert slate_for(off, slates) is None
    one.slate = slate_for(asked(), slates)
    assert one.slate is not None
    assert promised(one, slates) is None, "what is answered from a slate does not make it live longer"
    assert slate_for(asked({"cached_slate.candidates_min": 3}), slates) is None


def test_the_best_by_weighted_score_are_kept_with_their_outputs() -> None:
    # Likes of .1 to .5, half of each: all above 0. A post that is all report sums to -367.22 at least: squeezed to 0.
    outputs = np.zeros((6, len(HEADS)), np.float32)
    outputs[:5, 0] = [0.3, 0.1, 0.5, 0.2, 0.4]
    for name in ("not_interested", "block_author", "mute_author", "report"):
        outputs[5, ACTION_INDEX[name]] = 1.0
    rows = table(post=[1, 2, 3, 4, 5, 6], source=[0, 1, 0, 1, 0, 1])
    every = kept(asked({"weights.not_dwelled": 0.0}), rows, outputs, "m")
    assert every.posts.tolist() == [3, 5, 1, 4, 2]
    three = kept(asked({"cached_slate.kept_max": 3}), rows, outputs, "m")
    assert three.posts.tolist() == [3, 5, 1]
    assert three.sources.tolist() == [0, 0, 0]
    assert three.outputs[:, 0].tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert three.model == "m"
    assert three.places(np.array([1, 3], np.uint64)).tolist() == [2, 0]


@pytest.mark.parametrize("feed", ["following", "following_ranked", "score_posts"])
def test_only_for_you_has_slates(feed: str) -> None:
    slates = CachedSlates(16, 16)
    promise = promised(asked(), slates)
    assert promise is not None
    promise.end(slate(1, 2))
    assert slate_for(asked(), slates) is not None
    assert slate_for(asked(feed=feed), slates) is None
    assert promised(asked(feed=feed), slates) is None
