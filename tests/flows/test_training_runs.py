"""A run of training that is stopped goes on to the bit, and says in one sentence what it can't learn from."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flows.train import Stop, TrainingRun, TrainingStopped, train
from flows.training_batches import OrderedLog, Seen, Spool, noted
from flows.training_sources import ExamplesRun, write_examples
from infra.logs.files import LogRefused
from infra.logs.reader import LogReader
from infra.world import PRESETS as WORLDS
from infra.world import simulate
from models.checkpoints import CheckpointRefused
from models.collisions import Vocabulary
from models.config import PRESETS, PhoenixConfig
from models.inputs import ExampleBatch
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from models.run_files import DIGEST_BYTES, MAGIC, load_run
from operators.parameters import DEFAULTS, ParameterRefused
from tests.models.toy_world import batch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a few batches of served feeds."""
    path = tmp_path_factory.mktemp("training") / "log.jsonl"
    simulate(path, msgspec.structs.replace(WORLDS["small"], sessions_per_person_day=3.0))
    return path


@pytest.fixture(autouse=True)
def tiny_preset(tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny)


def run(log: Path, out: Path, **changes: object) -> TrainingRun:
    made = TrainingRun(log, out, "tiny", DEFAULTS, None, epochs=2, examples_a_step=16, posts_max=8)
    return msgspec.structs.replace(made, **changes)


def quiet(_done: float, _of: float) -> None:
    return


def after(steps: int) -> "Stop":
    """Return what asks to stop once it was asked `steps` times."""

    class After(Stop):
        asked = 0

        def __call__(self) -> bool:
            self.asked += 1
            return self.asked >= steps

    return After()


def with_one_leaf_less(run_file: bytes) -> bytes:
    """Return a run as a version would have written it that kept one number less."""
    start = len(MAGIC) + 8
    end = start + int.from_bytes(run_file[len(MAGIC) : start], "little")
    header = json.loads(run_file[start:end])
    del header["leaves"][-1]
    text = json.dumps(header).encode()
    body = MAGIC + len(text).to_bytes(8, "little") + text + run_file[end:-DIGEST_BYTES]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_losses_to_the_bit(log: Path, tmp_path: Path, epochs: int) -> None:
    whole = train(run(log, tmp_path / "whole", epochs=epochs), quiet, quiet)
    assert whole.steps > 8
    reading = whole.steps // epochs if epochs > 1 else 0  # a spool asks once a batch
    for stop_after in (reading + 3, reading + whole.steps // epochs + 2 if epochs > 1 else 5):
        out = tmp_path / f"stopped{stop_after}"
        stopped = run(log, out, epochs=epochs)
        with pytest.raises(TrainingStopped, match="--resume"):
            train(stopped, quiet, quiet, after(stop_after))
        assert not out.exists()
        trainer, _ = load_run(stopped.run_file, stopped.config, stopped.training)
        assert trainer.taken == stop_after - reading
        went_on = train(msgspec.structs.replace(stopped, resume=True), quiet, quiet)
        same = ("model", "steps", "ranker_loss", "retrieval_loss", "ranker_curve", "retrieval_curve")
        assert [getattr(went_on, name) for name in same] == [getattr(whole, name) for name in same]
        assert out.read_bytes() == (tmp_path / "whole").read_bytes().replace(b"whole", out.name.encode())
        assert sorted(path.name for path in tmp_path.glob(f"{out.name}*")) == [out.name, f"{out.name}.svg"]


def test_a_run_is_gone_on_with_only_by_its_own_command_and_whole(log: Path, tmp_path: Path) -> None:
    one = run(log, tmp_path / "one", epochs=1)
    with pytest.raises(CheckpointRefused, match="no run to go on with; leave out --resume"):
        train(msgspec.structs.replace(one, resume=True), quiet, quiet)
    with pytest.raises(TrainingStopped):
        train(one, quiet, quiet, after(2))
    again = msgspec.structs.replace(one, resume=True)
    with pytest.raises(ParameterRefused, match="begun by another command"):
        train(msgspec.structs.replace(again, posts_max=9), quiet, quiet)
    with pytest.raises(CheckpointRefused, match="other settings"):
        train(msgspec.structs.replace(again, training=msgspec.structs.replace(one.training, negatives=1)), quiet, quiet)
    whole = one.run_file.read_bytes()
    one.run_file.write_bytes(with_one_leaf_less(whole))
    with pytest.raises(CheckpointRefused, match="written by another version: begin anew"):
        train(again, quiet, quiet)
    one.run_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointRefused, match="cut off or damaged"):
        train(again, quiet, quiet)


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.full), (signal.SIGTERM, 143)]
)
def test_ctrl_c_and_sigterm_leave_a_run_that_can_go_on(
    log: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "model"
    command = [sys.executable, "run_flow.py", "train", str(log), "--out", str(out), "--epochs", "1"]
    process = subprocess.Popen(
        [*command, "--step", "4", "--posts", "4", "--save-every", "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline_s = time.monotonic() + 240
    while not out.with_name(f"{out.name}.run").exists() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "go on with the same command and --resume" in said
    assert not out.exists()


def test_a_log_out_of_order_is_refused_with_its_first_line(tmp_path: Path, log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    turned = tmp_path / "turned.jsonl"
    turned.write_bytes(b"".join([*lines[2000:], *lines[:2000]]))
    days = [msgspec.json.decode(line)["at"] // 86_400_000 for line in (lines[0], lines[-1])]
    assert days[1] - days[0] >= 1
    with pytest.raises(LogRefused, match=rf"turned.jsonl, line {len(lines) - 2000 + 1}: .*must be in order of time"):
        train(run(turned, tmp_path / "model"), quiet, quiet)


def test_single_wrong_clocks_are_no_disorder(tmp_path: Path, log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    wrong = tmp_path / "wrong.jsonl"
    early, late = (b'{"kind":"x","at":%d}\n' % at for at in (1, 4_102_444_800_000))
    wrong.write_bytes(b"".join([*lines[:100], late, *lines[100:1000], early, *lines[1000:]]))
    read = [line for found in OrderedLog(wrong).batches() for line in found.raw]
    assert read == [line for found in LogReader(wrong).batches() for line in found.raw]
    assert len(read) == len(lines) + 2


def test_examples_that_nobody_acts_on_are_refused(log: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.jsonl"
    kept = [line for line in log.read_bytes().splitlines(keepends=True) if b'"engagement"' not in line[:200]]
    silent.write_bytes(b"".join(kept))
    for epochs in (1, 2):
        with pytest.raises(ParameterRefused, match="nobody acts on any post"):
            train(run(silent, tmp_path / "model", epochs=epochs), quiet, quiet)
    assert os.listdir(tmp_path) == ["silent.jsonl"]


def test_one_viewer_and_crowded_tables_are_said_and_training_goes_on(
    log: Path, tmp_path: Path, tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = msgspec.structs.replace(tiny, post_buckets=16, author_buckets=16)
    monkeypatch.setitem(PRESETS, "crowded", crowded)
    summary = train(run(log, tmp_path / "model", preset="crowded", epochs=1, examples_a_step=2), quiet, quiet)
    assert any("post ids share all their table rows with another: more post_buckets" in note for note in summary.notes)
    assert Phoenix.load(tmp_path / "model").version == summary.model
    viewers = [msgspec.json.decode(line).get("viewer") for line in log.read_bytes().splitlines()]
    one = next(viewer for viewer in viewers if viewer is not None)
    alone = tmp_path / "alone.jsonl"
    lines = zip(log.read_bytes().splitlines(keepends=True), viewers, strict=True)
    alone.write_bytes(b"".join(line for line, viewer in lines if viewer in (one, None)))
    summary = train(run(alone, tmp_path / "alone", preset="crowded", epochs=1, examples_a_step=2), quiet, quiet)
    assert any("all examples are of one viewer" in note for note in summary.notes)


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path, tiny: PhoenixConfig) -> None:
    spool = Spool(tmp_path / "spool")
    made = batch(1, 8, 32, 4)
    made.history_dwell_s[:] = np.nan
    seen = Seen()
    assert [one.shape for one in noted(iter([made]), seen, tiny)] == [(8, 32, 4)]
    assert (seen.batches, seen.viewers) == (1, 2)
    spool.begin()
    spool.write(0, made)
    spool.close(seen)
    assert spool.seen() == seen
    (back,) = spool.read()
    assert all(
        np.array_equal(getattr(back, name), getattr(made, name), equal_nan=name.endswith("dwell_s"))
        for name in ExampleBatch.__dataclass_fields__
    )


def test_a_full_disk_leaves_the_last_good_checkpoint(tiny: PhoenixConfig, tmp_path: Path) -> None:
    path, small = tmp_path / "model", Phoenix.untrained(tiny)
    small.save(path)
    good = path.read_bytes()
    with files_of_at_most(len(good) // 2), pytest.raises(OSError, match="File too large"):
        small.save(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["model"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: what a full disk does to who writes."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)


def test_a_run_that_finds_the_disk_full_leaves_the_model_of_before(log: Path, tmp_path: Path) -> None:
    """The spool is what fills it first: nothing of it stays, and the last good model does."""
    (tmp_path / "model").write_bytes(b"of yesterday")
    with files_of_at_most(2000), pytest.raises(OSError, match="File too large"):
        train(run(log, tmp_path / "model"), quiet, quiet)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_bytes() == b"of yesterday"


def test_examples_cut_short_by_a_full_disk_are_told_as_such(log: Path, tmp_path: Path) -> None:
    asked = ExamplesRun(log, tmp_path / "examples", DEFAULTS, posts_max=8)
    with files_of_at_most(2000), pytest.raises(OSError, match="File too large"):
        write_examples(asked, quiet)
    assert not list((tmp_path / "examples").iterdir())
    write_examples(msgspec.structs.replace(asked, rows=20), quiet)
    (tmp_path / "examples" / "manifest.json").unlink()
    with pytest.raises(LogRefused, match="was cut short; make the examples anew"):
        train(run(tmp_path / "examples", tmp_path / "model"), quiet, quiet)


def test_a_run_in_which_nothing_is_finite_any_more_is_refused(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates that throw the weights beyond all numbers: not a step is taken from there on, and the run says so."""
    monkeypatch.setattr("models.training.SKIPS_IN_A_ROW_MAX", 3)
    wild = TrainingConfig(learning_rate=1e30, table_rate=1e30, warm_up_steps=1)
    with pytest.raises(ParameterRefused, match="3 steps in a row were not finite: lower the learning rate"):
        train(run(log, tmp_path / "model", epochs=1, training=wild), quiet, quiet)
    assert not (tmp_path / "model").exists()


def test_collisions_are_counted(tiny: PhoenixConfig) -> None:
    made = batch(1, 8, 32, 4)
    vocabulary = Vocabulary()
    vocabulary.add(made)
    vocabulary.add(made)
    roomy = {one.kind: one for one in vocabulary.collisions(msgspec.structs.replace(tiny, user_buckets=2**20))}
    assert roomy["user"].ids == len(set(made.viewer.tolist())) == 8
    assert (roomy["user"].share_both, roomy["user"].share_one) == (0.0, 0.0)
    full = {one.kind: one for one in vocabulary.collisions(msgspec.structs.replace(tiny, user_buckets=2))}
    assert (full["user"].share_both, full["user"].share_one) == (1.0, 1.0)
    terms = set(made.history_terms.ravel().tolist()) | set(made.terms.ravel().tolist())
    assert roomy["term"].ids == len(terms - {0})
    same = replace(made, viewer=np.full(8, 7, np.uint64))
    alone = Vocabulary()
    alone.add(same)
    assert alone.collisions(tiny)[0].ids == 1
