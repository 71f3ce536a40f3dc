"""Train Phoenix from a log, and measure a model on what a log says was served."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from flows.intake import Intake
from flows.training_examples import Example, batches, examples
from infra.logs.reader import LogReader
from models.checkpoints import Origin
from models.config import PRESETS, PhoenixConfig
from models.evaluation import Evaluation
from models.evaluation import evaluate as evaluate_model
from models.inputs import ExampleBatch
from models.phoenix import Phoenix
from models.training import TrainingReport, fit
from operators.decode import Ownership
from operators.parameters import DEFAULTS, ParameterRefused, Parameters
from operators.state import MemoryState, live_posts

EXAMPLES_A_STEP: Final = 64
POSTS_MAX: Final = 32  # posts of a request: what a screen or two shows

Told = Callable[[float, float], None]


class TrainingSummary(Struct):
    """What a training run did; losses are those of the last step."""

    model: str
    examples: int
    steps: int
    seconds: float
    examples_per_s: float
    ranker_loss: float
    retrieval_loss: float
    skipped_steps: int


class TrainingRun(Struct, frozen=True):
    """What to train on, and how. Served feeds from `until_ms` on are left out.

    A step takes `examples_a_step` requests of at most `posts_max` posts each; a log of short feeds wants more of the
    one and fewer of the other.
    """

    log: Path
    out: Path
    preset: str
    parameters: Parameters
    until_ms: int | None
    epochs: int = 1
    seed: int = 0
    examples_a_step: int = EXAMPLES_A_STEP
    posts_max: int = POSTS_MAX

    @property
    def command(self) -> str:
        """The command line that does the same, parameters other than the defaults included."""
        changed = [
            f"--set {section}.{field}={value}"
            for section, fields in msgspec.to_builtins(self.parameters).items()
            for field, value in fields.items()
            if value != msgspec.to_builtins(DEFAULTS)[section][field]
        ]
        until = [] if self.until_ms is None else [f"--until {self.until_ms}"]
        parts = [
            f"run_flow.py train {self.log.name} --preset {self.preset} --epochs {self.epochs} --seed {self.seed}",
            f"--step {self.examples_a_step} --posts {self.posts_max}",
            *until,
            *changed,
        ]
        return " ".join(parts)

    @property
    def config(self) -> PhoenixConfig:
        """The model's shape; raises ParameterRefused for an unknown preset."""
        if self.preset not in PRESETS:
            raise ParameterRefused(f"no model is called {self.preset}: choose one of {', '.join(PRESETS)}")
        return PRESETS[self.preset]


def train(run: TrainingRun, reading: Told, training: Told) -> TrainingSummary:
    """Train and write a checkpoint; the same log, parameters and seed give the same one.

    Raises ParameterRefused where there is too little to train on, LogRefused and whatever writing raises.
    """
    config = run.config
    made = list(_batches(run, config, reading))
    if not made:
        raise ParameterRefused(
            f"{run.log} holds fewer than {run.examples_a_step} examples before that time: nothing to train on"
        )
    steps = len(made) * run.epochs
    first, last = made[0].at_ms.min(), made[-1].at_ms.max()
    reports: list[TrainingReport] = []

    def told(report: TrainingReport) -> None:
        reports.append(report)
        training(report.step, steps)

    origin = Origin(
        data=run.log.name,
        from_ms=int(first),
        to_ms=int(last),
        examples=len(made) * run.examples_a_step,
        steps=steps,
        seed=run.seed,
        command=run.command,
    )
    start_s = time.perf_counter()
    phoenix = fit(chain.from_iterable([made] * run.epochs), config, run.seed, told, origin=origin)
    run.out.parent.mkdir(parents=True, exist_ok=True)
    phoenix.save(run.out)
    end = reports[-1]
    return TrainingSummary(
        model=phoenix.version,
        examples=len(made) * run.examples_a_step,
        steps=end.step,
        seconds=time.perf_counter() - start_s,
        examples_per_s=end.examples_per_s,
        ranker_loss=end.ranker_loss,
        retrieval_loss=end.retrieval_loss,
        skipped_steps=end.skipped,
    )


def _batches(run: TrainingRun, config: PhoenixConfig, reading: Told) -> Iterator[ExampleBatch]:
    made = examples(LogReader(run.log), _intake(run.parameters, config), run.posts_max, run.seed, reading)
    return batches(_before(made, run.until_ms), run.examples_a_step, config.history_max, run.posts_max)


def _intake(parameters: Parameters, config: PhoenixConfig) -> Intake:
    posts = live_posts(parameters, co_likers=config.co_likers)
    return Intake(MemoryState(parameters, posts), parameters, Ownership())


def _before(made: Iterator[Example], until_ms: int | None) -> Iterator[Example]:
    for example in made:
        if until_ms is not None and example.context.at_ms >= until_ms:
            return
        yield example


class ActionQuality(Struct):
    """How well one action is told apart (AUC over all rows, and within viewers) and how well it is calibrated."""

    action: str
    rows: int
    happened: int
    auc: float | None
    viewer_auc: float | None
    log_loss: float
    predicted: float
    observed: float


class RankingQuality(Struct):
    """A model on what was really served; dwell times in seconds."""

    model: str
    rows: int
    table: list[ActionQuality]
    dwell_mean_error_s: float
    dwell_predicted_s: float
    dwell_observed_s: float


def ranking_quality(
    log: Path, checkpoint: Path, parameters: Parameters, after_ms: int, progress: Told
) -> RankingQuality:
    """Rank what a log says was served from `after_ms` on, and compare with what came of it.

    Raises LogRefused, CheckpointRefused, and ParameterRefused where nothing was served by then.
    """
    phoenix = Phoenix.load(checkpoint)
    made = examples(LogReader(log), _intake(parameters, phoenix.config), POSTS_MAX, progress=progress)
    late = (example for example in made if example.context.at_ms >= after_ms)
    padded = batches(late, EXAMPLES_A_STEP, phoenix.config.history_max, POSTS_MAX, rest=True)
    first = list(islice(padded, 1))
    if not first:
        raise ParameterRefused(f"{log} says of nothing that it was served after that time")
    found: Evaluation = evaluate_model(phoenix, chain(first, padded))
    names = ActionQuality.__struct_fields__
    table = [ActionQuality(*(getattr(one, name) for name in names)) for one in found.actions if one.happened]
    return RankingQuality(
        phoenix.version, found.rows, table, found.dwell_mean_error_s, found.dwell_predicted_s, found.dwell_observed_s
    )
