"""Validation: the last part of the time is held out, its losses are drawn, and the model of the best pass is kept."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.curves import curves_svg
from flows.train import Stop, TrainingRun, TrainingStopped, TrainingSummary, train
from flows.training_batches import Seen
from flows.validation import Epoch, Validation, trained_batches
from infra.world import PRESETS as WORLDS
from infra.world import simulate
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from operators.parameters import DEFAULTS, ParameterRefused

SHARE = 0.3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a few batches of served feeds."""
    path = tmp_path_factory.mktemp("training") / "log.jsonl"
    simulate(path, msgspec.structs.replace(WORLDS["small"], sessions_per_person_day=3.0))
    return path


@pytest.fixture(autouse=True)
def tiny_preset(tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny)


def quiet(_done: float, _of: float) -> None:
    return


def run(log: Path, out: Path, **changes: Any) -> TrainingRun:
    fast = TrainingConfig(learning_rate=0.03, warm_up_steps=2)
    made = TrainingRun(log, out, "tiny", DEFAULTS, None, 3, examples_a_step=16, posts_max=8, training=fast)
    return msgspec.structs.replace(made, **changes)


def after(steps: int) -> Stop:
    """Return what asks to stop once it was asked `steps` times."""

    class After(Stop):
        asked = 0

        def __call__(self) -> bool:
            self.asked += 1
            return self.asked >= steps

    return After()


def test_what_is_held_out_is_the_last_of_the_time() -> None:
    # Hours 0 to 10: the last .3 begin at hour 7. The batch that begins at 6 is learned from, though it reaches beyond.
    seen = Seen(batches=5, from_ms=0, to_ms=10, starts_ms=[0, 3, 6, 8, 9])
    assert [trained_batches(seen, share) for share in (0.0, 0.3, 0.2, 0.65)] == [5, 3, 3, 2]
    for share in (0.05, 1.0):
        with pytest.raises(ParameterRefused, match=r"of 5 steps [05] are left to learn from with --validate"):
            trained_batches(seen, share)


def test_the_least_loss_is_the_best_and_no_number_never_is(tmp_path: Path) -> None:
    epochs = [Epoch(1, 10, 0.3, 2.0), Epoch(2, 20, 0.2, 2.0), Epoch(3, 30, float("nan"), 1.0), Epoch(4, 40, 0.2, 2.0)]
    assert Validation(None, 0, tmp_path, epochs).best.epoch == 2  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(log: Path, tiny: PhoenixConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingSummary]:
    """Return a run with validation, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", tiny)
        out = tmp_path_factory.mktemp("whole") / "model"
        return out, train(run(log, out, validate=SHARE), quiet, quiet)


def test_the_model_kept_is_that_of_the_best_pass_over_what_came_before(
    log: Path, tmp_path: Path, whole: tuple[Path, TrainingSummary]
) -> None:
    out, summary = whole
    assert [one.epoch for one in summary.validated] == [1, 2, 3]
    assert summary.best_epoch == min(summary.validated, key=lambda one: one.loss).epoch
    origin = Phoenix.load(out).origin
    assert origin.steps * 3 == summary.steps * summary.best_epoch
    assert f"--validate {SHARE}" in origin.command
    assert sorted(path.name for path in out.parent.iterdir()) == ["model", "model.svg"]
    # The same passes over the same examples, and nothing known of what came later: the same model to the bit.
    until = run(log, tmp_path / "until", until_ms=origin.to_ms, epochs=summary.best_epoch)
    assert train(until, quiet, quiet).model == summary.model == Phoenix.load(out).version


def test_a_run_stopped_within_a_pass_or_at_its_end_goes_on_to_the_same(
    log: Path, tmp_path: Path, whole: tuple[Path, TrainingSummary]
) -> None:
    _, summary = whole
    each, counting = summary.steps // 3, after(10**9)
    train(run(log, tmp_path / "counting", validate=SHARE, epochs=1), quiet, quiet, counting)
    reading = counting.asked - each  # type: ignore[attr-defined]
    for stop_after in (each, each + 2):
        stopped = run(log, tmp_path / f"model{stop_after}", validate=SHARE)
        with pytest.raises(TrainingStopped):
            train(stopped, quiet, quiet, after(reading + stop_after))
        went_on = train(msgspec.structs.replace(stopped, resume=True), quiet, quiet)
        same = ("model", "best_epoch", "validated", "ranker_curve", "steps")
        assert [getattr(went_on, name) for name in same] == [getattr(summary, name) for name in same]


def test_losses_held_out_are_drawn_over_those_of_training() -> None:
    losses = [(1.0 / step, 2.0 / step) for step in range(1, 101)]
    drawn = curves_svg(losses, [(50, 0.5, 1.0), (100, 0.9, 1.8)], best=1)
    assert drawn.count("<circle") == 4
    assert drawn.count('r="5"') == 2
    assert drawn.count("held out: 0.5, 0.9; best after pass 1") == 1
    assert "<circle" not in curves_svg(losses)
