"""A model that counts what a viewer did over days: the same feeds however viewers are shared, and enough days kept."""

from pathlib import Path

import msgspec
import pytest

from flows.replay import Replay, replay
from models.checkpoints import CheckpointRefused
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.events import Engagement, FeedRequest, PostCreated
from tests.acceptance.playing import MINUTE, T0, Player, by_one_and_by_two
from tests.conftest import shaken


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory, tiny: PhoenixConfig) -> Path:
    path = tmp_path_factory.mktemp("models") / "counting.phoenix"
    shaken(Phoenix.untrained(msgspec.structs.replace(tiny, affinity_groups=128)), seed=0).save(path)
    return path


def test_instances_count_alike(rough_log: Path, counting: Path, tmp_path: Path) -> None:
    one, two = by_one_and_by_two(Replay(rough_log, tmp_path / "one", counting, DEFAULTS), tmp_path)
    assert one == two


def test_an_author_liked_long_ago_is_scored_otherwise_and_nobody_else(
    tmp_path: Path, counting: Path, tiny: PhoenixConfig
) -> None:
    # The first like is older than all that the model reads one by one; 901 wrote 1 and 51, 902 wrote 2 and 52.
    play, scores = Player(tmp_path, counting), []
    for first in (1, 2):
        likes = [first, *range(3, 3 + tiny.history_max)]
        played = play(
            [
                *(PostCreated(T0 + number, number, 900 + number % 50) for number in range(1, 100)),
                *(Engagement(T0 + place * MINUTE, 7, post, "favorite") for place, post in enumerate(likes, start=1)),
                FeedRequest(T0 + 90 * MINUTE, "r", 7, explain=True, feed="score_posts", posts=(51, 52, 53, 90)),
            ]
        )
        scores.append({item.post: item.explanation.probabilities for item in played.feeds["r"].items})
    assert scores[0].keys() == scores[1].keys() == {51, 52, 53, 90}
    assert {post for post in scores[0] if scores[0][post] != scores[1][post]} == {51, 52}


def test_a_job_that_keeps_fewer_groups_than_a_model_counts_is_refused(tmp_path: Path, counting: Path) -> None:
    few = DEFAULTS.overridden({"history.groups_max": 100})
    (tmp_path / "log.jsonl").write_bytes(b"")
    with pytest.raises(CheckpointRefused, match=r"counts 128 groups of a viewer's actions, and 100 are kept: set hist"):
        replay(Replay(tmp_path / "log.jsonl", tmp_path / "out", counting, few))
