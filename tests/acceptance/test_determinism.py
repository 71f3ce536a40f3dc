"""One log, checkpoint and parameters give the same bytes, however the replay is run."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.instances import replay_instances, verify
from flows.replay import Replay, digest, merge, replay
from infra.logs import LogWriter
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from schemas.codec import Refused, decode
from schemas.events import TOPIC_OF, FeedRequest, PostCreated
from tests.acceptance.playing import HOUR, MINUTE, T0, Played, Player, outputs, write_log


@pytest.fixture(scope="module")
def what(rough_log: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return Replay(rough_log, tmp_path_factory.mktemp("once"), checkpoint, DEFAULTS)


@pytest.fixture(scope="module")
def once(what: Replay) -> Played:
    return Played(what.out, replay_instances(what, 1, Console(stderr=True)))


def test_the_log_tries_what_makes_replays_differ(once: Played) -> None:
    feeds = once.feeds.values()
    assert len(feeds) > 30
    assert sum(len(feed.items) for feed in feeds) > 300
    assert any(isinstance(item.post, str) for feed in feeds for item in feed.items)
    assert any(isinstance(item.post, int) for feed in feeds for item in feed.items)
    assert any(feed.items and feed.items[0].explanation for feed in feeds)
    assert any(letter.path == "$.parameters" for letter in once.dead_letters)
    assert len({letter.reason for letter in once.dead_letters}) > 8
    assert not once.summary.degraded


def test_a_second_replay_writes_the_same_bytes(once: Played, what: Replay, tmp_path: Path) -> None:
    again = replace(what, out=tmp_path)
    replay_instances(again, 1, Console(stderr=True))
    assert outputs(tmp_path) == once.bytes()


@pytest.mark.parametrize("threads", [1, 4])
def test_the_number_of_ranking_threads_makes_no_difference(
    once: Played, what: Replay, tmp_path: Path, threads: int
) -> None:
    replay_instances(replace(what, out=tmp_path, threads=threads), 1, Console(stderr=True))
    assert outputs(tmp_path) == once.bytes()


def test_processes_that_share_the_viewers_write_the_same_bytes(once: Played, what: Replay, tmp_path: Path) -> None:
    summary = replay_instances(replace(what, out=tmp_path), 4, Console(stderr=True))
    assert outputs(tmp_path) == once.bytes()
    for fact in ("events", "feeds", "items", "in_network_items", "live_posts", "viewers", "sources", "stages"):
        assert getattr(summary, fact) == getattr(once.summary, fact), fact
    assert summary.dead_letters == once.summary.dead_letters


def test_verify_says_what_each_number_of_instances_answered(once: Played, what: Replay, tmp_path: Path) -> None:
    digests = verify(replace(what, out=tmp_path), [1, 2], Console(stderr=True))
    assert digests == {1: digest(once.out), 2: digest(once.out)}


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.jsonl.zst", "log"])
def test_a_log_gives_the_same_feeds_however_it_is_stored(
    world_events: list[bytes], checkpoint: Path, tmp_path: Path, name: str
) -> None:
    play = Player(tmp_path, checkpoint)
    with LogWriter(tmp_path / name) as writer:
        for line in world_events:
            writer.write_raw(TOPIC_OF[type(decode(line))], [line])
    merged, stored = play(world_events), play.log(tmp_path / name)
    assert (stored.out / "feeds.jsonl").read_bytes() == (merged.out / "feeds.jsonl").read_bytes()
    assert len(merged.feeds) > 30


@pytest.fixture(scope="module")
def world_events(rough_log: Path) -> list[bytes]:
    """The good lines of the log; bad ones have no topic of their own."""
    lines = []
    for line in rough_log.read_bytes().splitlines():
        try:
            decode(line)
        except Refused:
            continue
        lines.append(line)
    return lines


@pytest.mark.parametrize("instances", [2, 16])
def test_a_late_request_sees_the_same_whoever_else_its_instance_serves(
    checkpoint: Path, tmp_path: Path, instances: int
) -> None:
    posts = [PostCreated(T0, number, 900 + number) for number in range(1, 6)]
    first = [FeedRequest(T0 + MINUTE, f"first-{viewer}", viewer) for viewer in range(1, 9)]
    others = [FeedRequest(T0 + 30 * MINUTE, f"other-{viewer}", viewer) for viewer in range(20, 30)]
    late = [FeedRequest(T0 + 6 * MINUTE, f"late-{viewer}", viewer) for viewer in range(1, 9)]
    log = write_log(tmp_path / "log.jsonl", [*posts, *first, *others, *late])
    what = Replay(log, tmp_path / "one", checkpoint, DEFAULTS)
    replay(what)
    parts = [replace(what, out=tmp_path / str(k), ownership=Ownership(k, instances)) for k in range(instances)]
    for part in parts:
        replay(part)
    merge([part.out for part in parts], tmp_path / "merged")
    assert outputs(tmp_path / "merged") == outputs(what.out)


def test_what_expires_after_a_request_does_not_change_its_feed(checkpoint: Path, tmp_path: Path) -> None:
    # The feed is made on other threads while the log goes on; ids that are text must not be forgotten meanwhile.
    posts = [PostCreated(T0 + number, f"post-{number}", f"author-{number}") for number in range(40)]
    asked = [FeedRequest(T0 + 48 * HOUR, f"r{viewer}", viewer, explain=True) for viewer in range(1, 5)]
    later = [PostCreated(T0 + 60 * HOUR + number, 10_000 + number, 7) for number in range(3)]
    play = Player(tmp_path, checkpoint)
    without, within = play([*posts, *asked]), play([*posts, *asked, *later])
    assert all(len(feed.items) == 35 for feed in without.feeds.values())
    assert within.feeds == without.feeds
