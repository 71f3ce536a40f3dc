"""Blocks, mutes, keywords, subscriptions and follows act from the next request on, and so does undoing them."""

from collections.abc import Callable

import pytest

from schemas.events import (
    Block,
    Event,
    FeedRequest,
    Follow,
    Mute,
    MuteKeyword,
    PostCreated,
    PostDeleted,
    PostLabelled,
    Profile,
    Subscribe,
)
from tests.acceptance.playing import HOUR, T0, Player

VIEWER = 1
AUTHOR, STRANGER, THIRD = 10, 20, 30


def ask(at: int, request: str = "r", **fields: object) -> FeedRequest:
    return FeedRequest(at, request, VIEWER, **fields)  # type: ignore[arg-type]


POSTS: tuple[Event, ...] = (
    PostCreated(T0, 1, AUTHOR, text="Nothing but cats, and more CATS!"),
    PostCreated(T0, 2, STRANGER, text="The weather is fine", subscribers_only=True),
    PostCreated(T0, 3, STRANGER, text="catsuits and caterpillars"),
    PostCreated(T0, 4, THIRD, text="I quote", quote_of=1, quote_of_author=AUTHOR),
)

CHANGES: dict[str, tuple[Callable[[bool], Event], set[int], set[int]]] = {
    # what changes, what the feed holds without it, and with it
    "block": (lambda undo: Block(T0 + 1, VIEWER, AUTHOR, undo), {1, 3, 4}, {3}),
    "blocked by": (lambda undo: Block(T0 + 1, AUTHOR, VIEWER, undo), {1, 3, 4}, {3}),
    "mute": (lambda undo: Mute(T0 + 1, VIEWER, AUTHOR, undo), {1, 3, 4}, {3, 4}),
    "muted by": (lambda undo: Mute(T0 + 1, AUTHOR, VIEWER, undo), {1, 3, 4}, {1, 3, 4}),
    "keyword": (lambda undo: MuteKeyword(T0 + 1, VIEWER, "Cats", undo), {1, 3, 4}, {3, 4}),
    "phrase": (lambda undo: MuteKeyword(T0 + 1, VIEWER, "more cats", undo), {1, 3, 4}, {3, 4}),
    "words apart": (lambda undo: MuteKeyword(T0 + 1, VIEWER, "cats more", undo), {1, 3, 4}, {1, 3, 4}),
    "subscribe": (lambda undo: Subscribe(T0 + 1, VIEWER, STRANGER, undo), {1, 3, 4}, {1, 2, 3, 4}),
    "another viewer's": (lambda undo: Block(T0 + 1, 2, AUTHOR, undo), {1, 3, 4}, {1, 3, 4}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_counts_from_the_next_request_on_until_it_is_undone(play: Player, name: str) -> None:
    change, without, within = CHANGES[name]
    hours = 11 * 60_000  # later than served posts are remembered
    undone = [change(True)]
    played = play(
        [
            *POSTS,
            ask(T0, "before"),
            change(False),
            ask(T0 + hours, "after"),
            *undone,
            ask(T0 + 2 * hours, "undone"),
        ]
    )
    assert played.shown("before") == without
    assert played.shown("after") == within
    assert played.shown("undone") == without


def test_following_makes_in_network_and_unfollowing_ends_it(play: Player) -> None:
    post = PostCreated(T0, 1, AUTHOR)
    played = play(
        [
            post,
            ask(T0, "stranger"),
            Follow(T0 + 1, VIEWER, AUTHOR),
            ask(T0 + HOUR, "followed"),
            Follow(T0 + HOUR, VIEWER, AUTHOR, undo=True),
            ask(T0 + 2 * HOUR, "again a stranger"),
        ]
    )
    found = {name: (feed.items[0].source, feed.items[0].in_network) for name, feed in played.feeds.items()}
    assert found == {
        "stranger": ("phoenix_retrieval", False),
        "followed": ("thunder", True),
        "again a stranger": ("phoenix_retrieval", False),
    }


def test_a_blocked_account_does_not_come_in_by_somebody_elses_repost(play: Player) -> None:
    repost = PostCreated(T0 + 1, 5, AUTHOR, repost_of=3, repost_of_author=STRANGER)
    log = [Follow(T0, VIEWER, AUTHOR), *POSTS, repost]
    assert 5 in play([*log, ask(T0 + 2, seen_ids=(1, 4))]).shown("r")
    assert play([*log, Block(T0 + 1, VIEWER, STRANGER), ask(T0 + 2)]).shown("r") == {1, 4}


def test_own_posts_and_reposts_of_own_posts_are_left_out(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, VIEWER),
            PostCreated(T0 + 1, 2, AUTHOR, repost_of=1),
            PostCreated(T0 + 1, 3, AUTHOR),
            ask(T0 + 2),
        ]
    )
    assert played.shown("r") == {3}


def test_reposts_of_deleted_posts_are_left_out(play: Player) -> None:
    repost = PostCreated(T0 + 1, 2, AUTHOR, repost_of=1, repost_of_author=STRANGER)
    log: list[Event] = [Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, STRANGER), repost]
    played = play([*log, ask(T0 + 1, seen_ids=(99,)), PostDeleted(T0 + 2, 1, STRANGER), ask(T0 + HOUR, "after")])
    assert len(played.shown("r")) == 1, "the post in one of its forms"
    assert played.shown("after") == set()
    early = play([PostDeleted(T0, 1, STRANGER), *log, ask(T0 + 2)])
    assert early.shown("r") == set(), "also when the deletion came first"


def test_a_post_and_its_reposts_come_once(play: Player) -> None:
    followed = [Follow(T0, VIEWER, author) for author in (AUTHOR, STRANGER, THIRD)]
    reposts = [PostCreated(T0 + 1, 10 + author, author, repost_of=1) for author in (STRANGER, THIRD)]
    played = play([*followed, PostCreated(T0, 1, AUTHOR), *reposts, ask(T0 + 2)])
    (item,) = played.feeds["r"].items
    assert item.post in {1, 10 + STRANGER, 10 + THIRD}


def test_strangers_replies_and_reposts_are_left_out_and_replies_to_what_is_not_there(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, THIRD),
            PostCreated(T0 + 1, 2, STRANGER, reply_to=1, conversation=1),
            PostCreated(T0 + 1, 3, STRANGER, repost_of=1),
            PostCreated(T0 + 1, 4, AUTHOR, reply_to=777, conversation=777),
            ask(T0 + 2),
        ]
    )
    assert played.shown("r") == {1}


def test_of_a_conversation_the_best_scored_post_stays(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, THIRD),
            PostCreated(T0 + 1, 2, AUTHOR, reply_to=1, reply_to_author=THIRD, conversation=1),
            PostCreated(T0 + 2, 3, AUTHOR, reply_to=1, reply_to_author=THIRD, conversation=1),
            PostCreated(T0, 4, STRANGER),
            ask(T0 + 3, explain=True),
        ]
    )
    feed = played.feeds["r"]
    shown = played.shown("r")
    assert 4 in shown
    assert len(shown & {1, 2, 3}) == 1
    (dropped,) = [one for one in feed.dropped if one.stage == "dedup_conversation"]
    assert set(dropped.posts) | shown == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("label", "shown"),
    [("spam", set()), ("abuse", set()), ("nsfw", {1}), ("gore", {1}), ("low_quality", {1}), ("cute", {1, 2})],
)
def test_labels_drop_posts_more_strictly_from_accounts_not_followed(play: Player, label: str, shown: set[int]) -> None:
    log: list[Event] = [Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, AUTHOR), PostCreated(T0, 2, STRANGER)]
    labels = [PostLabelled(T0 + 1, 1, AUTHOR, (label,)), PostLabelled(T0 + 1, 2, STRANGER, (label,))]
    lifted = [PostLabelled(T0 + HOUR, 1, AUTHOR, ()), PostLabelled(T0 + HOUR, 2, STRANGER, ())]
    played = play([*log, *labels, ask(T0 + 2, "labelled"), *lifted, ask(T0 + HOUR, "lifted")])
    assert played.shown("labelled") == shown
    assert played.shown("lifted") == {1, 2}
    early = play([*labels, *log, ask(T0 + 2)])
    assert early.shown("r") == played.shown("labelled"), "also when the labels came first"


def test_a_label_on_a_post_drops_its_reposts(play: Player) -> None:
    log = [Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, STRANGER), PostCreated(T0 + 1, 2, AUTHOR, repost_of=1)]
    assert play([*log, PostLabelled(T0 + 2, 1, STRANGER, ("spam",)), ask(T0 + 3)]).shown("r") == set()


def test_new_accounts_with_follows_see_their_network_first_where_that_is_switched_on(play: Player) -> None:
    followed = [Follow(T0, VIEWER, author) for author in range(10, 15)]
    posts = [PostCreated(T0, author, author) for author in (*range(10, 15), *range(50, 60))]
    switched = ask(T0 + 1, parameters={"scoring.new_viewer_age_s": 86_400}, explain=True)
    feeds = play([Profile(T0, VIEWER, T0, 3), *followed, *posts, switched]).feeds["r"]
    assert [item.in_network for item in feeds.items] == [True] * 5 + [False] * 10
    old = play([Profile(T0, VIEWER, T0 - 86_400_000, 3), *followed, *posts, switched]).feeds["r"]
    factors = {f.value for item in old.items for f in item.explanation.steps if f.name == "out_of_network"}
    assert factors == {1.0, 0.75}
