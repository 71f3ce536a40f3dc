"""What is done with posts changes how they rank: from the next request on, and for those posts alone."""

from collections.abc import Sequence

from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, Served, UserDeleted
from schemas.ids import Id
from tests.acceptance.playing import MINUTE, T0, Player

VIEWER, AUTHOR, POSTS = 1, 10, range(1, 9)
BEGINNING: tuple[Event, ...] = (
    Follow(T0, VIEWER, AUTHOR),
    *(PostCreated(T0, post, AUTHOR, text=f"about word{post}") for post in POSTS),
)
CROWD = range(100, 140)


def likes(post: Id, at: int = T0 + 1, **fields: bool) -> list[Event]:
    return [Engagement(at, viewer, post, "favorite", **fields) for viewer in CROWD]


def favorites(play: Player, events: Sequence[Event]) -> dict[Id, float]:
    """Return the probability of a like by post, in the feed of the viewer after some events."""
    asked = FeedRequest(T0 + MINUTE, "r", VIEWER, explain=True)
    (feed,) = play([*BEGINNING, *events, asked]).feeds.values()
    return {item.post: item.explanation.probabilities["favorite"] for item in feed.items if item.explanation}


def changed(one: dict[Id, float], other: dict[Id, float]) -> set[Id]:
    assert one.keys() == other.keys() == set(POSTS)
    return {post for post in one if one[post] != other[post]}


def test_what_others_did_with_a_post_counts_for_that_post_alone(play: Player) -> None:
    calm = favorites(play, [])
    assert changed(calm, favorites(play, likes(3))) == {3}
    assert changed(calm, favorites(play, [*likes(3), *likes(3, T0 + 2, undo=True)])) == set()
    assert changed(calm, favorites(play, likes(3, T0 + 2 * MINUTE))) == {3}, "the log's order counts, as everywhere"


def test_what_comes_twice_counts_once(play: Player) -> None:
    assert changed(favorites(play, likes(3)), favorites(play, [*likes(3), *likes(3)])) == set()


def test_what_others_were_shown_counts_for_the_posts_and_what_the_viewer_was_for_all(play: Player) -> None:
    calm = favorites(play, [])
    to_others = [Served(T0 + 1, f"s{viewer}", viewer, (2, 5)) for viewer in CROWD]
    assert changed(calm, favorites(play, to_others)) == {2, 5}
    to_viewer = [Served(T0 + 1, "s", VIEWER, (900, 901, 902))]
    assert changed(calm, favorites(play, to_viewer)) == set(POSTS)


def test_who_is_deleted_no_longer_counts(play: Player) -> None:
    gone = [UserDeleted(T0 + 1, viewer) for viewer in CROWD]
    assert changed(favorites(play, []), favorites(play, [*gone, *likes(3, T0 + 2)])) == set()
