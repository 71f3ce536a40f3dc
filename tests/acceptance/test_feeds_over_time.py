"""What a feed holds follows from what the log says before its request, and from nothing after it."""

from schemas.events import Engagement, FeedRequest, Follow, PostCreated, PostDeleted
from tests.acceptance.playing import HOUR, MINUTE, SECOND, T0, Player

VIEWER = 1
AUTHOR, STRANGER = 10, 20


def ask(at: int, request: str = "r", **fields: object) -> FeedRequest:
    return FeedRequest(at, request, VIEWER, **fields)  # type: ignore[arg-type]


def test_thunder_brings_posts_of_followed_authors_and_retrieval_those_of_others(play: Player) -> None:
    played = play([Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, AUTHOR), PostCreated(T0, 2, STRANGER), ask(T0 + 1)])
    items = {item.post: item for item in played.feeds["r"].items}
    assert (items[1].source, items[1].in_network) == ("thunder", True)
    assert (items[2].source, items[2].in_network) == ("phoenix_retrieval", False)


def test_a_post_created_right_before_a_request_is_in_it(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, STRANGER),
            ask(T0, "earlier"),
            PostCreated(T0 + 1, 2, AUTHOR),
            PostCreated(T0 + 1, 3, STRANGER),
            ask(T0 + 1, "later"),
        ]
    )
    assert played.shown("earlier") == {1}
    assert played.shown("later") == {2, 3}


def test_a_post_from_after_the_time_of_a_request_is_not_in_it(play: Player) -> None:
    posts = [PostCreated(T0 + 2 * SECOND, 1, AUTHOR), PostCreated(T0 + 2 * SECOND, 2, STRANGER)]
    played = play([Follow(T0, VIEWER, AUTHOR), *posts, ask(T0 + SECOND, "late"), ask(T0 + 2 * SECOND, "in time")])
    assert played.shown("late") == set()
    assert played.shown("in time") == {1, 2}


def test_a_deleted_post_never_comes_back_from_the_next_request_on(play: Player) -> None:
    posts = [PostCreated(T0, 1, AUTHOR), PostCreated(T0, 2, STRANGER), PostCreated(T0, 3, STRANGER)]
    gone = [PostDeleted(T0 + 2, 1, AUTHOR), PostDeleted(T0 + 2, 2, STRANGER)]
    asked = [FeedRequest(T0 + 3 + number, number, 100 + number) for number in range(30)]
    followed = [Follow(T0, 100 + number, AUTHOR) for number in range(0, 30, 2)]
    played = play([*followed, *posts, FeedRequest(T0 + 1, "before", 100), *gone, *asked])
    assert played.shown("before") == {1, 2, 3}
    assert all(played.shown(one.request) <= {3} for one in asked)
    assert played.shown(1) == {3}


def test_a_post_deleted_before_anybody_asked_never_comes_at_all(play: Player) -> None:
    # Nobody had asked when the post was deleted, so it had not been embedded for retrieval yet.
    posts = [PostCreated(T0, 1, STRANGER), PostCreated(T0, 2, STRANGER)]
    filler = [Engagement(T0 + 1, 50, 2, "click")] * 600  # into the next polls
    played = play([*posts, *filler, PostDeleted(T0 + 2, 1, STRANGER), *filler, ask(T0 + 3)])
    assert played.shown("r") == {2}


def test_a_post_deleted_before_it_is_created_never_comes(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostDeleted(T0, 1, AUTHOR),
            PostDeleted(T0, 2, STRANGER),
            ask(T0),
            PostCreated(T0, 1, AUTHOR),
            PostCreated(T0, 2, STRANGER),
            PostCreated(T0, 3, STRANGER),
            ask(T0 + 1, "later"),
        ]
    )
    assert played.shown("later") == {3}


def test_posts_go_after_48_hours(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, AUTHOR),
            PostCreated(T0, 2, STRANGER),
            PostCreated(T0 + HOUR, 3, AUTHOR),
            PostCreated(T0 + HOUR, 4, STRANGER),
            ask(T0 + 48 * HOUR, "48 hours"),
            ask(T0 + 48 * HOUR + 11 * MINUTE, "a little more"),
            ask(T0 + 50 * HOUR, "50 hours"),
        ]
    )
    assert played.shown("48 hours") == {1, 2, 3, 4}
    assert played.shown("a little more") == {3, 4}
    assert played.shown("50 hours") == set()


def test_retention_and_the_age_filter_are_parameters(play: Player) -> None:
    log = [PostCreated(T0, 1, STRANGER), PostCreated(T0 + HOUR, 2, STRANGER), ask(T0 + 2 * HOUR)]
    assert play(log, {"posts.retention_s": 3600}).shown("r") == {2}
    assert play(log, {"filters.age_s": 3600}).shown("r") == {2}
    assert play(log).shown("r") == {1, 2}


def test_served_posts_are_not_repeated_for_10_minutes_and_then_come_again(play: Player) -> None:
    posts = [PostCreated(T0, 1, STRANGER), PostCreated(T0, 2, STRANGER)]
    times = [("first", 0), ("at once", 1), ("after 10 minutes", 10 * MINUTE), ("later", 10 * MINUTE + 1)]
    played = play([*posts, *(ask(T0 + after, name) for name, after in times)])
    assert [played.shown(name) for name, _ in times] == [{1, 2}, set(), set(), {1, 2}]
    assert played.served["first"].posts == tuple(played.posts("first"))
    other = FeedRequest(T0 + 1, "other", 2)
    assert play([*posts, ask(T0, "first"), other]).shown("other") == {1, 2}, "served to one viewer is not to another"


def test_served_posts_are_dropped_for_their_reposts_and_replies_too(play: Player) -> None:
    played = play(
        [
            Follow(T0, VIEWER, AUTHOR),
            PostCreated(T0, 1, STRANGER),
            ask(T0, "first"),
            PostCreated(T0 + 1, 2, AUTHOR, repost_of=1, repost_of_author=STRANGER),
            PostCreated(T0 + 1, 3, AUTHOR, reply_to=1, reply_to_author=STRANGER, conversation=1),
            ask(T0 + 2, "second"),
        ]
    )
    assert played.shown("first") == {1}
    assert played.shown("second") == set()


def test_only_the_newest_100_served_posts_are_remembered(play: Player) -> None:
    posts = [PostCreated(T0 + number, 1 + number, 1000 + number) for number in range(150)]
    asked = [ask(T0 + SECOND + number, f"r{number}", limit=60) for number in range(3)]
    played = play([*posts, *asked])
    first, second, third = (played.shown(f"r{number}") for number in range(3))
    assert len(first) == len(second) == 60
    assert not first & second
    # 30 were never served and 20 are remembered no longer.
    assert len(third) == 50
    assert not third & second


def test_what_a_viewer_does_before_a_request_changes_what_the_model_says(play: Player) -> None:
    posts = [PostCreated(T0, number, 100 + number) for number in range(1, 12)]
    act = Engagement(T0 + 1, VIEWER, 1, "favorite")
    without = play([*posts, ask(T0 + 2)])
    before, after = play([*posts, act, ask(T0 + 2)]), play([*posts, ask(T0 + 2), act])
    undone = play([*posts, act, Engagement(T0 + 1, VIEWER, 1, "favorite", undo=True), ask(T0 + 2)])
    assert after.feeds == without.feeds
    assert 1 not in before.shown("r"), "acted on means seen"
    scores = {item.post: item.score for item in without.feeds["r"].items}
    assert all(item.score != scores[item.post] for item in before.feeds["r"].items)
    assert undone.feeds == without.feeds


def test_an_unknown_viewer_gets_a_feed_and_so_does_one_without_any_posts(play: Player) -> None:
    played = play([ask(T0, "empty"), PostCreated(T0, 1, STRANGER), FeedRequest(T0 + 1, "stranger", "nobody-knows-me")])
    assert played.shown("stranger") == {1}
    assert played.feeds["stranger"].viewer == "nobody-knows-me"
    assert played.posts("empty") == []
    assert played.served["empty"].posts == ()
    assert not played.dead_letters


def test_feeds_come_in_the_order_of_their_requests_each_exactly_once(play: Player) -> None:
    posts = [PostCreated(T0, number, 100 + number) for number in range(1, 200)]
    asked = [FeedRequest(T0 + 1 + number, f"r{number}", number % 7 + 1) for number in range(60)]
    played = play([*posts, *asked])
    assert list(played.feeds) == [one.request for one in asked]
    assert list(played.served) == [one.request for one in asked]
    assert [feed.at for feed in played.feeds.values()] == [one.at for one in asked]
