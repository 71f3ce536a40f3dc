"""A model whose user tower reads forwards is trained from a log, and served from the one checkpoint."""

import os
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import pytest

from flows.replay import Replay, replay
from flows.train import Stop, TrainingRun, TrainingStopped, train
from flows.train_histories import train_histories
from flows.training_histories import training_histories
from infra.logs.reader import LogReader
from infra.world import PRESETS as WORLDS
from infra.world import simulate
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from models.sequences import SequenceTraining, fit_sequences
from operators.parameters import DEFAULTS, ParameterRefused


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a few batches of served feeds."""
    path = tmp_path_factory.mktemp("training") / "log.jsonl"
    simulate(path, msgspec.structs.replace(WORLDS["small"], sessions_per_person_day=3.0))
    return path


@pytest.fixture
def causal(tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch) -> PhoenixConfig:
    """Return the tiny model with a causal tower, a preset of that name."""
    config = msgspec.structs.replace(tiny, retrieval_causal=True, retrieval_post_ids=True)
    monkeypatch.setitem(PRESETS, "causal", config)
    return config


def run(log: Path, out: Path, **changes: Any) -> TrainingRun:
    made = TrainingRun(log, out, "causal", DEFAULTS, None, 2, examples_a_step=16, posts_max=8)
    return msgspec.structs.replace(made, **changes)


def quiet(_done: float, _of: float) -> None:
    return


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(mine, its) for mine, its in pairs)


def test_towers_learn_from_histories_and_the_ranker_from_examples(
    log: Path, tmp_path: Path, causal: PhoenixConfig
) -> None:
    out = tmp_path / "model"
    summary = train_histories(run(log, out), quiet, quiet)
    made = Phoenix.load(out)
    assert (made.version, made.config) == (summary.model, causal)
    assert sorted(os.listdir(tmp_path)) == ["model", "model.svg"]
    assert made.origin is not None
    assert made.origin.examples == summary.examples > 0
    catalogue, contexts = training_histories(LogReader(log), DEFAULTS)
    viewers = sum(len(one.history) > 1 for one in contexts)
    alone = fit_sequences(contexts, catalogue, causal, 2, SequenceTraining(histories_a_step=min(64, viewers)))
    assert same(made.parameters.two_tower, alone.parameters.two_tower)
    ranker_alone = run(log, tmp_path / "ranker", training=TrainingConfig(retrieval=False))
    train(ranker_alone, quiet, quiet)
    assert same(made.parameters.ranker, Phoenix.load(tmp_path / "ranker").parameters.ranker)
    served = replay(Replay(log, tmp_path / "feeds", out, DEFAULTS))
    assert served.feeds > 0
    assert served.model == made.version


def test_a_log_without_feeds_teaches_the_towers_alone(log: Path, tmp_path: Path, causal: PhoenixConfig) -> None:
    kept = [line for line in log.read_bytes().splitlines(keepends=True) if b'"served"' not in line[:60]]
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(b"".join(line for line in kept if b'"feed_request"' not in line[:60]))
    summary = train_histories(run(plain, tmp_path / "model"), quiet, quiet)
    assert summary.examples == 0
    assert [note.split(":")[0] for note in summary.notes] == ["the ranker is untrained, use this model for retrieval"]
    assert Phoenix.load(tmp_path / "model").version == summary.model


def test_what_has_no_histories_to_learn_from_is_refused(log: Path, tmp_path: Path, causal: PhoenixConfig) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    silent, folder = tmp_path / "silent.jsonl", tmp_path / "examples"
    silent.write_bytes(b"".join(line for line in lines if b'"engagement"' not in line[:200]))
    folder.mkdir()
    (folder / "examples-000000.parquet").touch()
    for source, changes, said in (
        (silent, {}, "nobody acted on anything"),
        (folder, {}, "learn from a whole log"),
        (log, {"semantic_from": log}, "leave out --semantic-ids"),
    ):
        with pytest.raises(ParameterRefused, match=said):
            train_histories(run(source, tmp_path / "model", **changes), quiet, quiet)

    class Now(Stop):
        def __call__(self) -> bool:
            return True

    with pytest.raises(TrainingStopped, match="begin anew"):
        train_histories(run(log, tmp_path / "model"), quiet, quiet, Now())
    assert not (tmp_path / "model").exists()
