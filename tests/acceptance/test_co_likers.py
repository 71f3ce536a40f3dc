"""A model that reads what co-likers say, replayed: the same feeds however viewers are shared; likes of others show."""

from pathlib import Path

import msgspec
import pytest

from flows.replay import Replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.events import Engagement, FeedRequest, PostCreated
from tests.acceptance.playing import MINUTE, T0, Player, by_one_and_by_two
from tests.conftest import shaken


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, tiny: PhoenixConfig) -> Path:
    path = tmp_path_factory.mktemp("models") / "asking.phoenix"
    shaken(Phoenix.untrained(msgspec.structs.replace(tiny, co_likers=True)), seed=0).save(path)
    return path


def test_instances_see_the_likes_of_all_viewers(rough_log: Path, asking: Path, tmp_path: Path) -> None:
    one, two = by_one_and_by_two(Replay(rough_log, tmp_path / "one", asking, DEFAULTS), tmp_path)
    assert one == two


def test_what_people_like_me_like_is_brought_and_scored_otherwise(tmp_path: Path, asking: Path) -> None:
    posts = [PostCreated(T0 + number, number, 900 + number) for number in range(1, 60)]
    ours = [Engagement(T0 + MINUTE, viewer, 1, "favorite") for viewer in (7, 8)]
    theirs = Engagement(T0 + 2 * MINUTE, 8, 5, "favorite")
    asked = FeedRequest(T0 + 3 * MINUTE, "r", 7, explain=True, parameters={"retrieval.enabled": False})
    play = Player(tmp_path, asking)
    alone, together = (play([*posts, *ours, *more, asked]).feeds["r"] for more in ([], [theirs]))
    assert 5 in {item.post for item in together.items if item.source == "co_likers"}
    assert 5 not in {item.post for item in alone.items if item.source == "co_likers"}
    assert not together.degraded
