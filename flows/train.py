"""Train Phoenix from a log or a folder of examples."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from flows.curves import curves_svg, sparkline
from flows.example_files import is_folder_of_examples
from flows.training_batches import Seen, Spool, noted, spooled
from flows.training_examples import batches
from flows.training_sources import POSTS_MAX, Told, before, changed_parameters, followed, stored
from flows.validation import Epoch, Validation, trained_batches
from models.checkpoints import CheckpointRefused, Origin, write_whole
from models.codebooks import codebook_from
from models.collisions import SHARED_MAX, Collisions
from models.config import PRESETS, PhoenixConfig
from models.inputs import ExampleBatch
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from models.run_files import load_run, save_run
from models.semantic_ids import Codebook
from models.training import Trainer, TrainingRefused, TrainingReport
from operators.parameters import ParameterRefused, Parameters

EXAMPLES_A_STEP: Final = 64
SAVE_EVERY_S: Final = 300.0  # what a power cut may cost


class TrainingSummary(Struct):
    """What a training run did; losses are those of the last step.

    Where examples were held out, `validated` are the losses on them after each pass, and the model is that of the best.
    """

    model: str
    examples: int
    steps: int
    seconds: float
    examples_per_s: float
    ranker_loss: float
    retrieval_loss: float
    skipped_steps: int
    candidates_per_s: float = 0.0
    ranker_curve: str = ""
    retrieval_curve: str = ""
    best_epoch: int = 0
    validated: list[Epoch] = []
    collisions: list[Collisions] = []
    notes: list[str] = []


class TrainingRun(Struct, frozen=True):
    """What to train on, a log or a folder of examples, and how. Served feeds from `until_ms` on are left out.

    A step takes `examples_a_step` requests of at most `posts_max` posts each; a log of short feeds wants more of the
    one and fewer of the other. With `decay` the learning rates fall along a cosine to nothing at the last step. The
    state of the run is written beside the checkpoint every `save_every_s`, and `resume` goes on from it.

    The last `validate` of the time is held out: the model kept is that of the pass with the least loss there. With
    `semantic_from`, a model of the same widths, posts have semantic IDs, as many as the configuration says.
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
    training: TrainingConfig = TrainingConfig()
    decay: bool = False
    resume: bool = False
    save_every_s: float = SAVE_EVERY_S
    validate: float = 0.0
    semantic_from: Path | None = None
    semantic_levels: int = 4
    semantic_codes: int = 256

    @property
    def reads_once(self) -> bool:
        """Whether examples are taken as the log is read, and not from a spool."""
        return self.epochs == 1 and not self.decay and not self.validate and self.semantic_from is None

    @property
    def best_file(self) -> Path:
        """Where the best model so far stands while a run with validation goes on."""
        return self.out.with_name(f"{self.out.name}.best")

    @property
    def run_file(self) -> Path:
        """Where the state of the run stands while it goes on."""
        return self.out.with_name(f"{self.out.name}.run")

    @property
    def spool(self) -> Spool:
        """The examples of a run that reads them more than once."""
        return Spool(self.out.with_name(f"{self.out.name}.examples"))

    @property
    def command(self) -> str:
        """The command line that does the same, parameters other than the defaults included."""
        until = [] if self.until_ms is None else [f"--until {self.until_ms}"]
        parts = [
            f"run_flow.py train {self.log.name} --preset {self.preset} --epochs {self.epochs} --seed {self.seed}",
            f"--step {self.examples_a_step} --posts {self.posts_max}",
            *until,
            *self._settings(),
            *changed_parameters(self.parameters),
        ]
        return " ".join(parts)

    def _settings(self) -> list[str]:
        """What of the training differs from the defaults, as the command line has it where it does."""
        plain, usual = (msgspec.to_builtins(one) for one in (self.training, TrainingConfig()))
        changed = [f"--{name.replace('_', '-')} {value}" for name, value in plain.items() if value != usual[name]]
        if self.validate:
            changed.append(f"--validate {self.validate:g}")
        if self.semantic_from is not None:
            sizes = f"--semantic-levels {self.semantic_levels} --semantic-codes {self.semantic_codes}"
            changed.append(f"--semantic-ids {self.semantic_from.name} {sizes}")
        return [*changed, *(["--decay"] if self.decay else [])]

    @property
    def config(self) -> PhoenixConfig:
        """The model's shape; raises ParameterRefused for an unknown preset."""
        if self.preset not in PRESETS:
            raise ParameterRefused(f"no model is called {self.preset}: choose one of {', '.join(PRESETS)}")
        if self.semantic_from is None:
            return PRESETS[self.preset]
        return msgspec.structs.replace(
            PRESETS[self.preset], semantic_levels=self.semantic_levels, semantic_codes=self.semantic_codes
        )


class NothingToLearn(ParameterRefused):
    """A log without examples, or without anything that came of them."""


class TrainingStopped(Exception):
    """Training was asked to end before it was through; the message says how to go on."""


class Stop:
    """Remembers the first signal that asks to end; a second one ends at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Say whether to end."""
        return self.signal != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def take(number: int, _: object) -> None:
            self.signal = number
            signal.signal(number, signal.SIG_DFL)

        for number in before:
            signal.signal(number, take)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(
    run: TrainingRun, reading: Told, training: Told, stopped: Callable[[], bool] = lambda: False
) -> TrainingSummary:
    """Train and write a checkpoint; the same log, parameters and seed give the same one, resumed or not.

    `stopped` is asked after each step. Raises ParameterRefused where there is too little to train on, TrainingStopped,
    LogRefused, CheckpointRefused and whatever writing raises.
    """
    config, seen = run.config, Seen()
    made = _batches(run, config, reading)
    start_s = time.perf_counter()
    if run.reads_once:
        trainer = _resumed(run, config, run.training) if run.resume else Trainer(config, run.seed, run.training)
        # What was taken before is read again, because the viewers' histories come from it, and passed over.
        _learn(run, trainer, islice(noted(made, seen, config), trainer.taken, None), training, 0, stopped)
        _refuse_useless(run, seen)
        summary = _finish(run, trainer, seen)
    else:
        summary = _over_and_over(run, config, made, training, stopped)
    summary.seconds = time.perf_counter() - start_s
    run.run_file.unlink(missing_ok=True)
    run.spool.remove()
    return summary


def _over_and_over(
    run: TrainingRun,
    config: PhoenixConfig,
    made: Iterator[ExampleBatch],
    training: Told,
    stopped: Callable[[], bool],
) -> TrainingSummary:
    """Train on batches that are first written to a spool, because they are read several times or held out in part."""
    spool = run.spool
    seen = spool.seen() if run.resume else None
    try:
        seen = seen or spooled(spool, made, config, stopped)
    except OSError:
        spool.remove()  # where the disk is full, what is of no use must not stay
        raise
    if seen is None:
        raise TrainingStopped("stopped while reading the log: nothing was learned yet, begin anew")
    try:
        _refuse_useless(run, seen)
        each = trained_batches(seen, run.validate)
        codebook = _codebook(run, config, spool, each)
    except (ParameterRefused, CheckpointRefused):
        spool.remove()
        raise
    steps, settings = each * run.epochs, run.training
    if run.decay:
        settings = msgspec.structs.replace(settings, decay_steps=steps)
    validation = Validation(spool, each, run.best_file) if run.validate else None
    if run.resume:
        trainer = _resumed(run, config, settings, codebook, validation)
    else:
        trainer = Trainer(config, run.seed, settings, codebook=codebook)
    while True:
        epoch, start = divmod(trainer.taken, each)
        # A run that was stopped with a pass's last step has not measured it yet.
        if validation is not None and not start and len(validation.epochs) < epoch:
            validation.measure(trainer)
        if epoch == run.epochs:
            break
        _learn(run, trainer, spool.read(start, each), training, steps, stopped, validation)
    return _finish(run, trainer, seen, validation)


def _learn(
    run: TrainingRun,
    trainer: Trainer,
    batches: Iterator[ExampleBatch],
    training: Told,
    steps: int,
    stopped: Callable[[], bool],
    validation: Validation | None = None,
) -> None:
    """Take a step with each batch; raises TrainingStopped once the state of the run is on disk."""
    saved_s, end = time.perf_counter(), False

    def after_step() -> bool:
        nonlocal saved_s, end
        end = stopped()
        if end or time.perf_counter() - saved_s > run.save_every_s:
            measured = validation.epochs if validation is not None else []
            save_run(run.run_file, trainer, {"command": run.command, "validated": msgspec.to_builtins(measured)})
            saved_s = time.perf_counter()
        return end

    try:
        trainer.learn(batches, lambda report: training(report.step, steps), after_step)
    except TrainingRefused as refused:
        raise ParameterRefused(str(refused)) from None
    if end:
        raise TrainingStopped(f"stopped after {trainer.taken} steps: go on with the same command and --resume")


def _codebook(run: TrainingRun, config: PhoenixConfig, spool: Spool, batches: int) -> Codebook | None:
    """Return the codebook of a run with semantic IDs. Raises ParameterRefused, and CheckpointRefused."""
    if run.semantic_from is None:
        return None
    try:
        return codebook_from(Phoenix.load(run.semantic_from), spool.read(0, batches), config)
    except CheckpointRefused:
        raise
    except ValueError as error:
        raise ParameterRefused(f"{run.semantic_from}: {error}") from None


def _resumed(
    run: TrainingRun,
    config: PhoenixConfig,
    settings: TrainingConfig,
    codebook: Codebook | None = None,
    validation: Validation | None = None,
) -> Trainer:
    trainer, facts = load_run(run.run_file, config, settings, codebook)
    if facts["command"] != run.command:
        raise ParameterRefused(f"{run.run_file} was begun by another command: {facts['command']}")
    if validation is not None:
        validation.epochs = msgspec.convert(facts["validated"], list[Epoch])
    return trainer


def _refuse_useless(run: TrainingRun, seen: Seen) -> None:
    """Raise NothingToLearn where that is so."""
    if not seen.batches:
        raise NothingToLearn(
            f"{run.log} holds fewer than {run.examples_a_step} examples before that time: nothing to train on"
        )
    if not seen.actions:
        raise NothingToLearn(
            f"nobody acts on any post of the {seen.batches * run.examples_a_step:,} examples of {run.log}:"
            " there is nothing to learn from; train on a log with engagements"
        )


def _finish(run: TrainingRun, trainer: Trainer, seen: Seen, validation: Validation | None = None) -> TrainingSummary:
    """Write the checkpoint and its curves, and return what the run did."""
    end = trainer.report()
    if end.skipped == end.step:
        raise ParameterRefused(
            f"not one of {end.step} steps was finite: look for numbers that are none in the data, or lower the rates"
        )
    each, epochs = trained_batches(seen, run.validate), validation.epochs if validation is not None else []
    origin = Origin(
        data=run.log.name,
        from_ms=seen.from_ms,
        to_ms=seen.to_ms if each == seen.batches else seen.starts_ms[each],
        examples=each * run.examples_a_step,
        steps=trainer.taken if validation is None else validation.best.step,
        seed=run.seed,
        command=run.command,
    )
    if validation is None:
        phoenix = trainer.phoenix(origin)
    else:
        kept = validation.kept()
        phoenix = Phoenix(kept.config, kept.parameters, origin)
    phoenix.save(run.out)
    best = validation.best.epoch if validation is not None else 0
    curves = curves_svg(trainer.losses, [(one.step, one.ranker_loss, one.retrieval_loss) for one in epochs], best)
    write_whole(run.out.with_name(f"{run.out.name}.svg"), curves.encode())
    run.best_file.unlink(missing_ok=True)
    return TrainingSummary(
        model=phoenix.version,
        examples=origin.examples,
        steps=end.step,
        seconds=0.0,
        examples_per_s=end.examples_per_s,
        ranker_loss=end.ranker_loss,
        retrieval_loss=end.retrieval_loss,
        skipped_steps=end.skipped,
        candidates_per_s=end.candidates_per_s,
        ranker_curve=sparkline([ranker for ranker, _ in trainer.losses]),
        retrieval_curve=sparkline([retrieval for _, retrieval in trainer.losses]),
        best_epoch=best,
        validated=epochs,
        collisions=seen.collisions,
        notes=_notes(seen, end),
    )


def _notes(seen: Seen, end: TrainingReport) -> list[str]:
    """Return what whoever trained should know, a sentence each."""
    notes = []
    if end.skipped:
        notes.append(f"{end.skipped} of {end.step} steps were not finite and were skipped: look for such numbers")
    if seen.viewers == 1:
        notes.append("all examples are of one viewer: others lend no negatives, and retrieval has no rivals of theirs")
    notes += [
        f"{one.share_both:.1%} of {one.ids:,} {one.kind} ids share all their table rows with another: more"
        f" {one.kind}_buckets would tell them apart"
        for one in seen.collisions
        if one.share_both > SHARED_MAX
    ]
    return notes


def _batches(run: TrainingRun, config: PhoenixConfig, reading: Told) -> Iterator[ExampleBatch]:
    if is_folder_of_examples(run.log):
        made = stored(run.log, run.posts_max, config.co_likers, run.parameters, reading)
    else:
        try:
            config.check_groups(run.parameters.history.groups_max)
        except ValueError as error:
            raise ParameterRefused(f"such a model {error}") from None
        made = followed(run.log, run.parameters, config.co_likers, run.posts_max, run.seed, reading)
    return batches(before(made, run.until_ms), run.examples_a_step, config.groups_read, run.posts_max)
