"""A model that reads what co-likers say, replayed: the same feeds however viewers are shared; likes of others show."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flows.replay import Replay, merge, replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from schemas.events import Engagement, FeedRequest, PostCreated
from tests.acceptance.playing import MINUTE, T0, Player, outputs
from tests.conftest import shaken


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, tiny: PhoenixConfig) -> Path:
    path = tmp_path_factory.mktemp("models") / "asking.phoenix"
    shaken(Phoenix.untrained(msgspec.structs.replace(tiny, co_likers=True)), seed=0).save(path)
    return path


def test_instances_see_the_likes_of_all_viewers(rough_log: Path, asking: Path, tmp_path: Path) -> None:
    what = Replay(rough_log, tmp_path / "one", asking, DEFAULTS)
    replay(what)
    parts = [replace(what, out=tmp_path / str(k), ownership=Ownership(k, 2)) for k in range(2)]
    for part in parts:
        replay(part)
    merge([part.out for part in parts], tmp_path / "merged")
    assert outputs(tmp_path / "merged") == outputs(what.out)


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
