"""Where modules stand in the blended feed, and whom it suggests to follow: by hand."""

import numpy as np
import pytest

from operators.blending import blended, suggestions
from operators.parameters import DEFAULTS, Value
from operators.pipeline.scorers import HEADS, score
from operators.viewers.facts import Facts, decode_facts, encode_facts
from operators.viewers.query import Query
from operators.viewers.relations import Relations
from operators.viewers.viewers import Viewers
from schemas.events import FeedRequest, Insert, InsertKind
from schemas.feeds import Feed, FeedItem, Module, Suggestion
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

HOUR_MS = 3_600_000
WHOM = (Suggestion(20, "wrote a post ranked for you", (2,)),)
NEVER = (0, 0)


class Ids:
    def original_id(self, key: int) -> int:
        return key


def feed(posts: int, notices: tuple[int, ...] = ()) -> Feed:
    """Return a feed of posts 1, 2, ..., of which some stand behind a notice."""
    items = tuple(
        FeedItem(number, 100 + number, 1.0, "thunder", True, "", interstitial="notice" if number in notices else "")
        for number in range(1, posts + 1)
    )
    return Feed(NOW_MS, "r", VIEWER, "model", items, (), feed="blended")


def asking(*inserts: tuple[InsertKind, int], **parameters: Value) -> Query:
    event = FeedRequest(NOW_MS, "r", VIEWER, feed="blended", inserts=tuple(Insert(*one) for one in inserts))
    named = {f"blending.{name}": value for name, value in parameters.items()}
    return query(event=event, parameters=DEFAULTS.overridden(named))


def places(made: Feed) -> list[tuple[int, str]]:
    return [(module.position, module.kind) for module in made.modules]


def test_everything_has_its_place() -> None:
    asked = asking(("survey", 1), ("ad", 2), ("prompt", 3), ("push_to_home", 4), ("ad", 5))
    made = blended(feed(20), asked, WHOM, NEVER)
    # 20 posts; 4 is pinned, so 1 2 3 5 6 7 8 ... are left. Ads stand after 4 posts each: 1 2 3 5 AD 6 7 8 9 AD 10 ...
    # With what is pinned at 0 and the prompt behind it: P R 1 2 3 5 W AD 6 7 8 9 S AD: whom to follow is put in at 6,
    # which moves the first ad to 7; the survey is put in at 12, which moves the second to 13.
    assert places(made) == [
        (0, "push_to_home"),
        (1, "prompt"),
        (6, "who_to_follow"),
        (7, "ad"),
        (12, "survey"),
        (13, "ad"),
    ]
    assert [module.id for module in made.modules] == [4, 3, None, 2, 1, 5]
    assert made.modules[2].suggestions == WHOM
    assert [item.post for item in made.items] == [1, 2, 3, *range(5, 21)]


def test_ads_stand_apart_between_posts_and_not_beside_a_notice() -> None:
    ads: list[tuple[InsertKind, int]] = [("ad", number) for number in range(1, 12)]
    # Four posts before each: after post 4, 8, 12, ... of 35 there are eight places, with a post behind each.
    assert places(blended(feed(35), asking(*ads), (), NEVER)) == [(4 + 5 * n, "ad") for n in range(8)]
    # Nothing at the end: of four posts none is behind the fourth, of five one is.
    assert places(blended(feed(4), asking(*ads), (), NEVER)) == []
    assert places(blended(feed(5), asking(*ads), (), NEVER)) == [(4, "ad")]
    # Post 5 stands behind a notice: neither before nor after it, so after post 6; the next four posts later.
    assert places(blended(feed(12, notices=(5,)), asking(*ads), (), NEVER)) == [(6, "ad"), (11, "ad")]
    assert places(blended(feed(35), asking(*ads, ads_max=2), (), NEVER)) == [(4, "ad"), (9, "ad")]
    assert places(blended(feed(8), asking(*ads, ads_gap=2), (), NEVER)) == [(2, "ad"), (5, "ad"), (8, "ad")]


def test_a_short_feed_has_its_modules_at_its_end_and_an_empty_one_none_of_its_own() -> None:
    asked = asking(("survey", 1), ("prompt", 3))
    assert places(blended(feed(2), asked, WHOM, NEVER)) == [(0, "prompt"), (3, "who_to_follow"), (4, "survey")]
    assert places(blended(feed(0), asked, WHOM, NEVER)) == [(0, "prompt")]


def test_positions_are_parameters_and_modules_limited() -> None:
    asked = asking(("survey", 1), ("prompt", 3), survey_position=2, prompt_position=5, who_to_follow_position=5)
    # The prompt is first for place 5, whom to follow has the next.
    assert places(blended(feed(9), asked, WHOM, NEVER)) == [(2, "survey"), (5, "prompt"), (6, "who_to_follow")]
    two = asking(("survey", 1), ("prompt", 3), modules_max=2)
    assert places(blended(feed(20), two, WHOM, NEVER)) == [(0, "prompt"), (6, "who_to_follow")]


@pytest.mark.parametrize(
    ("hours", "kinds"),
    [
        ((0.1, 0.1), []),
        ((29.9, 24.0), ["survey"]),
        ((30.0, 23.9), ["who_to_follow"]),
        ((30.0, 24.0), ["who_to_follow", "survey"]),
        ((-1.0, -1.0), ["who_to_follow", "survey"]),  # shown later than this request was made: an earlier one
    ],
)
def test_a_viewer_is_spared_a_second_one_for_a_while(hours: tuple[float, float], kinds: list[str]) -> None:
    last_ms = tuple(NOW_MS - round(one * HOUR_MS) for one in hours)
    assert [one.kind for one in blended(feed(20), asking(("survey", 1)), WHOM, last_ms).modules] == kinds


@pytest.mark.parametrize("kind", ["ad", "prompt", "push_to_home", "survey", "who_to_follow"])
def test_each_can_be_switched_off(kind: str) -> None:
    inserts: list[tuple[InsertKind, int]] = [("ad", 900), ("prompt", 901), ("push_to_home", 3), ("survey", 902)]
    everything = blended(feed(20), asking(*inserts), WHOM, NEVER)
    without = blended(feed(20), asking(*inserts, **{kind: False}), WHOM, NEVER)
    assert {one.kind for one in everything.modules} - {one.kind for one in without.modules} == {kind}
    assert (3 in {item.post for item in without.items}) == (kind == "push_to_home")
    counts = {one.stage: (one.given, one.kept) for one in without.stages}
    assert counts[f"module.{kind}"] == (1, 0)


def test_whom_to_follow_is_who_wrote_most_of_the_best() -> None:
    # Favorite .9 .8 .7 ...: author 30 wrote the best post, 20 the next two, 40 is muted, 50 is followed, 60 has one.
    authors = [30, 20, 20, 40, 40, 40, 50, 60, VIEWER]
    rows = table(author=authors, in_network=[author == 50 for author in authors])
    probabilities = np.zeros((len(authors), len(HEADS)), np.float32)
    probabilities[:, 0] = np.linspace(0.9, 0.1, len(authors))
    relations = Relations(followed=np.array([50], np.uint64), muted=np.array([40], np.uint64))
    asked = query(relations)
    scores = score(asked, rows, probabilities, np.eye(len(authors), dtype=np.float32))
    assert suggestions(asked, rows, scores, Ids()) == (
        Suggestion(20, "wrote 2 posts ranked for you", (2, 3)),
        Suggestion(30, "wrote a post ranked for you", (1,)),
        Suggestion(60, "wrote a post ranked for you", (8,)),
    )
    few = query(relations, DEFAULTS.overridden({"blending.suggestions_max": 1, "blending.suggested_from": 2}))
    assert [one.author for one in suggestions(few, rows, scores, Ids())] == [30]
    blocking = query(Relations(blocked=np.array([20], np.uint64), blocked_by=np.array([30], np.uint64)))
    assert [one.author for one in suggestions(blocking, rows, scores, Ids())] == [40, 60]


def test_a_module_says_only_what_there_is_to_say() -> None:
    (module,) = blended(feed(1), asking(("prompt", 7)), (), NEVER).modules
    assert module == Module(0, "prompt", 7)


def test_what_was_shown_when_is_kept_with_the_viewer() -> None:
    viewers = Viewers(DEFAULTS)
    request = asking().request
    assert viewers.modules_ms(request) == NEVER
    viewers.remember_modules(request, {"ad", "survey"})
    assert viewers.modules_ms(request) == (0, NOW_MS)
    changed = viewers.take_changed()
    (key,), (facts,) = changed.keys, changed.facts
    assert key == VIEWER
    assert isinstance(facts, Facts)
    assert decode_facts(encode_facts(facts)).modules_ms == (0, NOW_MS)
    viewers.remember_modules(request, {"ad", "prompt"})
    assert not viewers.take_changed().keys
