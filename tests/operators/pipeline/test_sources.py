"""What each source brings, and for whom the fallback is."""

import numpy as np
import pytest

from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS, Parameters
from operators.pipeline.candidates import SOURCES, CandidateTable
from operators.pipeline.runner import Accounting
from operators.pipeline.sources import IN_ORDER, gather
from operators.posts.co_likers import CoLikers
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.viewers.relations import Relations
from schemas.actions import ACTION_INDEX
from schemas.events import FeedRequest, PostCreated
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query

ALONE = DEFAULTS.overridden({"retrieval.enabled": False})


@pytest.fixture(scope="module")
def model(tiny: PhoenixConfig) -> Phoenix:
    return Phoenix.untrained(tiny)


@pytest.fixture
def posts() -> LivePosts:
    """Return ten posts: 1 to 8 originals by 101 to 108, 9 a reply, 10 a repost; post 3 is liked most, then 5."""
    live = LivePosts(PostTable(), co_likers=CoLikers())
    live.apply([PostCreated(NOW_MS - 1000 + post, post, 100 + post) for post in range(1, 9)])
    live.apply([PostCreated(NOW_MS - 500, 9, 109, reply_to=1), PostCreated(NOW_MS - 400, 10, 110, repost_of=1)])
    liked = np.array([3, 3, 3, 5, 5], np.uint64)
    live.counts.add(liked, np.full(5, ACTION_INDEX["favorite"]), np.ones(5, np.int64))
    return live


def brought(
    live: LivePosts,
    model: Phoenix,
    parameters: Parameters = ALONE,
    event: FeedRequest | None = None,
    follows: tuple[int, ...] = (),
) -> dict[str, list[int]]:
    """Return the posts of each source that a request for viewer 7 gets."""
    asked = query(Relations(followed=np.array(follows, np.uint64)), parameters, event)
    table: CandidateTable = gather(asked, live, model, Accounting(explain=False))
    assert not asked.degraded
    found: dict[str, list[int]] = {}
    for code, post in zip(table.source.tolist(), table.post.tolist(), strict=True):
        found.setdefault(SOURCES[code], []).append(post)
    return found


def test_who_follows_nobody_gets_popular_and_fresh_originals(posts: LivePosts, model: Phoenix) -> None:
    assert brought(posts, model) == {"popular": [3, 5], "fresh": [8, 7, 6, 5, 4, 3, 2, 1]}


def test_where_there_is_enough_nobody_falls_back(posts: LivePosts, model: Phoenix) -> None:
    enough = ALONE.overridden({"fallback.below": 2})
    assert brought(posts, model, enough, follows=(104, 106)) == {"thunder": [6, 4]}


def test_the_network_alone_is_no_place_for_the_fallback(posts: LivePosts, model: Phoenix) -> None:
    only = FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, in_network_only=True)
    assert brought(posts, model, event=only, follows=(104,)) == {"thunder": [4]}


def test_the_caps_hold(posts: LivePosts, model: Phoenix) -> None:
    few = ALONE.overridden({"fallback.popular_max": 1, "fallback.fresh_max": 3})
    assert brought(posts, model, few) == {"popular": [3], "fresh": [8, 7, 6]}


def test_the_fallback_looks_at_so_many_posts_and_no_more(posts: LivePosts, model: Phoenix) -> None:
    # The newest four are the repost 10, the reply 9, and 8 and 7.
    assert brought(posts, model, ALONE.overridden({"fallback.scan_max": 4})) == {"fresh": [8, 7]}
    assert brought(posts, model, ALONE.overridden({"fallback.scan_max": 6})) == {"popular": [5], "fresh": [8, 7, 6, 5]}
    assert brought(posts, model, ALONE.overridden({"fallback.scan_max": 6, "fallback.fresh_max": 1})) == {
        "popular": [5],
        "fresh": [8],
    }


def test_co_likers_bring_what_people_alike_acted_on(posts: LivePosts, model: Phoenix) -> None:
    kept = posts.co_likers
    assert kept is not None
    # 21 liked what the viewer liked (post 1) and then 6; 22 has nothing in common with the viewer.
    kept.take(
        np.array([VIEWER, 21, 21, 22], np.uint64),
        np.array([1, 1, 6, 8], np.uint64),
        NOW_MS - np.array([400, 300, 200, 100]),
    )
    plain = ALONE.overridden({"fallback.enabled": False})
    assert brought(posts, model, plain) == {"co_likers": [6, 1]}  # a filter drops what the viewer acted on
    assert brought(posts, model, plain.overridden({"co_likers.enabled": False})) == {}


def test_every_source_has_a_rule_an_origin_and_a_switch() -> None:
    assert [one.name for one in IN_ORDER] == [
        "thunder",
        "simclusters",
        "phoenix_retrieval",
        "topics",
        "co_likers",
        "popular",
        "fresh",
        "cached_slate",
    ]
    assert all(one.rule.endswith(".") and one.origin for one in IN_ORDER)
