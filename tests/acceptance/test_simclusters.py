"""Interest clusters in the whole flow: likes of others bring posts, and instances agree on all of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.one_feed import one_feed
from flows.replay import Replay, merge, replay
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, UserDeleted
from tests.acceptance.playing import MINUTE, T0, Played, Player, outputs, write_log

# Small worlds have few likes of each post.
FEW = {"simclusters.engagements_min": 2, "simclusters.refresh_s": 60}
# Twelve people follow 901 and 902, twelve others 911: two circles. 1 and 2 are by strangers, liked by the first circle,
# 3 by the second; the viewer liked 1. Fifty newer posts by nobody.
CIRCLES: list[Event] = [
    *(Follow(T0, 100 + fan, author) for fan in range(12) for author in (901, 902)),
    *(Follow(T0, 200 + fan, 911) for fan in range(12)),
]
POSTS: list[Event] = [PostCreated(T0 + MINUTE, number, 950 + number) for number in (1, 2, 3)]
NEWER: list[Event] = [PostCreated(T0 + 3 * MINUTE, 10 + number, 5000 + number) for number in range(50)]
LIKES: list[Event] = [
    *(Engagement(T0 + 4 * MINUTE, 100 + fan, post, "favorite") for fan in range(6) for post in (1, 2)),
    *(Engagement(T0 + 4 * MINUTE, 200 + fan, 3, "favorite") for fan in range(6)),
    Engagement(T0 + 4 * MINUTE, 7, 1, "favorite"),
]
# Time passes where something happens.
LATER: list[Event] = [Follow(T0 + 6 * MINUTE, 300 + one, 999) for one in range(9)]
ASKED = FeedRequest(T0 + 7 * MINUTE, "r", 7, parameters={"retrieval.enabled": False}, explain=True)


@pytest.fixture(scope="module")
def played(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    play = Player(tmp_path_factory.mktemp("clusters"), checkpoint)
    return play([*CIRCLES, *POSTS, *NEWER, *LIKES, *LATER, ASKED], FEW)


def sources(played: Played) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for item in played.feeds["r"].items:
        found.setdefault(item.source, []).append(item.post)
    return found


def test_a_post_liked_by_the_same_circle_comes(played: Played) -> None:
    assert sources(played)["simclusters"] == [2]
    (item,) = [item for item in played.feeds["r"].items if item.source == "simclusters"]
    assert item.why.startswith("from a circle that interests you")
    assert not played.feeds["r"].degraded


def test_likers_who_are_deleted_first_give_nothing(play: Player) -> None:
    gone = [UserDeleted(T0 + 4 * MINUTE, 100 + fan) for fan in range(12)]
    events = [*CIRCLES, *POSTS, *NEWER, *gone, ASKED, *LIKES, *LATER, replace_name(ASKED, "again")]
    feeds = play(events, FEW).feeds
    assert not [item for feed in feeds.values() for item in feed.items if item.source == "simclusters"]


def replace_name(event: FeedRequest, name: str) -> FeedRequest:
    return FeedRequest(event.at, name, event.viewer, parameters=event.parameters)


def test_a_job_that_does_not_keep_them_brings_nothing_and_feeds_go_out(play: Player) -> None:
    switched = FeedRequest(ASKED.at, "r", 7, parameters={"retrieval.enabled": False, "simclusters.enabled": True})
    off = play([*CIRCLES, *POSTS, *NEWER, *LIKES, *LATER, switched], {"simclusters.enabled": False})
    assert "simclusters" not in sources(off)
    assert len(off.feeds["r"].items) == 35
    assert not off.feeds["r"].degraded


def test_instances_agree_on_clusters(rough_log: Path, checkpoint: Path, tmp_path: Path) -> None:
    parameters = DEFAULTS.overridden({"simclusters.engagements_min": 1, "simclusters.refresh_s": 300})
    what = Replay(rough_log, tmp_path / "one", checkpoint, parameters)
    assert replay(what).sources["simclusters"] > 10
    for instances in (2, 4):
        parts = [replace(what, out=tmp_path / f"{k}", ownership=Ownership(k, instances)) for k in range(instances)]
        for part in parts:
            replay(part)
        merge([part.out for part in parts], tmp_path / "merged")
        assert outputs(tmp_path / "merged") == outputs(what.out)


def test_one_feed_from_a_log_is_that_of_the_replay(played: Played, checkpoint: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [*CIRCLES, *POSTS, *NEWER, *LIKES, *LATER])
    parameters = DEFAULTS.overridden({**FEW, "retrieval.enabled": False})
    made = one_feed(log, checkpoint, parameters, 7, ASKED.at, True, None)
    assert [(item.post, item.source) for item in made.items] == [
        (item.post, item.source) for item in played.feeds["r"].items
    ]
