"""A folder of examples trains as its log does, to the bit, and one that is cut, changed or out of order is refused."""

import dataclasses
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from flows.example_files import MANIFEST, ExamplesMade, Manifest, is_folder_of_examples, read_examples
from flows.example_files import write_examples as write_files
from flows.train import TrainingRun, train
from flows.training_examples import Example, batch, examples
from flows.training_sources import ExamplesRun, before, intake_for, write_examples
from infra.logs.files import LogRefused
from infra.logs.reader import LogReader
from infra.world import PRESETS as WORLDS
from infra.world import simulate
from models.config import PRESETS, PhoenixConfig
from models.inputs import ExampleBatch
from operators.parameters import DEFAULTS, ParameterRefused
from tests.acceptance.playing import HOUR, T0

TOLD_OF = ExamplesMade("log.jsonl", "by hand", 8, 0, False)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a few batches of served feeds."""
    path = tmp_path_factory.mktemp("training") / "log.jsonl"
    simulate(path, msgspec.structs.replace(WORLDS["small"], sessions_per_person_day=3.0))
    return path


@pytest.fixture(scope="module")
def made(log: Path) -> list[Example]:
    return list(examples(LogReader(log), intake_for(DEFAULTS, co_likers=True), 8))


@pytest.fixture(autouse=True)
def tiny_preset(tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    monkeypatch.setitem(PRESETS, "tiny-co-likers", msgspec.structs.replace(tiny, co_likers=True))


def quiet(_done: float, _of: float) -> None:
    return


def run(source: Path, out: Path, **changes: Any) -> TrainingRun:
    made = TrainingRun(source, out, "tiny", DEFAULTS, None, examples_a_step=16, posts_max=8)
    return msgspec.structs.replace(made, **changes)


def test_a_folder_gives_the_losses_of_its_log_to_the_bit(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    manifest = write_examples(ExamplesRun(log, folder, DEFAULTS, posts_max=8, co_likers=True, rows=50), quiet)
    assert manifest.examples > 100
    assert len(manifest.parts) == -(-manifest.examples // 50)
    of_log, of_folder = (train(run(source, tmp_path / "model"), quiet, quiet) for source in (log, folder))
    same = ("model", "examples", "steps", "ranker_curve", "retrieval_curve", "ranker_loss", "retrieval_loss")
    assert [getattr(of_log, name) for name in same] == [getattr(of_folder, name) for name in same]


def test_examples_come_back_to_the_bit(made: list[Example], tmp_path: Path) -> None:
    bare = dataclasses.replace(made[0].posts, counts=made[0].posts.counts[:0], co_liked=made[0].posts.co_liked[:0])
    some = [*made, dataclasses.replace(made[-1], posts=dataclasses.replace(bare), shown=False)]
    some[-1] = dataclasses.replace(some[-1], actions=made[0].actions, dwell_s=made[0].dwell_s)
    assert any(not len(one.context.history) for one in some)
    write_files(tmp_path / "all", iter(some), TOLD_OF, rows=7)
    back = list(read_examples(tmp_path / "all"))
    assert [one.shown for one in back] == [one.shown for one in some]
    assert len(back[-1].posts.counts) == len(back[-1].posts.co_liked) == 0
    # The last has other columns than a batch holds beside the rest.
    given, read = (batch(one[:-1], 128, 8) for one in (some, back))
    for name in ExampleBatch.__dataclass_fields__:
        one, other = getattr(given, name), getattr(read, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


def test_what_is_served_later_is_left_out_of_either(log: Path, tmp_path: Path) -> None:
    until_ms = T0 + 12 * HOUR
    early = write_examples(ExamplesRun(log, tmp_path / "early", DEFAULTS, until_ms, posts_max=8), quiet)
    whole = write_examples(ExamplesRun(log, tmp_path / "whole", DEFAULTS, posts_max=8), quiet)
    assert early.to_ms < until_ms < whole.to_ms
    cut = [list(before(read_examples(tmp_path / name), until_ms)) for name in ("early", "whole")]
    assert len(cut[0]) == len(cut[1]) == early.examples > 0


def test_a_file_an_hour(made: list[Example], tmp_path: Path) -> None:
    manifest = write_files(tmp_path / "hours", iter(made), TOLD_OF, hourly=True)
    hours = sorted({one.context.at_ms // HOUR for one in made})
    assert [part.from_ms // HOUR for part in manifest.parts] == hours
    assert all(part.from_ms // HOUR == part.to_ms // HOUR for part in manifest.parts)
    assert (manifest.from_ms, manifest.to_ms) == (made[0].context.at_ms, made[-1].context.at_ms)


def change_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        stated = msgspec.json.decode((folder / MANIFEST).read_bytes())
        change(stated)
        (folder / MANIFEST).write_bytes(msgspec.json.encode(stated))

    return harm


def cut(folder: Path) -> None:
    path = folder / "examples-000001.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def alter(folder: Path) -> None:
    path = folder / "examples-000001.parquet"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


HARMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut before its end": (lambda folder: (folder / MANIFEST).unlink(), "has no manifest.json: it was cut short"),
    "a file cut": (cut, r"examples-000001.parquet was cut: it has [\d,]+ bytes of [\d,]+"),
    "a file altered": (alter, "examples-000001.parquet is not what manifest.json says"),
    "a file missing": (lambda folder: (folder / "examples-000002.parquet").unlink(), "000002.parquet is missing"),
    "another format": (change_manifest(lambda told: told.update(format=2)), "format 2; this version reads format 1"),
    "other features": (
        change_manifest(lambda told: told["features"].update(terms=5)), "of another version, whose terms differ",
    ),
    "no manifest at all": (lambda folder: (folder / MANIFEST).write_text("{"), "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS, ids=str)
def test_a_folder_that_is_not_whole_or_of_another_version_is_refused(
    made: list[Example], tmp_path: Path, harm: str
) -> None:
    folder = tmp_path / "examples"
    write_files(folder, iter(made[:60]), TOLD_OF, rows=20)
    break_it, said = HARMS[harm]
    break_it(folder)
    assert is_folder_of_examples(folder)
    with pytest.raises(LogRefused, match=said):
        train(run(folder, tmp_path / "model"), quiet, quiet)
    assert not (tmp_path / "model").exists()


def later(example: Example, ms: int) -> Example:
    return dataclasses.replace(example, context=dataclasses.replace(example.context, at_ms=example.context.at_ms + ms))


def nan_dwell(example: Example) -> Example:
    return dataclasses.replace(example, dwell_s=np.full_like(example.dwell_s, np.nan))


def one_label_too_few(example: Example) -> Example:
    return dataclasses.replace(example, actions=example.actions[1:])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda one: later(one, -25 * HOUR), "row 4: it is of [0-9]+, more than a day before rows above it"),
        (nan_dwell, "row 4: label_dwell_s holds nan"),
        (one_label_too_few, "row 4: label_actions has not 1 for each of its rows"),
    ],
)
def test_the_first_row_that_can_not_be_is_named(
    made: list[Example], tmp_path: Path, spoil: Callable[[Example], Example], said: str
) -> None:
    bad = [*made[:23], *map(spoil, made[23:26]), *made[26:40]]
    write_files(tmp_path / "bad", iter(bad), TOLD_OF, rows=20)
    with pytest.raises(LogRefused, match=rf"examples-000001.parquet, {said}"):
        list(read_examples(tmp_path / "bad"))


def test_single_rows_a_little_back_are_no_disorder(made: list[Example], tmp_path: Path) -> None:
    some = [*made[:10], later(made[10], -HOUR), *made[11:20]]
    write_files(tmp_path / "back", iter(some), TOLD_OF)
    assert len(list(read_examples(tmp_path / "back"))) == 20


def test_files_swapped_by_hand_are_refused_though_whole(made: list[Example], tmp_path: Path) -> None:
    """Whoever writes a manifest of his own is held to the order of time all the same."""
    days = [later(one, day * 48 * HOUR) for day in (0, 1) for one in made[:10]]
    folder = tmp_path / "days"
    manifest = write_files(folder, iter(days), TOLD_OF, rows=10)
    turned = msgspec.structs.replace(manifest, parts=manifest.parts[::-1])
    (folder / MANIFEST).write_bytes(msgspec.json.encode(turned))
    with pytest.raises(LogRefused, match=r"examples-000000.parquet, row 1: .*must be in order of time"):
        list(read_examples(folder))


def test_what_was_made_is_all_there_is_to_train_on(made: list[Example], tmp_path: Path) -> None:
    folder, out = tmp_path / "examples", tmp_path / "model"
    write_files(folder, iter(made[:40]), TOLD_OF)
    refused = {
        "train with --posts 8": {"posts_max": 16},
        "make them with --co-likers": {"preset": "tiny-co-likers"},
        "give parameters where they are made": {"parameters": DEFAULTS.overridden({"history.window_s": 60})},
    }
    for said, changes in refused.items():
        with pytest.raises(ParameterRefused, match=said):
            train(run(folder, out, **changes), quiet, quiet)
    with pytest.raises(LogRefused, match="holds something already"):
        write_files(folder, iter(made[:40]), TOLD_OF)
    with pytest.raises(LogRefused, match="holds no examples"):
        write_files(tmp_path / "none", iter(()), TOLD_OF)


def test_the_files_are_plain_parquet_that_others_can_read(made: list[Example], tmp_path: Path) -> None:
    manifest: Manifest = write_files(tmp_path / "plain", iter(made[:20]), TOLD_OF)
    frame = pl.read_parquet(BytesIO((tmp_path / "plain" / manifest.parts[0].name).read_bytes()))
    assert frame["viewer"].to_list() == [one.context.key for one in made[:20]]
    assert frame["posts_post"].to_list() == [one.posts.post.tolist() for one in made[:20]]
    assert frame["label_actions"].to_list() == [one.actions.tolist() for one in made[:20]]
