"""Models announced in a log: taken up at their place, for any number of instances; what can't be is a dead letter."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.instances import verify
from flows.one_feed import one_feed
from flows.replay import FEEDS, Replay, replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.events import Event, FeedRequest, ModelAnnounced, PostCreated
from schemas.feeds import Feed
from tests.acceptance.playing import SECOND, T0, Played, decoded, write_log
from tests.conftest import reconfigured, shaken

POSTS: tuple[Event, ...] = tuple(PostCreated(T0 + number, number + 1, 100 + number) for number in range(30))


@pytest.fixture
def models(tiny: PhoenixConfig, tmp_path: Path, checkpoint: Path) -> Sequence[Phoenix]:
    """Return the model of `--checkpoint` and two more, saved beside the log as 1.phoenix and models/2.phoenix."""
    made = [shaken(Phoenix.untrained(tiny, seed=seed), seed=seed) for seed in (1, 2)]
    made[0].save(tmp_path / "1.phoenix")
    made[1].save(tmp_path / "models" / "2.phoenix")
    return [Phoenix.load(checkpoint), *made]


def announced(phoenix: Phoenix, checkpoint: str, at: int = T0 + SECOND, **fields: str) -> ModelAnnounced:
    return ModelAnnounced(at, phoenix.version, checkpoint, **fields)


def ask(number: int, second: int) -> FeedRequest:
    """Each request is of another viewer: what was served before is then the same with any model."""
    return FeedRequest(T0 + second * SECOND, f"r{number}", number, explain=True)


def played(what: Replay, name: str, *events: Event) -> Played:
    what = replace(what, log=write_log(what.log.with_name(f"{name}.jsonl"), events), out=what.out / name)
    return Played(what.out, replay(what))


@pytest.fixture
def what(tmp_path: Path, checkpoint: Path) -> Replay:
    return Replay(tmp_path / "log.jsonl", tmp_path / "out", checkpoint, DEFAULTS)


def test_each_feed_is_that_of_the_model_in_force_at_its_place(what: Replay, models: Sequence[Phoenix]) -> None:
    old, new, last = models
    digest = hashlib.sha256((what.log.parent / "1.phoenix").read_bytes()).hexdigest()
    requests = [ask(number, number) for number in range(1, 7)]
    swapped = played(
        what,
        "swapped",
        *POSTS,
        requests[0],
        announced(new, "1.phoenix", sha256=digest),
        requests[1],
        PostCreated(T0 + 2 * SECOND, 500, 7),
        requests[2],
        announced(last, str(what.log.parent / "models" / "2.phoenix"), T0 + 3 * SECOND),
        requests[3],
        announced(new, "1.phoenix", T0 + 4 * SECOND),  # back to the one before
        requests[4],
        announced(old, str(what.checkpoint), T0 + 5 * SECOND),
        requests[5],
    )
    assert swapped.dead_letters == []
    in_force = (old, new, new, last, new, old)
    assert [swapped.feeds[f"r{number}"].model for number in range(1, 7)] == [one.version for one in in_force]
    files = {old: what.checkpoint, new: what.log.parent / "1.phoenix", last: what.log.parent / "models" / "2.phoenix"}
    for phoenix, path in files.items():
        everything = (*POSTS, *requests[:2], PostCreated(T0 + 2 * SECOND, 500, 7), *requests[2:])
        alone = played(replace(what, checkpoint=path), phoenix.version, *everything)
        for number, one in enumerate(in_force, start=1):
            same = swapped.feeds[f"r{number}"] == alone.feeds[f"r{number}"]
            assert same == (one is phoenix), f"request {number} with {phoenix.version}"


def test_one_feed_from_a_log_is_that_of_the_model_announced_before(what: Replay, models: Sequence[Phoenix]) -> None:
    log = write_log(what.log, [*POSTS, announced(models[2], "2.phoenix")])
    folder = what.log.parent / "models"
    for at, phoenix in ((T0 + SECOND - 1, models[0]), (T0 + SECOND, models[2])):
        made = one_feed(log, what.checkpoint, DEFAULTS, 1, at, False, None, announced=folder)
        assert made.model == phoenix.version


def test_any_number_of_instances_switches_at_the_same_place(
    rough_log: Path, what: Replay, models: Sequence[Phoenix], tmp_path: Path
) -> None:
    lines = rough_log.read_bytes().splitlines()
    places = [place for place, line in enumerate(lines) if b'"feed_request"' in line]
    thirds = [places[len(places) // 3], places[2 * len(places) // 3]]
    late = [announced(models[number], f"{number}.phoenix") for number in (1, 2)]
    parts = (lines[: thirds[0]], [late[0]], lines[thirds[0] : thirds[1]], [late[1]], lines[thirds[1] :])
    (tmp_path / "2.phoenix").symlink_to(tmp_path / "models" / "2.phoenix")
    log = write_log(what.log, [line for part in parts for line in part])
    digests = verify(replace(what, log=log), [1, 2, 4], Console(quiet=True))
    assert len(set(digests.values())) == 1
    named = [feed.model for feed in decoded(what.out / "verify-1" / FEEDS, Feed) if feed.model]
    versions = [phoenix.version for phoenix in models]
    assert set(named) == set(versions)
    assert named == sorted(named, key=versions.index), "never back to an older one"


def test_what_cannot_be_taken_up_is_a_dead_letter_and_the_old_model_goes_on(
    what: Replay, models: Sequence[Phoenix], tmp_path: Path
) -> None:
    _, new, last = models
    raw = (tmp_path / "1.phoenix").read_bytes()
    (tmp_path / "cut.phoenix").write_bytes(raw[:-100])
    (tmp_path / "later.phoenix").write_bytes(reconfigured(raw, b'"format":1', b'"format":9'))
    refused = {
        announced(new, "none.phoenix"): "there is no such file",
        announced(new, "cut.phoenix"): r"it is cut off or damaged",
        announced(new, "later.phoenix"): "it has format 9; this version reads format 1",
        announced(new, "1.phoenix", sha256="0" * 64): "another file than the one told of (its SHA-256 is not 000000",
        announced(last, "1.phoenix"): f"it holds model {new.version}, not {last.version} as announced",
        announced(new, "../1.phoenix"): "leads out of the folder of models",
        announced(new, "1.phoenix", cluster="experiment1"): "no cluster is called experiment1; this job has prod",
    }
    made = played(what, "refused", *POSTS, *refused, ask(1, 2), announced(new, "1.phoenix"), ask(2, 3))
    assert [made.feeds[f"r{number}"].model for number in (1, 2)] == [models[0].version, new.version]
    assert [letter.path for letter in made.dead_letters] == ["$.checkpoint"] * len(refused)
    for letter, reason in zip(made.dead_letters, refused.values(), strict=True):
        assert reason in letter.reason
    assert made.feeds["r1"] == played(what, "without", *POSTS, ask(1, 2)).feeds["r1"]


@pytest.mark.parametrize("model", ["", "latest", "0123456789AB", "0123456789abc"])
def test_an_announcement_names_a_version(what: Replay, model: str) -> None:
    made = played(what, "named", *POSTS, ModelAnnounced(T0, model, "1.phoenix"))
    assert [letter.path for letter in made.dead_letters] == ["$.model"]
