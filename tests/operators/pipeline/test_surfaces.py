"""The filters of the following feed by hand, and each feed as a list of the same components."""

from typing import get_args

import numpy as np
import pytest

from operators.parameters import DEFAULTS
from operators.pipeline.ancestors import CHAIN_MAX, nearest_others
from operators.pipeline.components import components
from operators.pipeline.filters import PRE_SCORING
from operators.pipeline.following import conversation_module, native_retweet_deduplication, self_reply_chain
from operators.pipeline.scorers import SCORERS
from operators.pipeline.surfaces import SURFACES
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.viewers.relations import Relations
from schemas.events import FeedName, FeedRequest, PostCreated, PostDeleted, PostEvent
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

ME, FRIEND, STRANGER = 10, 20, 30


def keys(*values: int) -> np.ndarray:
    return np.array(sorted(values), np.uint64)


def post(number: int, author: int, reply_to: int | None = None, told: int | None = None) -> PostCreated:
    return PostCreated(NOW_MS + number, number, author, reply_to=reply_to, reply_to_author=told)


def chains(events: list[PostEvent]) -> dict[int, tuple[int, bool]]:
    """Return by post whom it answers in the end, and whether the way is lost."""
    live = LivePosts(PostTable(172_800))
    assert live.apply(events) == []
    own = live.table.gather(np.arange(live.table.base, live.table.end))
    answered, lost = nearest_others(live, own)
    return dict(zip(own.key.tolist(), zip(answered.tolist(), lost.tolist(), strict=True), strict=True))


def test_the_nearest_ancestor_by_somebody_else() -> None:
    # 1 by a friend; 2 answers it; 3 and 4 go on with 2; 5 begins anew, 6 and 7 go on with it; 8 by a friend answers 7.
    found = chains(
        [
            post(1, FRIEND),
            post(2, ME, 1),
            post(3, ME, 2),
            post(4, ME, 3),
            post(5, ME),
            post(6, ME, 5),
            post(7, ME, 6),
            post(8, FRIEND, 7),
        ]
    )
    assert found == {
        1: (0, False),
        2: (FRIEND, False),
        3: (FRIEND, False),
        4: (FRIEND, False),
        5: (0, False),
        6: (0, False),
        7: (0, False),
        8: (ME, False),
    }


def test_a_way_that_is_lost() -> None:
    # 2 answers what never came, and says who wrote it; 3 answers what never came, 5 goes on with 3; 6 answers 4,
    # which is deleted; 7 goes on with 6.
    found = chains(
        [
            post(2, ME, 99, STRANGER),
            post(3, ME, 98),
            post(4, FRIEND),
            post(5, ME, 3),
            post(6, ME, 4, FRIEND),
            post(7, ME, 6),
            PostDeleted(NOW_MS + 8, 4, FRIEND),
        ]
    )
    del found[4]
    assert found == {2: (STRANGER, True), 3: (0, True), 5: (0, True), 6: (FRIEND, True), 7: (FRIEND, True)}


def test_a_thread_longer_than_is_followed_up_is_lost() -> None:
    found = chains([post(1, ME), *(post(number, ME, number - 1) for number in range(2, CHAIN_MAX + 4))])
    # Post n is n - 1 steps above its beginning: the last that is found is CHAIN_MAX steps away.
    assert [number for number, (_, lost) in found.items() if lost] == [CHAIN_MAX + 2, CHAIN_MAX + 3]


def test_native_posts_win_over_reposts_wherever_they_stand() -> None:
    rows = table(
        post=[1, 2, 3, 4, 5, 6],
        is_repost=[1, 0, 1, 1, 1, 0],
        repost_of=[2, 0, 9, 9, 6, 0],
    )
    # 1 repeats 2, which is there after it; 3 and 4 repeat 9, which is not: the first stays; 5 repeats 6, also there.
    assert native_retweet_deduplication(query(), rows).tolist() == [False, True, True, False, False, True]


@pytest.mark.parametrize(
    ("answered", "is_reply", "kept"),
    [
        (FRIEND, True, True),
        (STRANGER, True, False),
        (VIEWER, True, True),
        (0, True, True),  # all of it by the author
        (0, False, True),
        (STRANGER, False, True),
    ],
)
def test_self_reply_chain(answered: int, is_reply: bool, kept: bool) -> None:
    rows = table(is_reply=[is_reply], answered_author=[answered])
    assert self_reply_chain(query(Relations(followed=keys(FRIEND))), rows).tolist() == [kept]


def test_conversations_that_cannot_be_shown() -> None:
    relations = Relations(muted=keys(1), blocked=keys(2), blocked_by=keys(3))
    rows = table(is_reply=[1, 1, 1, 1, 1, 0], answered_author=[1, 2, 3, 4, 4, 0], chain_is_lost=[0, 0, 0, 0, 1, 0])
    assert conversation_module(query(relations), rows).tolist() == [False, False, False, True, False, True]


def test_every_feed_that_can_be_asked_for_is_there() -> None:
    assert tuple(SURFACES) == get_args(FeedName)
    for one in SURFACES.values():
        assert one.rule.endswith(".")
        assert {each.name for each in one.filters} <= set(DEFAULTS.filters.__struct_fields__)


def test_each_feed_is_a_list_of_components() -> None:
    names = {feed: [one.name for one in components(DEFAULTS, feed=feed)] for feed in SURFACES}
    only_for_you = {"phoenix_retrieval", "simclusters", "topics", "co_likers", "popular", "fresh"}
    only_for_you |= {"cached_slate", "keep_slate"}
    assert names["following_ranked"] == [name for name in names["for_you"] if name not in only_for_you]
    assert "phoenix" not in names["following"]
    assert names["following"][0] == "thunder"
    assert names["following"].index("native_retweet_deduplication") < names["following"].index("newest")
    assert names["score_posts"][0] == "requested"
    assert not {"dpp", "author_diversity", "top_k", "truncate", "drop_duplicates"} & set(names["score_posts"])


def test_scores_of_posts_come_from_scorers_that_look_at_one_post() -> None:
    for name, chain in SCORERS.items():
        parameters = DEFAULTS.overridden({"scoring.value_model": name})
        alone = SURFACES["score_posts"].scorers(parameters)
        assert set(alone) == {one for one in chain if not one.compares_rows or one.operation == "is"}
        assert SURFACES["for_you"].scorers(parameters) == chain
    assert not any(one.compares_rows for one in SURFACES["score_posts"].filters)
    assert {one.name for one in PRE_SCORING} > {one.name for one in SURFACES["score_posts"].filters}


@pytest.mark.parametrize(
    ("feed", "limit", "size"),
    [("for_you", None, 35), ("following_ranked", None, 38), ("following", None, 110), ("following", 5, 5)],
)
def test_how_long_a_feed_is(feed: FeedName, limit: int | None, size: int) -> None:
    event = FeedRequest(NOW_MS, "r", VIEWER, feed=feed, limit=limit)
    assert query(event=event).feed_size == size
    assert query(event=event).selected_max >= size + 15
