"""Rules of visibility over the real dataflow: by labels of posts and authors, country, settings and follows."""

import tomllib

import pytest

from operators.visibility import VisibilityRules
from schemas.events import (
    AuthorLabelled,
    Event,
    FeedRequest,
    Follow,
    PostCreated,
    PostDeleted,
    PostLabelled,
    Profile,
    UserDeleted,
)
from tests.acceptance.playing import HOUR, T0, Player

VIEWER = 1
AUTHOR = 10
STRANGER = 20
THIRD = 30


def ask(at: int, request: str = "r", viewer: int = VIEWER, explain: bool = False) -> FeedRequest:
    return FeedRequest(at=at, request=request, viewer=viewer, explain=explain)


WORLD: list[Event] = [Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, AUTHOR), PostCreated(T0, 2, STRANGER)]
# The served ones are served again after ten minutes.
LATER = T0 + HOUR


def test_an_author_who_is_suspended_or_protected(play: Player) -> None:
    both = [AuthorLabelled(T0 + 1, one, ("suspended",)) for one in (AUTHOR, STRANGER)]
    protected = [AuthorLabelled(T0 + HOUR, one, ("protected",)) for one in (AUTHOR, STRANGER)]
    lifted = [AuthorLabelled(T0 + 2 * HOUR, one, ()) for one in (AUTHOR, STRANGER)]
    played = play(
        [*WORLD, *both, ask(T0 + 2, "gone"), *protected, ask(LATER, "protected"), *lifted, ask(LATER + HOUR, "lifted")]
    )
    assert played.shown("gone") == set()
    assert played.shown("protected") == {1}
    assert played.shown("lifted") == {1, 2}
    early = play([*both, *WORLD, ask(T0 + 2)])
    assert early.shown("r") == set(), "also when the labels came before any post"


@pytest.mark.parametrize("kind", ["repost_of", "quote_of", "reply_to"])
def test_what_a_post_repeats_quotes_or_answers_counts_with_its_author(play: Player, kind: str) -> None:
    about = PostCreated(T0 + 1, 2, AUTHOR, "about it", **{kind: 1, f"{kind}_author": STRANGER})
    log = [Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, STRANGER, "it"), about]
    suspended = AuthorLabelled(T0 + 2, STRANGER, ("suspended",))
    asked = FeedRequest(at=T0 + 3, request="r", viewer=VIEWER, in_network_only=True)
    assert play([*log, asked]).shown("r") == {2}
    assert play([*log, suspended, asked]).shown("r") == set()
    withheld = PostLabelled(T0 + 2, 1, STRANGER, ("withheld:DE",))
    assert play([*log, Profile(T0, VIEWER, country="DE"), withheld, asked]).shown("r") == set()
    if kind == "quote_of":
        deleted = PostDeleted(T0 + 3, 1, STRANGER)
        assert play([*log, suspended, deleted, asked]).shown("r") == {2}, "a tombstone says nothing"


def test_who_is_not_in_the_log_counts_by_name(play: Player) -> None:
    quote = PostCreated(T0, 5, AUTHOR, "look", quote_of=4, quote_of_author=THIRD)
    log = [Follow(T0, VIEWER, AUTHOR), quote]
    assert play([*log, ask(T0 + 1)]).shown("r") == {5}
    assert play([*log, AuthorLabelled(T0, THIRD, ("suspended",)), ask(T0 + 1)]).shown("r") == set()


def test_a_notice_goes_to_the_item_unless_the_viewer_wants_none(play: Player) -> None:
    gore = PostLabelled(T0 + 1, 1, AUTHOR, ("gore",))
    played = play(
        [*WORLD, gore, ask(T0 + 2, "first"), Profile(T0 + 3, VIEWER, settings=("show_sensitive",)), ask(LATER, "set"),
         Profile(LATER, VIEWER), ask(LATER + HOUR, "unset")]
    )  # fmt: skip
    notices = {name: {item.post: item.interstitial for item in feed.items} for name, feed in played.feeds.items()}
    said = "may show what you do not want to see"
    assert notices == {"first": {1: said, 2: ""}, "set": {1: "", 2: ""}, "unset": {1: said, 2: ""}}


def test_posts_are_withheld_in_a_country(play: Player) -> None:
    where = [
        Profile(T0, VIEWER, country="DE"),
        Profile(T0, 3, country="FR"),
        Follow(T0, 3, AUTHOR),
        Follow(T0, 4, AUTHOR),
    ]
    log = [
        *WORLD,
        *where,
        PostLabelled(T0 + 1, 1, AUTHOR, ("withheld:DE",)),
        AuthorLabelled(T0, STRANGER, ("withheld:FR",)),
    ]
    played = play([*log, *(ask(T0 + 2, f"r{viewer}", viewer) for viewer in (VIEWER, 3, 4))])
    assert [played.shown(f"r{viewer}") for viewer in (VIEWER, 3, 4)] == [{2}, {1}, {1, 2}]


def test_explanations_name_the_rule(play: Player) -> None:
    labels = [PostLabelled(T0 + 1, 1, AUTHOR, ("spam",)), PostLabelled(T0 + 1, 2, STRANGER, ("nsfw",))]
    feed = play([*WORLD, *labels, ask(T0 + 2, explain=True)]).feeds["r"]
    told = {one.posts: one.rule for one in feed.dropped if one.stage == "visibility"}
    assert told == {
        (1,): "the post breaks the rules (forbidden_post)",
        (2,): "not shown to who does not follow the account (not_recommended)",
    }
    (count,) = [one for one in feed.stages if one.stage == "visibility"]
    assert (count.given, count.kept) == (2, 0)


def test_a_file_of_ones_own_takes_the_place_of_the_built_in_one(play: Player) -> None:
    own = VisibilityRules.of(
        tomllib.loads(
            'labels = ["cute", "spam"]\n'
            '[[rules]]\nname = "no_cats"\nverdict = "drop"\nreason = "cats"\npost_labels = ["cute"]\n'
            '[[rules]]\nname = "unasked"\nverdict = "interstitial"\nreason = "you did not ask"\nfollowed = false\n'
        )
    )
    labels = [PostLabelled(T0 + 1, 1, AUTHOR, ("cute",)), PostLabelled(T0 + 1, 2, STRANGER, ("spam",))]
    feed = play([*WORLD, *labels, ask(T0 + 2)], visibility=own).feeds["r"]
    assert [(item.post, item.interstitial) for item in feed.items] == [(2, "you did not ask")]


def test_labels_are_forgotten_with_a_deleted_user(play: Player) -> None:
    quote = PostCreated(T0, 5, AUTHOR, "look", quote_of=4, quote_of_author=THIRD)
    log = [Follow(T0, VIEWER, AUTHOR), AuthorLabelled(T0, THIRD, ("suspended",)), quote, UserDeleted(T0 + 1, THIRD)]
    assert play([*log, AuthorLabelled(T0 + 2, THIRD, ("suspended",)), ask(T0 + 3)]).shown("r") == {5}


def test_bad_events_of_labels_are_dead_letters(play: Player) -> None:
    bad = {
        b'{"kind":"author_labelled","at":1,"author":0,"labels":["x"]}': "author 0 is nobody",
        b'{"kind":"author_labelled","at":1,"author":7}': "missing required field `labels`",
        b'{"kind":"profile","at":1,"viewer":7,"country":"de"}': "matching regex",
    }
    letters = {letter.raw: letter.reason for letter in play([*WORLD, *bad, ask(T0 + 2)]).dead_letters}
    assert letters.keys() == bad.keys()
    assert all(said in letters[raw] for raw, said in bad.items())
