"""Author cold start in the whole flow: who follows whom is known to every instance, and one post a feed comes up."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.replay import Replay, merge, replay
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from schemas.events import Engagement, Event, FeedRequest, PostCreated, Profile, UserDeleted
from schemas.feeds import Feed, FeedItem
from tests.acceptance.playing import MINUTE, SECOND, T0, Played, Player, outputs, write_log

# Sixty posts by as many authors; those of 901 to 910 have few followers, the others too many.
POSTS: list[Event] = [PostCreated(T0 + number, number, 900 + number) for number in range(1, 61)]
PROFILES: list[Event] = [Profile(T0, 900 + n, T0, followers=5 if n <= 10 else 5000) for n in range(1, 61)]
SEEN: list[Event] = [Engagement(T0 + MINUTE, 7, number, "favorite") for number in range(1, 61)]
ASKED = FeedRequest(T0 + 2 * MINUTE, "r", 8, limit=60, explain=True, parameters={"dpp.enabled": False})


def lifted(feed: Feed) -> list[FeedItem]:
    """Return the items that cold start raised above what they scored before."""
    found = []
    for item in feed.items:
        assert item.explanation is not None
        before, cold_start, *_ = item.explanation.steps
        assert (before.name, cold_start.name) == ("negative_offset", "author_cold_start")
        found += [item] if cold_start.value > before.value else []
    return found


def rank(item: FeedItem) -> int:
    assert item.explanation is not None
    return item.explanation.rank_before


@pytest.fixture(scope="module")
def played(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Player(tmp_path_factory.mktemp("lifted"), checkpoint)([*POSTS, *PROFILES, *SEEN, ASKED])


def test_one_post_of_a_small_author_comes_up_to_the_sixteenth(played: Played) -> None:
    feed = played.feeds["r"]
    assert not feed.degraded
    ranks = {rank(item): item for item in feed.items}
    small = sorted(place for place, item in ranks.items() if int(item.author) <= 910)
    # The best of the small: it comes up if it is not among the first sixteen by itself.
    expected = [ranks[small[0]]] if small[0] > 16 else []
    assert [item.post for item in lifted(feed)] == [item.post for item in expected]


def test_a_low_one_comes_up_to_what_the_sixteenth_scores(played: Played, tmp_path: Path, checkpoint: Path) -> None:
    # Whoever ranks 30th in the first replay is the only one with few followers in the second.
    item = next(item for item in played.feeds["r"].items if rank(item) == 30)
    profiles = [Profile(T0, 900 + n, T0, followers=5 if n == int(item.post) else 5000) for n in range(1, 61)]
    again = Player(tmp_path, checkpoint)([*POSTS, *profiles, *SEEN, ASKED]).feeds["r"]
    (raised,) = lifted(again)
    sixteenth = next(item for item in again.items if rank(item) == 16)
    assert raised.post == item.post
    assert [one.post for one in again.items if one.why.endswith("; raised because few know its author")] == [item.post]
    assert raised.explanation is not None
    assert sixteenth.explanation is not None
    assert raised.explanation.steps[1].value == sixteenth.explanation.steps[0].value
    assert raised.score == sixteenth.score


@pytest.mark.parametrize("nothing_of", ["profiles", "counts"])
def test_where_followers_or_views_are_unknown_nobody_comes_up(play: Player, nothing_of: str) -> None:
    events = [*POSTS, *(SEEN if nothing_of == "profiles" else PROFILES), ASKED]
    assert not lifted(play(events).feeds["r"])


def test_a_deleted_author_is_forgotten_and_the_others_are_not(play: Player) -> None:
    gone: list[Event] = [UserDeleted(T0 + MINUTE + SECOND, author) for author in range(901, 911)]
    late = Profile(T0 + MINUTE + 2 * SECOND, 901, T0, followers=3)
    feed = play([*POSTS, *PROFILES, *SEEN, *gone, late, ASKED]).feeds["r"]
    assert {int(item.post) for item in feed.items} == set(range(11, 61))
    assert not lifted(feed)


def test_instances_know_the_followers_of_everybody(checkpoint: Path, tmp_path: Path) -> None:
    asked = [FeedRequest(T0 + 2 * MINUTE + one, f"r{one}", one, limit=60, explain=True) for one in range(8, 40)]
    log = write_log(tmp_path / "log.jsonl", [*POSTS, *PROFILES, *SEEN, *asked])
    what = Replay(log, tmp_path / "one", checkpoint, DEFAULTS.overridden({"cold_start.thompson": True}))
    assert any(lifted(feed) for feed in Played(what.out, replay(what)).feeds.values())
    parts = [replace(what, out=tmp_path / str(k), ownership=Ownership(k, 4)) for k in range(4)]
    for part in parts:
        replay(part)
    merge([part.out for part in parts], tmp_path / "merged")
    assert outputs(tmp_path / "merged") == outputs(what.out)
