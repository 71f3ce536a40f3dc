"""Train a model whose user tower reads histories forwards: the towers on whole histories, the ranker on examples."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from flows.example_files import is_folder_of_examples
from flows.train import NothingToLearn, TrainingRun, TrainingStopped, TrainingSummary, train
from flows.training_batches import OrderedLog
from flows.training_histories import training_histories
from flows.training_sources import Told
from infra.logs.files import LogRefused
from models.checkpoints import Origin
from models.phoenix import Phoenix
from models.sequences import SequenceTraining, fit_sequences
from operators.parameters import ParameterRefused


def train_histories(
    run: TrainingRun, reading: Told, training: Told, stopped: Callable[[], bool] = lambda: False
) -> TrainingSummary:
    """Train both models and write one checkpoint; a log without feeds teaches the towers alone, and a note says so.

    The log is read twice. A run that is stopped while the ranker learns goes on with `resume`: the towers are learned
    again first, which gives the same ones. Raises as `train` does, and ParameterRefused where nobody acted twice.
    """
    towers, loss = _towers(run, reading, training, stopped)
    beside = run.out.with_name(f"{run.out.name}.ranker")
    ranker_run = msgspec.structs.replace(
        run, out=beside, training=msgspec.structs.replace(run.training, retrieval=False)
    )
    try:
        summary = train(ranker_run, reading, training, stopped)
        ranker = Phoenix.load(beside)
    except NothingToLearn as refused:
        summary = _of_towers_alone(refused)
        ranker = Phoenix(run.config, towers.parameters, Origin(data=run.log.name, seed=run.seed))
    origin = msgspec.structs.replace(ranker.origin or Origin(), command=run.command)
    made = Phoenix(run.config, ranker.parameters._replace(two_tower=towers.parameters.two_tower), origin)
    made.save(run.out)
    curves = Path(f"{beside}.svg")
    if curves.exists():
        curves.replace(f"{run.out}.svg")
    beside.unlink(missing_ok=True)
    summary.model, summary.retrieval_loss = made.version, loss
    return summary


def _towers(run: TrainingRun, reading: Told, training: Told, stopped: Callable[[], bool]) -> tuple[Phoenix, float]:
    """Return a model with trained towers, and the mean loss of its last pass."""
    if is_folder_of_examples(run.log):
        raise ParameterRefused(f"{run.log} holds examples: the towers of {run.preset} learn from a whole log")
    if run.semantic_from is not None:
        raise ParameterRefused(f"the towers of {run.preset} have no semantic IDs: leave out --semantic-ids")
    losses: list[float] = []

    def told(epoch: int, loss: float, _seconds: float, _so_far: Phoenix) -> float:
        losses.append(loss)
        training(epoch + 1, run.epochs)
        if stopped():
            raise TrainingStopped("stopped while the towers were learning: nothing is kept of them, begin anew")
        return float(epoch)

    try:
        catalogue, contexts = training_histories(OrderedLog(run.log), run.parameters, run.until_ms, reading)
    except LogRefused:
        raise
    except ValueError as nothing:
        raise ParameterRefused(f"{run.log}: {nothing}") from None
    long_enough = sum(len(one.history) > 1 for one in contexts)
    if not long_enough:
        raise ParameterRefused(f"{run.log}: nobody acted on two posts, so nothing ever came next")
    usual = SequenceTraining(seed=run.seed)
    settings = msgspec.structs.replace(usual, histories_a_step=min(usual.histories_a_step, long_enough))
    towers = fit_sequences(contexts, catalogue, run.config, run.epochs, settings, told)
    if not np.isfinite(losses[-1]):
        raise ParameterRefused(f"{run.log}: the towers' loss is no number after {run.epochs} passes")
    return towers, losses[-1]


def _of_towers_alone(refused: NothingToLearn) -> TrainingSummary:
    """Return the summary of a run without examples."""
    note = f"the ranker is untrained, use this model for retrieval: {refused}"
    return TrainingSummary("", 0, 0, 0.0, 0.0, 0.0, 0.0, 0, notes=[note])
