"""Training from a log is repeatable and leaves out what it is told to leave out."""

from pathlib import Path

import msgspec
import pytest

from flows.ranking_quality import ranking_quality
from flows.train import EXAMPLES_A_STEP, TrainingRun, train
from infra.world import PRESETS as WORLDS
from infra.world import simulate
from models.checkpoints import CheckpointRefused
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS, ParameterRefused
from tests.acceptance.playing import HOUR, T0


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
    made = TrainingRun(log, out, "tiny", DEFAULTS, None, epochs=2)
    return msgspec.structs.replace(made, **changes)


def quiet(_done: float, _of: float) -> None:
    return


def test_the_same_log_and_seed_give_the_same_bytes_and_another_seed_does_not(log: Path, tmp_path: Path) -> None:
    summaries = [train(run(log, tmp_path / name), quiet, quiet) for name in ("one", "two")]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert summaries[0].model == summaries[1].model == Phoenix.load(tmp_path / "one").version
    assert summaries[0].examples >= EXAMPLES_A_STEP
    assert summaries[0].steps == 2 * summaries[0].examples // EXAMPLES_A_STEP
    assert train(run(log, tmp_path / "other", seed=1), quiet, quiet).model != summaries[0].model


def test_a_checkpoint_says_what_it_was_trained_on_and_nothing_served_later_counts(log: Path, tmp_path: Path) -> None:
    until = T0 + 14 * HOUR
    summary = train(run(log, tmp_path / "model", until_ms=until), quiet, quiet)
    origin = Phoenix.load(tmp_path / "model").origin
    assert (origin.data, origin.examples, origin.steps) == (log.name, summary.examples, summary.steps)
    assert T0 <= origin.from_ms <= origin.to_ms < until
    assert f"train {log.name} --preset tiny" in origin.command


def test_a_model_that_counts_more_of_a_viewer_than_is_kept_is_refused(
    log: Path, tmp_path: Path, tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = msgspec.structs.replace(tiny, affinity_groups=129)
    monkeypatch.setitem(PRESETS, "counting", counting)
    with pytest.raises(ParameterRefused, match=r"counts 129 groups of a viewer's actions, and 128 are kept: set hist"):
        train(run(log, tmp_path / "model", preset="counting"), quiet, quiet)
    Phoenix.untrained(counting).save(tmp_path / "counting")
    with pytest.raises(CheckpointRefused, match=r"counts 129 groups of a viewer's actions, and 128 are kept"):
        ranking_quality(log, tmp_path / "counting", DEFAULTS, 0, quiet)


def test_too_little_to_train_on_or_to_judge_by_is_refused(log: Path, tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ParameterRefused, match="nothing to train on"):
        train(run(log, tmp_path / "model", until_ms=T0), quiet, quiet)
    assert not (tmp_path / "model").exists()
    with pytest.raises(ParameterRefused, match="choose one of"):
        train(run(log, tmp_path / "model", preset="none"), quiet, quiet)
    with pytest.raises(ParameterRefused, match="says of nothing that it was served"):
        ranking_quality(log, checkpoint, DEFAULTS, T0 + 1000 * HOUR, quiet)


def test_a_model_is_judged_on_every_post_that_was_served(log: Path, checkpoint: Path) -> None:
    whole = ranking_quality(log, checkpoint, DEFAULTS, 0, quiet)
    late = ranking_quality(log, checkpoint, DEFAULTS, T0 + 12 * HOUR, quiet)
    assert 0 < late.rows < whole.rows
    assert {one.rows for one in whole.table} == {whole.rows}
    assert all(0 < one.happened < whole.rows for one in whole.table if one.action == "dwell")


def test_semantic_ids_come_from_a_first_model_or_are_refused(log: Path, tmp_path: Path, tiny: PhoenixConfig) -> None:
    first = tmp_path / "first"
    Phoenix.untrained(tiny, seed=1).save(first)
    asked = run(log, tmp_path / "model", epochs=1, semantic_from=first, semantic_levels=2, semantic_codes=16)
    summary = train(asked, quiet, quiet)
    made = Phoenix.load(tmp_path / "model")
    assert made.version == summary.model
    assert (made.config.semantic_levels, made.config.semantic_codes) == (2, 16)
    assert "--semantic-ids first --semantic-levels 2 --semantic-codes 16" in made.origin.command
    with pytest.raises(ParameterRefused, match="must be a power of two"):
        train(msgspec.structs.replace(asked, semantic_codes=17), quiet, quiet)
    Phoenix.untrained(msgspec.structs.replace(tiny, term_buckets=64)).save(first)
    with pytest.raises(ParameterRefused, match="has 64 terms of width 32; 128 of 32 are needed"):
        train(asked, quiet, quiet)
    first.write_bytes(b"PHOENIX\n")
    with pytest.raises(CheckpointRefused, match="cut off or damaged"):
        train(asked, quiet, quiet)
    assert not list(tmp_path.glob("*.examples")), "what was read is not left behind"
