"""A closed loop in memory: people live from the job's feeds, the same way every time, and its log tells all of it."""

from pathlib import Path

import pytest

from flows.closed_loop.judging import BEST, FORESEEN, NEWEST, POPULAR, RANDOM, SERVED, TRUTH
from flows.closed_loop.memory import Lived, MemoryLoop
from flows.feed_worth import TOP
from infra.logs import LogReader, LogReport, LogWriter, validate
from infra.world import Crowd, WorldParameters
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.codec import decode
from schemas.events import Engagement, FeedRequest, Served
from schemas.ids import Id
from tests.acceptance.playing import Player

SMALL = WorldParameters(
    people=25, days=1.0, follows_per_person=6.0, sessions_per_person_day=2.0, posts_per_person_day=8.0
)


def lived(log: Path, phoenix: Phoenix, parameters: WorldParameters = SMALL) -> Lived:
    with LogWriter(log) as writer:
        return MemoryLoop(Crowd(parameters), DEFAULTS, phoenix, written=writer.write).run(lambda *_: None)


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop") / "log.jsonl"


@pytest.fixture(scope="module")
def once(log: Path, phoenix: Phoenix) -> Lived:
    return lived(log, phoenix)


def test_the_same_seed_lives_the_same_life(once: Lived, log: Path, phoenix: Phoenix, tmp_path: Path) -> None:
    again = lived(tmp_path / "again.jsonl", phoenix)
    assert (tmp_path / "again.jsonl").read_bytes() == log.read_bytes()
    assert [one.judgement.worth for one in again.feeds if one.judgement] == [
        one.judgement.worth for one in once.feeds if one.judgement
    ]


def test_the_log_of_a_loop_is_a_log_that_replays_to_the_same_feeds(
    once: Lived, log: Path, tmp_path: Path, checkpoint: Path
) -> None:
    report = LogReport()
    assert list(validate(log, 2**53, report)) == []
    assert report.late == 0
    events = [decode(raw) for batch in LogReader(log).batches() for raw in batch.raw]
    served: dict[Id, tuple[Id, ...]] = {one.request: one.posts for one in events if isinstance(one, Served)}
    asked = [one.request for one in events if isinstance(one, FeedRequest)]
    assert len(asked) == len(once.feeds) > 30
    played = Player(tmp_path, checkpoint).log(log)
    assert {request: tuple(played.posts(request)) for request in asked} == served
    shown = {(one.viewer, post) for one in events if isinstance(one, Served) for post in one.posts}
    acts = [one for one in events if isinstance(one, Engagement)]
    assert len(acts) > 200
    assert all((one.viewer, one.post) in shown for one in acts)


def test_nobody_chooses_better_than_who_knows_all(once: Lived) -> None:
    judged = [one.judgement for one in once.feeds if one.judgement is not None]
    assert len(judged) > 0.5 * len(once.feeds)
    for one in judged:
        assert one.worth.keys() == {SERVED, BEST, FORESEEN, TRUTH, POPULAR, NEWEST, RANDOM}
        assert one.worth[BEST] + 1e-9 >= max(one.worth[name] for name in (FORESEEN, TRUTH, POPULAR, NEWEST, RANDOM))
        assert one.predicted.shape == one.true.shape
        assert 0 < len(one.true) <= TOP
    # A model of random weights does as well as chance: far from all.
    means = {name: sum(one.worth[name] for one in judged) / len(judged) for name in judged[0].worth}
    assert means[BEST] > means[TRUTH] > means[SERVED]
    assert means[BEST] > means[FORESEEN] > means[SERVED]
    assert means[TRUTH] > means[RANDOM]
