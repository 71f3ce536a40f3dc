"""A process that learns: examples in, published models out, its state on disk after every interval.

The order of saving is: the checkpoint and the registry's manifest, the announcement, the state of the run with its
position in the input. Killed in between, the run repeats the interval from the state before: a folder gives the same
model again, which the registry knows; on Kafka the partitions may come together in another order, and another model is
published after it. What is learned from is learned from once in either case.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from flows.learning.example_sources import ExampleSource
from flows.learning.trainer import ContinuousTrainer, Interval, Passed
from flows.learning.watching import LearnWatch
from infra.operations import get_log
from models.checkpoints import CheckpointRefused
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from models.registry import Entry, Registry
from models.training import TrainingRefused
from operators.parameters import ParameterRefused
from operators.parameters.learning import LearningSettings

log = get_log("learn")

RUN_FILE: Final = "learning.run"
LOCK_FILE: Final = ".lock"


class LearnRun(Struct, frozen=True):
    """What to learn into which registry, and how.

    `start` is the checkpoint to begin with where the registry is empty; without one a fresh model of `preset` learns.
    With `anew` a state on disk is passed over, and learning begins from the registry's newest model.
    """

    registry: Path
    settings: LearningSettings
    start: Path | None = None
    preset: str = "demo"
    seed: int = 0
    anew: bool = False

    @property
    def run_file(self) -> Path:
        """Where the state of the run stands."""
        return self.registry / RUN_FILE


class Learned(Struct):
    """What a process has learned: intervals and published models of this start, and examples passed over.

    `waiting` examples are too few for an interval; they are read again at the next start.
    """

    intervals: int = 0
    examples: int = 0
    published: int = 0
    refused: int = 0
    waiting: int = 0
    twice: int = 0
    late: int = 0
    unusable: int = 0
    deleted: int = 0
    newest: str = ""


# Told of an interval with the seconds that judging and learning took, and of a published model with the stream's time.
Told = Callable[[Interval, float], None]
Announce = Callable[[Entry, int], None]


def nobody(_entry: Entry, _at_ms: int) -> None:
    """Tell nobody of a published model: where examples come from a folder, no job waits for it."""


def configuration(run: LearnRun, registry: Registry) -> tuple[PhoenixConfig, Phoenix | None]:
    """Return the shape of the model to train, and the one to begin with where the registry is empty.

    Raises CheckpointRefused, and ParameterRefused for an unknown preset.
    """
    newest = registry.latest()
    if newest is not None:
        return registry.load(newest).config, None
    if run.start is not None:
        start = Phoenix.load(run.start)
        return start.config, start
    if run.preset not in PRESETS:
        raise ParameterRefused(f"no model is called {run.preset}: choose one of {', '.join(PRESETS)}")
    return PRESETS[run.preset], None


def learn(
    run: LearnRun,
    open_source: Callable[[PhoenixConfig], ExampleSource],
    told: Told,
    announce: Announce,
    stopped: Callable[[], bool] = lambda: False,
    watch: LearnWatch | None = None,
) -> Learned:
    """Learn from a source until it ends or `stopped` says so; go on from the state on disk where there is one.

    A state that was left by another source keeps what was learned, and reads this one from its beginning. `watch` shows
    operators how it goes.
    Raises CheckpointRefused, ParameterRefused, what the source raises, and OSError.
    """
    done, registry, watch = Learned(), Registry(run.registry, run.settings.keep), watch or LearnWatch()
    with alone(run.registry):
        trainer, position, config = _begun(run, registry)
        watch.health.set("model", True)
        source = open_source(config)
        if position is not None and position.get("source") != source.name:
            position = None
        try:
            for example in source.read(position):
                watch.health.set("examples", True)
                watch.turn(trainer.waiting, _passed_over(done, trainer.passed, source))
                if stopped():
                    break
                if example is None:
                    continue
                start_s = time.perf_counter()
                for interval in trainer.take([example], source.forgotten):
                    if interval.published is not None:
                        announce(interval.published, source.clock_ms)
                    trainer.save(run.run_file, source.position)
                    _log(interval, source.position)
                    _count(done, interval)
                    seconds = time.perf_counter() - start_s
                    watch.interval(interval, seconds)
                    told(interval, seconds)
        except TrainingRefused as refused:
            raise ParameterRefused(str(refused)) from None
        finally:
            source.close()
    newest = registry.latest()
    done.refused, done.deleted, done.waiting = source.refused, source.deleted, trainer.waiting
    done.newest = "" if newest is None else newest.version
    _pass(done, trainer.passed)
    return done


def _begun(run: LearnRun, registry: Registry) -> tuple[ContinuousTrainer, dict[str, Any] | None, PhoenixConfig]:
    config, start = configuration(run, registry)
    if run.anew or not run.run_file.exists():
        return ContinuousTrainer(registry, config, run.settings, start, run.seed), None, config
    try:
        trainer, position = ContinuousTrainer.resumed(run.run_file, registry, config, run.settings)
    except CheckpointRefused as refused:
        raise CheckpointRefused(f"{refused} (--anew goes on from the registry's newest model)") from None
    return trainer, position, config


def _log(interval: Interval, position: dict[str, Any]) -> None:
    """Say how far the input was read when an interval had been learned: which examples are in it."""
    published = None if interval.published is None else interval.published.version
    log.info("interval_learned", number=interval.number, published=published, position=position)


def _count(done: Learned, interval: Interval) -> None:
    done.intervals += 1
    done.examples += interval.examples
    done.published += interval.published is not None
    _pass(done, interval.passed)


def _pass(done: Learned, passed: Passed) -> None:
    done.twice += passed.twice
    done.late += passed.late
    done.unusable += passed.unusable


def _passed_over(done: Learned, passed: Passed, source: ExampleSource) -> dict[str, int]:
    """Return how many examples were passed over since the start, the interval that is not full yet included."""
    return {
        "twice": done.twice + passed.twice,
        "late": done.late + passed.late,
        "unusable": done.unusable + passed.unusable,
        "deleted": source.deleted,
        "refused": source.refused,
    }


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a registry for one writer; the lock ends with the process. Raises CheckpointRefused where another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise CheckpointRefused(f"{folder}: another process is learning into it: name another registry") from None
    try:
        yield
    finally:
        os.close(file)
