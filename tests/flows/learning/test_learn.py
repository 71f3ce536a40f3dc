"""A process that learns goes on after a kill with the same models, is alone in its registry, and says what it did."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.example_files import ExamplesMade, write_examples
from flows.learning.example_sources import FolderSource
from flows.learning.learn import RUN_FILE, Learned, LearnRun, alone, learn, nobody
from flows.learning.trainer import Interval
from models.checkpoints import CheckpointRefused
from models.phoenix import Phoenix
from models.registry import Registry
from operators.parameters import ParameterRefused
from tests.conftest import shaken
from tests.flows.learning.streams import CONFIG, OPTIONS, SETTINGS, stream
from tests.models.toy_world import START_MS

ROOT = Path(__file__).parents[3]
COUNT = 6 * 64 + 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of examples of the toy world, in two files."""
    path = tmp_path_factory.mktemp("source") / "examples"
    made = ExamplesMade("toy", "by hand", SETTINGS.posts_max, 0, False)
    write_examples(path, iter(stream(COUNT)), made, rows=200)
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint to begin with."""
    path = tmp_path_factory.mktemp("start") / "start.phoenix"
    shaken(Phoenix.untrained(CONFIG), seed=0).save(path)
    return path


def quiet(_done: float, _of: float) -> None:
    return


def run(
    folder: Path, registry: Path, start: Path | None, intervals: int | None = None, **changes: Any
) -> tuple[Learned, list[Interval]]:
    """Learn from a folder, stopped after so many intervals."""
    told: list[Interval] = []
    what = msgspec.structs.replace(LearnRun(registry, SETTINGS, start), **changes)
    done = learn(
        what,
        lambda config: FolderSource(folder, SETTINGS.posts_max, config.co_likers, quiet),
        lambda interval, _seconds: told.append(interval),
        nobody,
        lambda: intervals is not None and len(told) >= intervals,
    )
    return done, told


def versions(registry: Path) -> list[tuple[str, str]]:
    return [(one.version, one.sha256) for one in Registry(registry, SETTINGS.keep).entries()]


@pytest.fixture(scope="module")
def whole(folder: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Interval]]:
    """Return the registry and the intervals of a run that nobody stopped."""
    registry = tmp_path_factory.mktemp("whole")
    done, told = run(folder, registry, start)
    assert (done.intervals, done.examples, done.waiting) == (6, 6 * 64, 10)
    assert (done.published, done.newest) == (len(versions(registry)) - 1, versions(registry)[-1][0])
    return registry, told


def test_a_run_stopped_in_parts_gives_the_same_models(
    folder: Path, start: Path, whole: tuple[Path, list[Interval]], tmp_path: Path
) -> None:
    told = []
    for intervals in (1, 2, None):
        _, some = run(folder, tmp_path, start, intervals)
        told += some
    plain = [[msgspec.structs.replace(one, published=None) for one in many] for many in (told, whole[1])]
    assert plain[0] == plain[1]
    assert versions(tmp_path) == versions(whole[0])
    assert len(versions(tmp_path)) > 2
    done, again = run(folder, tmp_path, start)
    assert (again, done.examples, done.waiting) == ([], 0, 10)


def started(folder: Path, registry: Path, start: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "run_flow.py", "learn", str(folder), "--registry", str(registry), "-c", str(start)]
    return subprocess.Popen(
        [*command, *OPTIONS, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def killed(folder: Path, start: Path, tmp_path: Path) -> Path:
    """Return the registry of a process that was killed twice, each time once it had got further."""
    run_file = tmp_path / RUN_FILE
    for _ in range(2):
        before = run_file.stat().st_mtime_ns if run_file.exists() else 0
        process = started(folder, tmp_path, start)
        deadline_s = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline_s:
            if run_file.exists() and run_file.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert run_file.exists()
    return tmp_path


def test_kill_9_leaves_a_run_that_goes_on_to_the_same_models(
    killed: Path, folder: Path, start: Path, whole: tuple[Path, list[Interval]]
) -> None:
    process = started(folder, killed, start, "--json")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    report = json.loads(said)
    assert report["learned"]["waiting"] == 10
    assert versions(killed) == versions(whole[0])
    assert not [name for name in os.listdir(killed) if name.startswith(".") and name != ".lock"]


def test_another_folder_is_read_from_its_beginning_and_what_is_known_of_it_is_passed_over(
    folder: Path, start: Path, tmp_path: Path
) -> None:
    run(folder, tmp_path / "registry", start, 2)
    grown = tmp_path / "grown"
    write_examples(grown, iter(stream(COUNT)), ExamplesMade("toy", "by hand", SETTINGS.posts_max, 0, False))
    done, told = run(grown, tmp_path / "registry", start)
    assert (done.intervals, done.twice) == (4, 128)
    assert told[0].from_ms == START_MS + 128 * 1000


def test_begun_anew_it_goes_on_from_the_newest_model(folder: Path, start: Path, tmp_path: Path) -> None:
    _, told = run(folder, tmp_path, start, 3)
    published = [one.published for one in told if one.published is not None]
    state = (tmp_path / RUN_FILE).read_bytes()
    (tmp_path / RUN_FILE).write_bytes(state[:-9])
    with pytest.raises(CheckpointRefused, match=r"cut off or damaged .* \(--anew goes on from the registry's newest"):
        run(folder, tmp_path, start)
    (tmp_path / RUN_FILE).write_bytes(state)
    other = msgspec.structs.replace(SETTINGS, learning_rate=0.002)
    with pytest.raises(CheckpointRefused, match="other settings: begin anew"):
        run(folder, tmp_path, start, settings=other)
    done, told = run(folder, tmp_path, start, anew=True)
    # The newest model has learned from all intervals but the last it was judged on.
    assert done.late == published[-1].facts.examples
    assert told[0].best == told[0].trained


def test_a_registry_has_one_writer(folder: Path, start: Path, tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(CheckpointRefused, match="another process is learning into it"):
        run(folder, tmp_path, start)


def test_an_unknown_preset_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterRefused, match="no model is called none: choose one of demo"):
        run(folder, tmp_path, None, preset="none")


def test_models_lists_a_registry_and_says_which_checkpoint_is_damaged(
    whole: tuple[Path, list[Interval]], tmp_path: Path
) -> None:
    def listed(path: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "run_flow.py", "models", str(path), "--json"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    rows = json.loads(listed(whole[0]).stdout)
    assert [row["version"] for row in rows] == [version for version, _ in versions(whole[0])]
    assert [row["parent"] for row in rows[1:]] == [row["version"] for row in rows[:-1]]
    assert {row["checkpoint"] for row in rows} == {"whole"}
    empty = listed(tmp_path)
    assert empty.returncode == 2
    assert "nothing was published there" in empty.stderr
