"""What a request may ask for, and what of it the next requests remember."""

from pathlib import Path

import msgspec
import pytest

from flows.replay import FEEDS, Replay, replay
from operators.experiments import Arm, Experiments
from operators.parameters import DEFAULTS
from schemas.events import Event, FeedRequest, Follow, PostCreated
from schemas.feeds import Feed
from tests.acceptance.playing import HOUR, SECOND, T0, Player, write_log

VIEWER = 1
AUTHOR, STRANGER = 10, 20


def ask(at: int, request: str = "r", **fields: object) -> FeedRequest:
    return FeedRequest(at, request, VIEWER, **fields)  # type: ignore[arg-type]


FOLLOWED: tuple[Event, ...] = (Follow(T0, VIEWER, AUTHOR), PostCreated(T0, 1, AUTHOR), PostCreated(T0, 2, STRANGER))
MANY: tuple[Event, ...] = tuple(PostCreated(T0 + number, number + 1, 100 + number) for number in range(300))


def test_in_network_only_asks_thunder_alone(play: Player) -> None:
    played = play([*FOLLOWED, ask(T0, in_network_only=True)])
    assert played.shown("r") == {1}
    assert "source.phoenix_retrieval" not in {stage.stage for stage in played.feeds["r"].stages}


def test_topics_asked_for_are_sought_where_other_sources_have_few(play: Player) -> None:
    log = [PostCreated(T0 + n, n + 1, 100 + n, topics=("tea" if n % 3 == 0 else "cats",)) for n in range(60)]
    few = {"retrieval.posts_max": 1, "fallback.enabled": False}
    asked = [
        ask(T0 + SECOND, "tea", topics=("tea",), parameters=few),
        ask(T0 + HOUR, "without", topics=("tea",), parameters=few | {"topics.enabled": False}),
        ask(T0 + 2 * HOUR, "none", parameters=few),
        ask(T0 + 3 * HOUR, "but", topics=("tea",), excluded_topics=("tea",), parameters=few),
    ]
    played = play([*log, *asked])
    assert played.shown("tea") == {n + 1 for n in range(0, 60, 3)}
    assert {item.source for item in played.feeds["tea"].items} <= {"topics", "phoenix_retrieval"}
    assert [len(played.shown(one)) <= 1 for one in ("without", "none", "but")] == [True, True, True]


def test_videos_are_excluded_where_asked_reposted_ones_too(play: Player) -> None:
    log = [
        Follow(T0, VIEWER, AUTHOR),
        PostCreated(T0, 1, STRANGER, video_ms=20_000),
        PostCreated(T0, 2, STRANGER),
        PostCreated(T0 + 1, 3, AUTHOR, repost_of=1, repost_of_author=STRANGER),
    ]
    assert play([*log, ask(T0 + 1, exclude_videos=True)]).shown("r") == {2}
    (other,) = play([*log, ask(T0 + 1)]).shown("r") - {2}
    assert other in {1, 3}


@pytest.mark.parametrize(("limit", "length"), [(None, 35), (1, 1), (35, 35), (60, 60), (200, 200)])
def test_a_feed_is_as_long_as_asked(play: Player, limit: int | None, length: int) -> None:
    assert len(play([*MANY, ask(T0 + SECOND, limit=limit)]).posts("r")) == length


def test_seen_posts_are_left_out_of_this_request_and_later_ones(play: Player) -> None:
    repost = PostCreated(T0 + 1, 3, AUTHOR, repost_of=2, repost_of_author=STRANGER)
    reply = PostCreated(T0 + 1, 4, AUTHOR, reply_to=2, reply_to_author=STRANGER)
    asked = [
        ask(T0 + 1, "now", seen_ids=(2, 12345)),
        ask(T0 + HOUR, "later"),
        ask(T0 + 2 * HOUR, "again", seen_ids=(1,)),
    ]
    played = play([*FOLLOWED, repost, reply, *asked])
    assert [played.shown(one.request) for one in asked] == [{1}, {1}, set()]


def test_served_posts_may_be_repeated_but_for_the_bottom_of_the_feed(play: Player) -> None:
    asked = [ask(T0 + 1, "first"), ask(T0 + 2, "again"), ask(T0 + 3, "bottom", bottom=True)]
    played = play([*FOLLOWED, *asked], {"filters.served_every_request": False})
    assert [played.shown(one.request) for one in asked] == [{1, 2}, {1, 2}, set()]


def test_paging_goes_through_all_posts_without_repeating_one(play: Player) -> None:
    asked = [ask(T0 + SECOND + page, f"page-{page}", bottom=page > 0, limit=20) for page in range(6)]
    played = play([*MANY[:100], *asked])
    pages = [played.posts(one.request) for one in asked]
    assert [len(page) for page in pages] == [20] * 5 + [0]
    assert len({post for page in pages for post in page}) == 100


def test_a_request_that_asks_to_explain_gets_the_same_feed(play: Player) -> None:
    plain, explained = (
        play([*FOLLOWED, *MANY[5:60], ask(T0 + SECOND, explain=explain)]).feeds["r"] for explain in (False, True)
    )
    assert all(item.explanation is None for item in plain.items)
    assert plain.dropped == ()
    assert all(item.explanation for item in explained.items)
    assert [(item.post, item.score, item.why) for item in explained.items] == [
        (item.post, item.score, item.why) for item in plain.items
    ]
    assert explained.stages == plain.stages


def test_parameters_of_a_request_count_for_it_alone(play: Player) -> None:
    posts = [PostCreated(T0, number, number) for number in range(100, 110)]
    changed = {"scoring.oon_factor": 0.125, "selection.result_size": 3}
    asked = [
        ask(T0 + 1, "before"),
        ask(T0 + HOUR, "changed", parameters=changed),
        ask(T0 + 2 * HOUR, "after"),
    ]
    played = play(
        [*posts, *(FeedRequest(one.at, one.request, 1, explain=True, parameters=one.parameters) for one in asked)]
    )
    factors = {
        name: {factor.value for item in feed.items for factor in item.explanation.steps if "network" in factor.name}
        for name, feed in played.feeds.items()
    }
    assert factors == {"before": {0.75}, "changed": {0.125}, "after": {0.75}}
    assert [len(feed.items) for feed in played.feeds.values()] == [10, 3, 10]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"scoring.oon_facter": 0.5}, "no parameter is called scoring.oon_facter; did you mean scoring.oon_factor?"),
        ({"posts.retention_s": 5}, "parameter posts.retention_s belongs to the job; a request can't change it"),
        ({"scoring.diversity_decay": 2.0}, "parameter Expected `float` <= 1.0 at `scoring.diversity_decay`"),
        ({"weights.block_author": 1.0}, "parameter Expected `float` <= 0.0 at `weights.block_author`"),
        ({"selection.top_k": "many"}, "parameter Expected `int`, got `str` at `selection.top_k`"),
    ],
)
def test_a_request_with_parameters_that_do_not_fit_is_a_dead_letter(
    play: Player, parameters: dict[str, bool | int | float | str], reason: str
) -> None:
    played = play([*FOLLOWED, ask(T0, "bad", parameters=parameters), ask(T0, "good")])
    (letter,) = played.dead_letters
    assert (letter.path, letter.reason) == ("$.parameters", reason)
    assert list(played.feeds) == ["good"]


def test_ids_come_back_as_they_were(play: Player) -> None:
    big, text, accents = 2**63 - 1, "did:plc:z72i7hdynmk6r22z27h6tvur", "é" * 32
    played = play(
        [
            Follow(T0, text, accents),
            PostCreated(T0, big, 5),
            PostCreated(T0, accents, accents),
            PostCreated(T0, text, text),
            FeedRequest(T0, accents, text),
        ]
    )
    feed = played.feeds[accents]
    assert (feed.viewer, feed.request) == (text, accents)
    assert {(item.post, item.author) for item in feed.items} == {(big, 5), (accents, accents)}


def test_an_experiment_changes_the_feeds_of_its_arm_and_says_so(play: Player, tmp_path: Path) -> None:
    arms = Experiments({"length": {"long": Arm(0.5), "short": Arm(0.5, {"selection.result_size": 3})}})
    log = write_log(tmp_path / "log.jsonl", [*MANY, *(FeedRequest(T0 + SECOND, v, v) for v in range(1, 21))])
    what = Replay(log, tmp_path / "out", play.checkpoint, DEFAULTS, experiments=arms)
    replay(what)
    feeds = [msgspec.json.decode(line, type=Feed) for line in (what.out / FEEDS).read_bytes().splitlines()]
    assert {(feed.experiments["length"], len(feed.items)) for feed in feeds} == {("long", 35), ("short", 3)}
    assert all(feed.experiments == dict(arms.exposures(int(feed.viewer))) for feed in feeds)
