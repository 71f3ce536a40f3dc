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
from models.checkpoints import Origin, write_whole
from models.collisions import SHARED_MAX, Collisions
from models.config import PRESETS, PhoenixConfig
from models.inputs import ExampleBatch
from models.recipe import TrainingConfig
from models.run_files import load_run, save_run
from models.training import Trainer, TrainingReport
from operators.parameters import ParameterRefused, Parameters

EXAMPLES_A_STEP: Final = 64
SAVE_EVERY_S: Final = 300.0  # what a power cut may cost


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
    candidates_per_s: float = 0.0
    ranker_curve: str = ""
    retrieval_curve: str = ""
    collisions: list[Collisions] = []
    notes: list[str] = []


class TrainingRun(Struct, frozen=True):
    """What to train on, a log or a folder of examples, and how. Served feeds from `until_ms` on are left out.

    A step takes `examples_a_step` requests of at most `posts_max` posts each; a log of short feeds wants more of the
    one and fewer of the other. With `decay` the learning rates fall along a cosine to nothing at the last step. The
    state of the run is written beside the checkpoint every `save_every_s`, and `resume` goes on from it.
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
        return [*changed, *(["--decay"] if self.decay else [])]

    @property
    def config(self) -> PhoenixConfig:
        """The model's shape; raises ParameterRefused for an unknown preset."""
        if self.preset not in PRESETS:
            raise ParameterRefused(f"no model is called {self.preset}: choose one of {', '.join(PRESETS)}")
        return PRESETS[self.preset]


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
    config, spool, seen = run.config, run.spool, Seen()
    several = run.epochs > 1 or run.decay
    made = _batches(run, config, reading)
    steps = 0
    settings = run.training
    if several:
        found = spool.seen() if run.resume else None
        found = found or spooled(spool, made, config, stopped)
        if found is None:
            raise TrainingStopped("stopped while reading the log: nothing was learned yet, begin anew")
        seen, steps = found, found.batches * run.epochs
        if run.decay:
            settings = msgspec.structs.replace(settings, decay_steps=max(steps, 1))
    trainer = _resumed(run, config, settings) if run.resume else Trainer(config, run.seed, settings)
    if several:
        try:
            _refuse_useless(run, seen)
        except ParameterRefused:
            spool.remove()
            raise
        stream = _epochs(spool, seen.batches, run.epochs, trainer.taken)
    else:
        # What was taken before is read again, because the viewers' histories come from it, and passed over.
        stream = islice(noted(made, seen, config), trainer.taken, None)
    saved_s = start_s = time.perf_counter()

    def after_step() -> bool:
        nonlocal saved_s
        end = stopped()
        if end or time.perf_counter() - saved_s > run.save_every_s:
            save_run(run.run_file, trainer, {"command": run.command})
            saved_s = time.perf_counter()
        return end

    trainer.learn(stream, lambda report: training(report.step, steps), after_step)
    if stopped():
        raise TrainingStopped(f"stopped after {trainer.taken} steps: go on with the same command and --resume")
    _refuse_useless(run, seen)
    summary = _finish(run, trainer, seen)
    summary.seconds = time.perf_counter() - start_s
    run.run_file.unlink(missing_ok=True)
    spool.remove()
    return summary


def _resumed(run: TrainingRun, config: PhoenixConfig, settings: TrainingConfig) -> Trainer:
    trainer, facts = load_run(run.run_file, config, settings)
    if facts["command"] != run.command:
        raise ParameterRefused(f"{run.run_file} was begun by another command: {facts['command']}")
    return trainer


def _epochs(spool: Spool, batches_each: int, epochs: int, taken: int) -> Iterator[ExampleBatch]:
    """Yield the batches of all epochs but for those taken already."""
    epoch, start = divmod(taken, batches_each)
    for number in range(epoch, epochs):
        yield from spool.read(start if number == epoch else 0)


def _refuse_useless(run: TrainingRun, seen: Seen) -> None:
    """Raise ParameterRefused where there is nothing to learn from."""
    if not seen.batches:
        raise ParameterRefused(
            f"{run.log} holds fewer than {run.examples_a_step} examples before that time: nothing to train on"
        )
    if not seen.actions:
        raise ParameterRefused(
            f"nobody acts on any post of the {seen.batches * run.examples_a_step:,} examples of {run.log}:"
            " there is nothing to learn from; train on a log with engagements"
        )


def _finish(run: TrainingRun, trainer: Trainer, seen: Seen) -> TrainingSummary:
    """Write the checkpoint and its curves, and return what the run did."""
    end = trainer.report()
    if end.skipped == end.step:
        raise ParameterRefused(
            f"not one of {end.step} steps was finite: look for numbers that are none in the data, or lower the rates"
        )
    origin = Origin(
        data=run.log.name,
        from_ms=seen.from_ms,
        to_ms=seen.to_ms,
        examples=seen.batches * run.examples_a_step,
        steps=trainer.taken,
        seed=run.seed,
        command=run.command,
    )
    phoenix = trainer.phoenix(origin)
    phoenix.save(run.out)
    write_whole(run.out.with_name(f"{run.out.name}.svg"), curves_svg(trainer.losses).encode())
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
        made = followed(run.log, run.parameters, config.co_likers, run.posts_max, run.seed, reading)
    return batches(before(made, run.until_ms), run.examples_a_step, config.history_max, run.posts_max)
