"""Where a viewer's taste changed, posts are scored as if there had been nothing before; however viewers are shared."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flows.replay import Replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.events import Engagement, Event, FeedRequest, PostCreated
from tests.acceptance.playing import MINUTE, T0, Player, by_one_and_by_two, write_log
from tests.conftest import shaken

GROUPS, CHANGED = 40, 32  # as tests/operators/viewers/test_taste_changes.py has them
ASKED = (101, 102)
VIEWERS = range(7, 13)
ODDS = "history.taste_change_odds"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory, tiny: PhoenixConfig) -> Path:
    """Return a model that has all it knows of a viewer from the history: no counts, which are of all times."""
    path = tmp_path_factory.mktemp("models") / "reading.phoenix"
    config = msgspec.structs.replace(tiny, counts=False, affinity_groups=128)
    shaken(Phoenix.untrained(config), seed=0).save(path)
    return path


def life(first: int) -> Iterator[Event]:
    """Yield posts on two topics, likes of one of them and then of the other from a number on, and requests."""
    for post in (*range(1, GROUPS + 1), *ASKED):
        yield PostCreated(T0 + post, post, 900 + post, topics=("cats" if post % 2 else "dogs",))
    for post in range(first, GROUPS + 1):
        liked = (post % 2 == 1) == (post <= CHANGED)
        for viewer in VIEWERS:
            yield Engagement(T0 + post * MINUTE, viewer, post, "favorite" if liked else "not_interested")
    for viewer in VIEWERS:
        yield FeedRequest(T0 + 60 * MINUTE, f"r{viewer}", viewer, explain=True, feed="score_posts", posts=ASKED)


def test_scores_are_those_of_the_groups_since_the_change(tmp_path: Path, reading: Path) -> None:
    play = Player(tmp_path, reading)
    played = [play(life(first), {ODDS: odds}).feeds for first, odds in ((1, 0.0), (1, 50.0), (CHANGED + 1, 0.0))]
    for viewer in VIEWERS:
        everything, since, newest = (
            {item.post: item.explanation.probabilities for item in feeds[f"r{viewer}"].items} for feeds in played
        )
        assert set(since) == set(ASKED)
        assert since == newest
        assert since != everything


def test_an_author_refused_before_the_change_is_still_lowered(tmp_path: Path, reading: Path) -> None:
    # 902 wrote post 2, which was refused before, and posts 120 and 121 are not of authors that anybody refused.
    posts = [PostCreated(T0 + 50 * MINUTE, post, author) for post, author in ((120, 902), (121, 999))]
    asked = FeedRequest(T0 + 60 * MINUTE, "again", 7, explain=True, feed="score_posts", posts=(120, 121))
    told = sorted([*life(1), *posts], key=lambda one: one.at)
    feed = Player(tmp_path, reading)([*told, asked], {ODDS: 50.0, "fatigue.enabled": True}).feeds["again"]
    steps = [(item.post, step) for item in feed.items for step in item.explanation.steps]
    factors = {post: step.value for post, step in steps if step.name == "feedback_fatigue"}
    assert factors[120] == pytest.approx(0.2, abs=0.01)
    assert factors[121] == 1.0


def test_instances_find_the_same_changes(tmp_path: Path, reading: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", life(1))
    what = Replay(log, tmp_path / "one", reading, DEFAULTS.overridden({ODDS: 50.0}))
    one, two = by_one_and_by_two(what, tmp_path)
    assert one == two
