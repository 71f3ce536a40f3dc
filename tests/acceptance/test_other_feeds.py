"""Feeds beside For You, over the real dataflow."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.instances import verify
from flows.replay import Replay
from operators.parameters import DEFAULTS
from schemas.events import (
    Event,
    FeedName,
    FeedRequest,
    Follow,
    Insert,
    Mute,
    MuteKeyword,
    PostCreated,
    PostDeleted,
    PostLabelled,
)
from tests.acceptance.playing import HOUR, SECOND, T0, Player, write_log

VIEWER, FRIEND, OTHER, STRANGER = 1, 10, 11, 20


def ask(feed: FeedName, at: int = T0 + HOUR, request: str = "r", **fields: object) -> FeedRequest:
    return FeedRequest(at, request, VIEWER, feed=feed, **fields)  # type: ignore[arg-type]


def created(number: int, author: int, **fields: object) -> PostCreated:
    return PostCreated(T0 + number * SECOND, number, author, **fields)  # type: ignore[arg-type]


FOLLOWS: tuple[Event, ...] = (Follow(T0, VIEWER, FRIEND), Follow(T0, VIEWER, OTHER))


def test_the_following_feed_is_the_newest_of_those_followed(play: Player) -> None:
    posts = [created(number, (FRIEND, STRANGER, OTHER)[number % 3]) for number in range(1, 31)]
    played = play([*FOLLOWS, *posts, ask("following")])
    feed = played.feeds["r"]
    assert [item.post for item in feed.items] == [n for n in range(30, 0, -1) if n % 3 != 1]
    assert (feed.feed, feed.model, feed.degraded) == ("following", "", ())
    assert {item.score for item in feed.items} == {0.0}
    assert {item.why for item in feed.items} == {"from somebody you follow"}
    assert played.served["r"].posts == tuple(item.post for item in feed.items)


def test_the_following_feed_ends_after_110_and_shows_what_was_served(play: Player) -> None:
    posts = [PostCreated(T0 + number, number, 100 + number % 10) for number in range(1, 151)]
    follows = [Follow(T0, VIEWER, 100 + number) for number in range(10)]
    asked = [
        ask("for_you", T0 + HOUR, "ranked"),
        ask("following", T0 + HOUR + 1, "newest"),
        ask("following", T0 + HOUR + 2, "again"),
        ask("for_you", T0 + HOUR + 3, "rest"),
    ]
    played = play([*follows, *posts, *asked])
    assert played.posts("newest") == list(range(150, 40, -1)) == played.posts("again")
    # What For You served before stays out of For You; what the following feed showed does not.
    assert not played.shown("rest") & played.shown("ranked")
    assert played.shown("rest") & played.shown("newest")


def test_conversations_of_the_following_feed(play: Player) -> None:
    log = [
        *FOLLOWS,
        created(1, FRIEND),
        created(2, FRIEND, reply_to=1, reply_to_author=FRIEND, conversation=1),  # all by the author: kept
        created(3, OTHER, reply_to=1, reply_to_author=FRIEND, conversation=1),  # answers somebody followed: kept
        created(4, STRANGER),
        created(5, FRIEND, reply_to=4, reply_to_author=STRANGER, conversation=4),  # answers a stranger: dropped
        created(6, VIEWER),
        created(7, FRIEND, reply_to=6, reply_to_author=VIEWER, conversation=6),  # answers the viewer: kept
        created(8, OTHER),
        created(9, FRIEND, reply_to=8, reply_to_author=OTHER, conversation=8),  # answers what is deleted: dropped
        PostDeleted(T0 + 10 * SECOND, 8, OTHER),
        created(11, FRIEND, repost_of=12, repost_of_author=OTHER),  # the original comes later: it wins
        created(12, OTHER),
    ]
    feed = play([*log, ask("following", explain=True)]).feeds["r"]
    assert [item.post for item in feed.items] == [12, 7, 3, 2, 1]
    dropped = {one.stage: set(one.posts) for one in feed.dropped}
    assert dropped["self_reply_chain"] == {5}
    assert dropped["native_retweet_deduplication"] == {11}
    assert 9 not in {item.post for item in feed.items}


def test_the_following_feed_keeps_to_what_the_viewer_wants(play: Player) -> None:
    log = [
        *FOLLOWS,
        created(1, FRIEND, text="nothing of football here"),
        created(2, FRIEND, text="quiet"),
        created(3, OTHER),
        created(4, FRIEND),
        MuteKeyword(T0 + 5, VIEWER, "football"),
        Mute(T0 + 5, VIEWER, OTHER),
        PostLabelled(T0 + 5 * SECOND, 4, FRIEND, ("spam",)),
    ]
    assert play([*log, ask("following")]).posts("r") == [2]


def test_the_ranked_following_feed_has_38_of_those_followed(play: Player) -> None:
    follows = [Follow(T0, VIEWER, 100 + number) for number in range(60)]
    posts = [created(number, 100 + number) for number in range(1, 120)]
    played = play([*follows, *posts, ask("following_ranked", limit=None)])
    feed = played.feeds["r"]
    assert len(feed.items) == 38
    assert all(item.in_network for item in feed.items)
    assert feed.model
    scores = [item.score for item in feed.items]
    assert scores == sorted(scores, reverse=True)
    assert {stage.stage for stage in feed.stages if stage.stage.startswith("source.")} == {"source.thunder"}


def test_the_blended_feed_is_for_you_with_modules_that_come_again_after_a_while(play: Player) -> None:
    posts = [created(number, 100 + number % 20) for number in range(1, 200)]
    inserts = (Insert("ad", "ad-1"), Insert("survey", 5), Insert("prompt", 6), Insert("push_to_home", 150))
    asked = [
        ask("blended", T0 + HOUR, "first", inserts=inserts),
        ask("blended", T0 + 25 * HOUR, "day", inserts=inserts),
        ask("blended", T0 + 31 * HOUR, "later", inserts=inserts),
    ]
    played = play([*FOLLOWS, *posts, *asked])
    places = {name: [(one.position, one.kind) for one in feed.modules] for name, feed in played.feeds.items()}
    assert places["first"] == [
        (0, "push_to_home"),
        (1, "prompt"),
        (6, "who_to_follow"),
        (7, "ad"),
        (12, "survey"),
    ]
    # After 24 hours a survey comes again, after 30 whom to follow; the ad has its place all the time.
    assert [kind for _, kind in places["day"]] == ["push_to_home", "prompt", "ad", "survey"]
    assert [kind for _, kind in places["later"]] == ["push_to_home", "prompt", "who_to_follow", "ad"]
    first = played.feeds["first"]
    assert 150 not in {item.post for item in first.items}
    (whom,) = (one for one in first.modules if one.kind == "who_to_follow")
    assert len(whom.suggestions) == 3
    for one in whom.suggestions:
        assert one.why == f"wrote {len(one.posts)} posts ranked for you"
        assert {100 + int(number) % 20 for number in one.posts} == {one.author}
    plain = play([*FOLLOWS, *posts, ask("for_you", T0 + HOUR, "first")]).feeds["first"]
    assert [(item.post, item.score) for item in plain.items if item.post != 150] == [
        (item.post, item.score) for item in first.items
    ]
    assert played.served["first"].posts == (150, *(item.post for item in first.items))


def test_what_was_pinned_counts_as_served(play: Player) -> None:
    asked = [
        ask("blended", T0 + HOUR, "pinned", inserts=(Insert("push_to_home", 1),), limit=1),
        ask("for_you", T0 + HOUR + SECOND, "next"),
    ]
    played = play([created(1, STRANGER), created(2, STRANGER), created(3, STRANGER), *asked])
    (shown,) = played.posts("pinned")
    assert shown != 1
    assert played.shown("next") == {2, 3} - {shown}


def test_posts_are_scored_as_asked_and_none_is_lost(play: Player) -> None:
    log = [
        *FOLLOWS,
        created(1, FRIEND),
        created(2, STRANGER),
        created(3, VIEWER),
        created(4, STRANGER, repost_of=1, repost_of_author=FRIEND),
        created(5, FRIEND),
        PostDeleted(T0 + 6 * SECOND, 5, FRIEND),
        created(7, STRANGER),
        PostLabelled(T0 + 8 * SECOND, 7, STRANGER, ("spam",)),
        Mute(T0 + 8, VIEWER, OTHER),
        created(9, OTHER),
        ask("score_posts", posts=(9, 4, 777, 1, 5, 3, 2, 7, "text", 1)),
    ]
    played = play(log)
    feed = played.feeds["r"]
    assert [(item.post, item.dropped_by) for item in feed.items] == [
        (9, "author_socialgraph"),
        (4, "oon_retweet_reply"),
        (1, ""),
        (3, "self_tweet"),
        (2, ""),
        (7, "visibility"),
    ]
    assert feed.unknown == (777, 5, "text")
    assert all(item.explanation and item.score > 0 for item in feed.items)
    assert {one.stage for one in feed.dropped} == {
        "author_socialgraph",
        "oon_retweet_reply",
        "self_tweet",
        "visibility",
    }
    assert "r" not in played.served


def test_a_score_does_not_depend_on_what_else_is_asked_for(play: Player) -> None:
    posts = [created(number, FRIEND if number % 3 else STRANGER) for number in range(1, 41)]
    asked = [ask("score_posts", request=f"r{number}", posts=(number,)) for number in range(1, 41)]
    together = ask("score_posts", request="all", posts=tuple(range(40, 0, -1)))
    played = play([*FOLLOWS, *posts, together, *asked, ask("for_you", T0 + HOUR + 1, "after")])
    alone = {number: played.feeds[f"r{number}"].items[0] for number in range(1, 41)}
    for item in played.feeds["all"].items:
        assert item.score == alone[item.post].score  # type: ignore[index]
        assert item.explanation is not None
        score = item.explanation.weighted
        for step in item.explanation.steps:
            score = step.value if step.operation == "is" else score * step.value
        assert score == item.score
    # Nothing of it was served.
    assert len(played.posts("after")) == 35


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"feed": "score_posts"}, "$.posts", "a request to score posts names none"),
        ({"feed": "for_you", "posts": (1,)}, "$.posts", "posts to score go with feed score_posts, not for_you"),
        (
            {"feed": "score_posts", "posts": (1,), "limit": 3},
            "$.limit",
            "every post asked for is answered: there is no limit to give",
        ),
        ({"feed": "score_posts", "posts": (1,), "cursor": "x"}, "$.cursor", "scores of posts have no pages"),
        ({"feed": "score_posts", "posts": tuple(range(1, 2802))}, "$.posts", "Expected `array` of length <= 2800"),
        ({"feed": "newest"}, "$.feed", "Invalid enum value 'newest'"),
        ({"inserts": (Insert("ad", 1),)}, "$.inserts", "inserts go with feed blended, not for_you"),
        (
            {"feed": "blended", "inserts": (Insert("prompt", 1), Insert("prompt", 2))},
            "$.inserts",
            "a feed has one prompt, not 2",
        ),
        ({"feed": "blended", "inserts": (Insert("ad", 1), Insert("ad", 1))}, "$.inserts", "the same ad twice"),
        (
            {"feed": "blended", "inserts": tuple(Insert("ad", n) for n in range(33))},
            "$.inserts",
            "Expected `array` of length <= 32",
        ),
        (
            {"feed": "blended", "inserts": (Insert("banner", 1),)},  # type: ignore[arg-type]
            "$.inserts[0].kind",
            "Invalid enum value 'banner'",
        ),
        (
            {"feed": "blended", "inserts": (Insert("ad", "é" * 33),)},
            "$.inserts",
            "id of 66 bytes; at most 64 are allowed",
        ),
        ({"feed": "score_posts", "posts": ("é" * 33,)}, "$.posts", "id of 66 bytes; at most 64 are allowed"),
    ],
)
def test_a_request_that_does_not_go_together_is_a_dead_letter(
    play: Player, fields: dict[str, object], path: str, reason: str
) -> None:
    played = play([created(1, FRIEND), FeedRequest(T0 + HOUR, "bad", VIEWER, **fields), ask("for_you")])  # type: ignore[arg-type]
    (letter,) = played.dead_letters
    assert (letter.path, letter.reason) == (path, reason)
    assert list(played.feeds) == ["r"]


@pytest.mark.full
def test_every_feed_is_the_same_however_many_instances_share_the_viewers(checkpoint: Path, tmp_path: Path) -> None:
    names: tuple[FeedName, ...] = ("for_you", "blended", "following_ranked", "following", "score_posts")
    log: list[Event] = [Follow(T0, viewer, 100 + (viewer * 7 + n) % 30) for viewer in range(1, 9) for n in range(6)]
    log += [
        created(n, 100 + n % 30, reply_to=n - 30 if n % 7 == 3 and n > 30 else None, conversation=None)
        for n in range(1, 120)
    ]
    for turn in range(2):
        for viewer in range(1, 9):
            for place, feed in enumerate(names):
                posts = tuple(range(viewer, 60, 5)) if feed == "score_posts" else ()
                inserts = (Insert("ad", 1), Insert("survey", 2)) if feed == "blended" else ()
                at = T0 + HOUR + turn * 60_000 + viewer * 10 + place
                request = f"{feed}-{viewer}-{turn}"
                log.append(FeedRequest(at, request, viewer, feed=feed, posts=posts, inserts=inserts))
    what = Replay(write_log(tmp_path / "log.jsonl", log), tmp_path / "out", checkpoint, DEFAULTS)
    digests = verify(replace(what, threads=2), [1, 2, 4], Console(stderr=True))
    assert len(set(digests.values())) == 1
