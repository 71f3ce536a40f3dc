"""Reputation and cluster interest in the whole flow: events tell who is verified, who follows whom, who likes what."""

import pytest

from schemas.events import AuthorLabelled, Engagement, Event, FeedRequest, Follow, PostCreated, Profile
from schemas.feeds import Feed
from tests.acceptance.playing import MINUTE, T0, Player

# 901 is verified; 902 follows 999 and has 999 followers by its profile; 903 too, and follows one more later, and has
# one more; 904 follows but 500; nobody tells of 905.
AUTHORS: list[Event] = [
    AuthorLabelled(T0, 901, ("verified",)),
    Profile(T0, 902, followers=999, followings=999),
    Profile(T0, 903, followers=999, followings=998),
    Profile(T0, 904, followers=0, followings=500),
    Follow(T0 + 1, 903, 904),
]
POSTS: list[Event] = [PostCreated(T0 + MINUTE, number, 900 + number) for number in range(1, 6)]
LIKED: list[Event] = [Engagement(T0 + 2 * MINUTE, 8, number, "favorite") for number in range(1, 6)]


def factors(feed: Feed, scorer: str) -> dict[object, float]:
    """Return what a scorer multiplied each author's posts with."""
    assert not feed.degraded
    told = {item.author: item.explanation for item in feed.items if item.explanation is not None}
    return {author: step.value for author, one in told.items() for step in one.steps if step.name == scorer}


def test_what_events_tell_of_authors_counts(play: Player) -> None:
    asked = FeedRequest(T0 + 3 * MINUTE, "r", 7, explain=True, parameters={"reputation.enabled": True})
    feed = play([*AUTHORS, *POSTS, *LIKED, asked]).feeds["r"]
    # exp(5 (1 - .6)) = 7.389 for a ratio of 1
    few = 0.55 / 7.389056
    assert factors(feed, "author_reputation") == pytest.approx({901: 1.0, 902: few, 903: few, 904: 0.55, 905: 0.55})
    assert not factors(feed, "cluster_interest")


def test_posts_count_by_the_interest_in_their_authors_clusters(play: Player) -> None:
    # Forty people follow 901 and 902, forty others 911: two clusters. The viewer follows 901 and likes a post of 911,
    # 1 against 5.
    circles: list[Event] = [
        *(Follow(T0, 100 + fan, author) for fan in range(40) for author in (901, 902)),
        *(Follow(T0, 200 + fan, 911) for fan in range(40)),
        Follow(T0, 7, 901),
    ]
    posts: list[Event] = [PostCreated(T0 + MINUTE, number, 900 + number) for number in (2, 5, 11, 12)]
    liked: list[Event] = [PostCreated(T0 + 1, 30, 911), Engagement(T0 + 2 * MINUTE, 7, 30, "favorite")]
    later: list[Event] = [Follow(T0 + 6 * MINUTE, 300 + one, 999) for one in range(9)]
    asked = FeedRequest(T0 + 7 * MINUTE, "r", 7, explain=True, parameters={"cluster_interest.enabled": True})
    feed = play([*circles, *posts, *liked, *later, asked], {"simclusters.refresh_s": 60}).feeds["r"]
    found = factors(feed, "cluster_interest")
    # Nobody follows 905 and 912: the least share.
    assert found == pytest.approx({902: 1 / 6, 911: 5 / 6, 905: 0.05, 912: 0.05}, abs=1e-3)
