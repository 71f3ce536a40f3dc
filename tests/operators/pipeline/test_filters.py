"""Each filter's rule on a table small enough to see (x-algorithm.md 1.2, 1.5)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.content import content_terms
from operators.parameters import DEFAULTS
from operators.pipeline import filters
from operators.pipeline.candidates import SIMCLUSTERS, CandidateTable
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING, Filter
from operators.pipeline.runner import Accounting, run_filters
from operators.viewers.query import Query
from operators.viewers.relations import Relations
from schemas.actions import COUNTS
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

DAY_MS = 86_400_000


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_the_order_is_that_of_august() -> None:
    assert [one.name for one in PRE_SCORING] == [
        "drop_duplicates", "core_data_hydration", "age", "self_tweet", "oon_retweet_reply", "oon_nsfw_simclusters",
        "retweet_deduplication", "ineligible_subscription", "previously_seen", "previously_seen_backup",
        "viewer_muted_keyword", "author_socialgraph", "author_list", "video", "topic_ids",
    ]  # fmt: skip
    assert [one.name for one in AT_THE_SLATE] == [
        "previously_served", "new_user_min_engagement", "inventory_holdout", "fav_holdout", "shown_before",
        "visible_first",
    ]  # fmt: skip


def test_every_filter_states_its_rule() -> None:
    for one in PRE_SCORING + AT_THE_SLATE:
        assert one.rule.startswith("Drop")
        assert one.rule.endswith(".")


def test_drop_duplicates_keeps_the_first() -> None:
    assert filters.drop_duplicates(query(), table(post=[3, 4, 3, 5, 4])).tolist() == [True, True, False, True, False]


def test_core_data_hydration() -> None:
    assert filters.core_data_hydration(query(), table(author=[0, 5])).tolist() == [False, True]


def test_age_is_kept_up_to_the_limit() -> None:
    rows = table(created_ms=[NOW_MS, NOW_MS - 2 * DAY_MS, NOW_MS - 2 * DAY_MS - 1])
    assert filters.age(query(), rows).tolist() == [True, True, False]


def test_self_tweet() -> None:
    assert filters.self_tweet(query(), table(author=[VIEWER, 8])).tolist() == [False, True]


def test_oon_retweet_reply() -> None:
    rows = table(
        in_network=[0, 0, 0, 1, 1, 1],
        is_reply=[0, 1, 0, 1, 0, 1],
        is_repost=[0, 0, 1, 0, 1, 0],
        parent_is_live=[1, 1, 1, 1, 1, 0],
    )
    assert filters.oon_retweet_reply(query(), rows).tolist() == [True, False, False, True, True, False]


def test_oon_nsfw_simclusters_touches_that_source_only() -> None:
    rows = table(source=[SIMCLUSTERS, SIMCLUSTERS, 0, SIMCLUSTERS], in_network=[0, 1, 0, 0], verdict=[3, 3, 3, -3])
    assert filters.oon_nsfw_simclusters(query(), rows).tolist() == [False, True, True, True]


def test_retweet_deduplication_is_symmetric() -> None:
    rows = table(post=[1, 2, 3, 4], is_repost=[1, 0, 1, 0], repost_of=[2, 0, 4, 0])
    # 1 repeats 2, so 2 goes; 3 repeats 4, so 4 goes: January kept an original that came after its repost.
    assert filters.retweet_deduplication(query(), rows).tolist() == [True, False, True, False]


def test_ineligible_subscription() -> None:
    rows = table(rank_author=[5, 6, 7], subscribers_only=[1, 1, 0])
    assert filters.ineligible_subscription(query(Relations(subscribed=keys(6))), rows).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("rule", "which"),
    [
        (filters.previously_seen, "seen"),
        (filters.previously_seen_backup, "engaged"),
        (filters.previously_served, "served"),
    ],
)
def test_related_ids_count_as_known(rule: object, which: str) -> None:
    rows = table(post=[1, 2, 3, 4], is_repost=[0, 1, 0, 0], repost_of=[0, 50, 0, 0], is_reply=[0, 0, 1, 0],
                 reply_to=[0, 0, 60, 0])  # fmt: skip
    asked = query(**{which: [1, 50, 60]})
    assert rule(asked, rows).tolist() == [False, False, False, True]  # type: ignore[operator]
    assert rule(query(), rows).tolist() == [True] * 4  # type: ignore[operator]


def test_viewer_muted_keyword() -> None:
    assert filters.viewer_muted_keyword(query(), table(muted=[1, 0])).tolist() == [False, True]


def test_author_socialgraph_looks_both_ways() -> None:
    relations = Relations(muted=keys(1), blocked=keys(2, 5, 6), blocked_by=keys(3, 7))
    rows = table(
        author=[1, 2, 3, 4, 4, 4, 4, 4],
        quote_author=[0, 0, 0, 0, 5, 7, 0, 1],
        repost_author=[0, 0, 0, 0, 0, 0, 6, 3],
    )
    # A muted quoted author and a reposted one who blocks the viewer are not among the rule's cases.
    keep = [False, False, False, True, False, False, False, True]
    assert filters.author_socialgraph(query(relations), rows).tolist() == keep


def test_served_posts_at_the_bottom_only_when_switched_so() -> None:
    served = AT_THE_SLATE[0]
    asked = query()
    assert served.enable(asked)
    off = asked.parameters.overridden({"filters.served_every_request": False})
    assert not served.enable(query(parameters=off))
    bottom = FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, bottom=True)
    assert served.enable(query(parameters=off, event=bottom))


def test_video_runs_only_where_asked() -> None:
    (video,) = (one for one in PRE_SCORING if one.name == "video")
    assert not video.enable(query())
    asked = query(event=FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, exclude_videos=True))
    assert video.enable(asked)
    assert video.keeps(asked, table(has_video=[1, 0])).tolist() == [False, True]


def test_the_runner_counts_and_explains_each_drop() -> None:
    rows = table(post=[1, 1, 2, 3], author=[5, 5, VIEWER, 6])
    accounting = Accounting(explain=True)
    kept, mask = run_filters(PRE_SCORING, query(), rows, accounting)
    assert kept.post.tolist() == [1, 3]
    assert mask.tolist() == [True, False, False, True]
    counts = {one.stage: (one.given, one.kept) for one in accounting.stages}
    assert counts["drop_duplicates"] == (4, 3)
    assert counts["self_tweet"] == (3, 2)
    assert counts["author_socialgraph"] == (2, 2)
    assert [(stage, posts.tolist()) for stage, _, posts in accounting.dropped] == [
        ("drop_duplicates", [1]),
        ("self_tweet", [2]),
    ]


def test_deduplication_sees_survivors_only() -> None:
    # The first form of post 9 is the viewer's own repost: it goes, and must not take the other one with it.
    rows = table(post=[1, 2], author=[VIEWER, 5], is_repost=[1, 1], repost_of=[9, 9])
    kept, _ = run_filters(PRE_SCORING, query(), rows, Accounting(explain=False))
    assert kept.post.tolist() == [2]


def breaks(_query: Query, _table: CandidateTable) -> np.ndarray:
    """Drop nothing, by accident."""
    raise RuntimeError("broken on purpose")


def too_short(_query: Query, rows: CandidateTable) -> np.ndarray:
    """Drop too much, by accident."""
    return np.ones(len(rows) - 1, np.bool_)


@pytest.mark.parametrize("rule", [breaks, too_short])
def test_a_failing_filter_is_passed_over_and_named(rule: object) -> None:
    asked = query()
    chain = (Filter(rule, "this test"), Filter(filters.self_tweet, "1.5 row 4"))  # type: ignore[arg-type]
    kept, _ = run_filters(chain, asked, table(author=[VIEWER, 5]), Accounting(explain=False))
    assert len(kept) == 1
    assert asked.degraded == [f"filter.{rule.__name__}"]  # type: ignore[attr-defined]


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_filters_only_ever_remove_and_keep_the_order(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = table(
        post=rng.integers(1, 40, count).tolist() or [],
        author=rng.integers(0, 12, count).tolist(),
        is_repost=(rng.random(count) < 0.3).tolist(),
        repost_of=rng.integers(1, 40, count).tolist(),
        in_network=(rng.random(count) < 0.5).tolist(),
    )
    kept, mask = run_filters(PRE_SCORING, query(seen=[3, 4]), rows, Accounting(explain=False))
    assert kept.post.tolist() == rows.post[mask].tolist()
    again, _ = run_filters(PRE_SCORING, query(seen=[3, 4]), kept, Accounting(explain=False))
    assert again.post.tolist() == kept.post.tolist()


def kept_by(rule: object, asked: Query, rows: CandidateTable) -> list[int]:
    """Return the posts that a filter keeps."""
    return rows.post[rule(asked, rows)].tolist()  # type: ignore[operator]


def test_listed_authors_reach_only_who_follows_them() -> None:
    rows = table(
        post=[1, 2, 3, 4, 5],
        author=[70, 71, 71, 71, 71],
        repost_author=[0, 70, 0, 0, 0],
        quote_author=[0, 0, 70, 0, 0],
        reply_author=[0, 0, 0, 70, 0],
    )
    listed = DEFAULTS.overridden({"filters.listed_authors": ["70", "somebody"]})
    assert kept_by(filters.author_list, query(parameters=listed), rows) == [5]
    follower = Relations(followed=np.array([70], np.uint64))
    assert kept_by(filters.author_list, query(follower, listed), rows) == [1, 2, 3, 4, 5]


def test_topics_are_asked_for_and_excluded_and_exclusion_fails_closed() -> None:
    tea, cake, word = (content_terms("", (name,), "")[0] for name in ("tea", "cake", "word"))
    # Post 3 is on no topic: its terms are words, the first one spelled like a topic by chance. Post 4 has none at all.
    rows = table(
        post=[1, 2, 3, 4],
        rank_terms=[[tea, cake, 0, 0], [cake, word, 0, 0], [tea, 0, 0, 0], [0, 0, 0, 0]],
        rank_topics=[2, 1, 0, 0],
    )

    def asked(**fields: tuple[str, ...]) -> Query:
        return query(event=FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, **fields))  # type: ignore[arg-type]

    assert kept_by(filters.topic_ids, asked(topics=("tea",)), rows) == [1]
    assert kept_by(filters.topic_ids, asked(topics=("tea", "cake")), rows) == [1, 2]
    assert kept_by(filters.topic_ids, asked(topics=("word",)), rows) == []
    assert kept_by(filters.topic_ids, asked(excluded_topics=("tea",)), rows) == [2]
    assert kept_by(filters.topic_ids, asked(topics=("cake",), excluded_topics=("tea",)), rows) == [2]


def test_new_accounts_see_strangers_posts_that_somebody_acted_on() -> None:
    counts = np.zeros((4, COUNTS), np.uint32)
    counts[:, 0] = 50  # shown is no action
    acted = counts.copy()
    acted[1, 1], acted[2, 2] = 3, 2
    some = table(post=[1, 2, 3, 4], in_network=[0, 0, 0, 1], rank_counts=acted.tolist())
    none = table(post=[1, 2, 3, 4], in_network=[0, 0, 0, 1], rank_counts=counts.tolist())
    three = DEFAULTS.overridden({"filters.new_user_min_engagement": True, "filters.new_user_engagement_min": 3})
    new = query(Relations(account_created_ms=NOW_MS - 1_799_000), three)
    assert kept_by(filters.new_user_min_engagement, new, some) == [2, 4]
    assert kept_by(filters.new_user_min_engagement, new, none) == [1, 2, 3, 4]
    (one,) = (one for one in AT_THE_SLATE if one.name == "new_user_min_engagement")
    assert one.enable(new)
    assert not one.enable(query(Relations(account_created_ms=NOW_MS - 1_800_000), three))
    assert not one.enable(query(Relations(), three))


def test_holdouts_hold_out_their_share_and_the_same_posts_each_time() -> None:
    count = 20_000
    held = DEFAULTS.overridden({"filters.holdout_percent": 10, "filters.holdout_percent_oon": 30})
    rows = table(post=list(range(1, count + 1)), in_network=[row < count // 2 for row in range(count)])
    keep = filters.inventory_holdout(query(parameters=held), rows)
    # Five deviations of a draw of 10,000: 150 at 10 %, 229 at 30 %.
    assert abs(int((~keep[: count // 2]).sum()) - 1000) < 150
    assert abs(int((~keep[count // 2 :]).sum()) - 3000) < 230
    assert (filters.inventory_holdout(query(parameters=held), rows) == keep).all()
    repost = table(post=[count + 1], is_repost=[1], repost_of=[5])
    assert filters.inventory_holdout(query(parameters=held), repost)[0] == keep[4]


def test_the_holdout_by_likes_grows_from_2_to_15_percent() -> None:
    count = 20_000
    for favorites, percent in ((0, 2), (1, 3), (2, 4), (5, 5), (4096, 15), (10**6, 15)):
        counts = np.zeros((count, COUNTS), np.uint32)
        counts[:, 1] = favorites
        keep = filters.fav_holdout(query(), table(post=list(range(1, count + 1)), rank_counts=counts.tolist()))
        assert abs(int((~keep).sum()) - count * percent // 100) < 5 * np.sqrt(count * percent / 100), favorites
