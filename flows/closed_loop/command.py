"""`run_flow.py simulate --closed-loop`: a study of the loop into a folder, with its report."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from flows.closed_loop.learning import StreamLearner
from flows.closed_loop.report import page
from flows.closed_loop.study import (
    BEGUN,
    FIGURES,
    LEARNED,
    UNTRAINED,
    VARIANTS,
    Figures,
    LoopRun,
    live,
    live_on_kafka,
    small_world,
)
from flows.options import checkpoint_path
from flows.terminal import Refusal, bar
from infra.kafka.inbox import Connection
from models.checkpoints import write_whole
from models.config import PRESETS
from models.phoenix import Phoenix

REPORT: Final = "report.html"
MODELS: Final = "models"


class Wanted(Struct, frozen=True):
    """What a study is asked for: a loop into a folder, and with `compares` small worlds under changed parameters.

    With `full` those are larger and live longer. With `kafka` a job there is what serves, within `timeout_s` seconds a
    feed: it has its own model and learns by its own means.
    """

    out: Path
    run: LoopRun
    compares: bool = True
    full: bool = False
    kafka: Connection | None = None
    timeout_s: float = 60.0

    @property
    def command(self) -> str:
        """The command line that makes all of it."""
        return self.run.command(self.out, "--full" if self.full else "" if self.compares else "--no-compare")


def study(wanted: Wanted, quiet: bool) -> list[Figures]:
    """Run a study and write logs, models, figures and the report; return the figures, the main loop's first.

    Raises Refusal, LogRefused, CheckpointRefused, ParameterRefused, KafkaRefused, LoopRefused and OSError.
    """
    out, run = wanted.out, wanted.run
    if wanted.kafka is not None:
        with bar(f"{run.world.people:,} people live {run.world.days:g} days on Kafka", quiet) as told:
            return _told(out, run, [live_on_kafka(run, wanted.kafka, out, wanted.timeout_s, told)], None)
    if (out / MODELS).exists():
        raise Refusal(f"{out / MODELS} holds models of an earlier run: remove it, or name another folder")
    phoenix, learner = _start(run), None
    if run.settings is not None:
        start = None if run.start == UNTRAINED else phoenix
        learner = StreamLearner(out / MODELS, phoenix.config, run.parameters, run.settings, start, run.world.seed)
    if run.start == UNTRAINED:
        phoenix.save(out / BEGUN)
    with bar(f"{run.world.people:,} people live {run.world.days:g} days", quiet) as told:
        figures = [live(run, phoenix, out, learner, "main loop", "", told)]
    last = phoenix if learner is None else learner.latest or phoenix
    last.save(out / LEARNED)
    for variant in VARIANTS if wanted.compares else ():
        small = LoopRun(
            small_world(run.world, wanted.full),
            run.parameters.overridden(variant.changes),
            str(out / LEARNED),
            run.model,
            settings=None,
            judge_every=4,
        )
        folder = out / variant.name.replace(" ", "-")
        with bar(variant.name, quiet) as told:
            figures.append(live(small, last, folder, None, variant.name, variant.words, told))
    return _told(out, run, figures, wanted.command)


def _told(out: Path, run: LoopRun, figures: list[Figures], command: str | None) -> list[Figures]:
    """Write figures and the report; without `command` the first loop's own is the one that made all."""
    write_whole(out / FIGURES, msgspec.json.format(msgspec.json.encode(figures), indent=2))
    html = page(figures[0], figures[1:], run.world, command or figures[0].command)
    write_whole(out / REPORT, html.encode())
    return figures


def _start(run: LoopRun) -> Phoenix:
    """Return the model that a loop begins with. Raises Refusal and CheckpointRefused."""
    if run.start != UNTRAINED:
        return Phoenix.load(checkpoint_path(run.start))
    if run.model not in PRESETS:
        raise Refusal(f"no model is called {run.model}: choose one of {', '.join(PRESETS)}")
    return Phoenix.untrained(PRESETS[run.model], run.world.seed)
