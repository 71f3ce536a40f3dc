"""Train Phoenix from a log."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from flows.intake import Intake
from flows.training_examples import Example, batches, examples
from infra.logs.reader import LogReader
from models.config import PRESETS
from models.inputs import ExampleBatch
from operators.decode import Ownership
from operators.parameters import ParameterRefused, Parameters
from operators.state import MemoryState, live_posts

BATCH: Final = 64  # requests a step
POSTS_MAX: Final = 32  # posts of a request: what a screen or two shows


class TrainingReport(Struct):
    """What a training run did."""

    model: str
    examples: int
    batches: int
    epochs: int
    seconds: float
    loss_first: float
    loss_last: float
    skipped_steps: int


def train(
    log: Path,
    out: Path,
    preset: str,
    parameters: Parameters,
    until_ms: int | None,
    epochs: int,
    seed: int,
    progress: Callable[[float, float], None],
) -> TrainingReport:
    """Train on what was served before `until_ms` and write a checkpoint; the same log and seed give the same one."""
    if preset not in PRESETS:
        raise ParameterRefused(f"no model is called {preset}: choose one of {', '.join(PRESETS)}")
    config = PRESETS[preset]
    made = list(training_batches(log, parameters, config.history_max, until_ms, seed, progress))
    if not made:
        raise ParameterRefused(f"{log} holds fewer than {BATCH} examples before that time: nothing to train on")
    raise SystemExit


def training_batches(
    log: Path,
    parameters: Parameters,
    history_max: int,
    until_ms: int | None,
    seed: int,
    progress: Callable[[float, float], None],
) -> Iterator[ExampleBatch]:
    """Yield the padded batches of a log's examples before a time."""
    intake = Intake(MemoryState(parameters, live_posts(parameters)), parameters, Ownership())
    made = examples(LogReader(log), intake, POSTS_MAX, seed, progress)
    return batches(_before(made, until_ms), BATCH, history_max, POSTS_MAX)


def _before(made: Iterator[Example], until_ms: int | None) -> Iterator[Example]:
    for example in made:
        if until_ms is not None and example.context.at_ms >= until_ms:
            return
        yield example
