"""`run_flow.py simulate --closed-loop`: a study of the loop into a folder, with its report."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from flows.closed_loop.learning import StreamLearner
from flows.closed_loop.report import page
from flows.closed_loop.study import FIGURES, LEARNED, UNTRAINED, VARIANTS, Figures, LoopRun, live, small_world
from flows.options import checkpoint_path
from flows.terminal import Refusal, bar
from models.checkpoints import write_whole
from models.config import PRESETS
from models.phoenix import Phoenix

REPORT: Final = "report.html"
MODELS: Final = "models"


class Wanted(Struct, frozen=True):
    """What a study is asked for: a loop into a folder, and with `compares` small worlds under changed parameters.

    With `full` those are larger and live longer.
    """

    out: Path
    run: LoopRun
    compares: bool = True
    full: bool = False

    @property
    def command(self) -> str:
        """The command line that makes all of it."""
        return self.run.command(self.out, "--full" if self.full else "" if self.compares else "--no-compare")


def study(wanted: Wanted, quiet: bool) -> list[Figures]:
    """Run a study and write logs, models, figures and the report; return the figures, the main loop's first.

    Raises Refusal, LogRefused, CheckpointRefused, ParameterRefused, LoopRefused and OSError.
    """
    out, run = wanted.out, wanted.run
    if (out / MODELS).exists():
        raise Refusal(f"{out / MODELS} holds models of an earlier run: remove it, or name another folder")
    phoenix, learner = _start(run), None
    if run.settings is not None:
        start = None if run.start == UNTRAINED else phoenix
        learner = StreamLearner(out / MODELS, phoenix.config, run.parameters, run.settings, start, run.world.seed)
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
    write_whole(out / FIGURES, msgspec.json.format(msgspec.json.encode(figures), indent=2))
    write_whole(out / REPORT, page(figures[0], figures[1:], run.world, wanted.command).encode())
    return figures


def _start(run: LoopRun) -> Phoenix:
    """Return the model that a loop begins with. Raises Refusal and CheckpointRefused."""
    if run.start != UNTRAINED:
        return Phoenix.load(checkpoint_path(run.start))
    if run.model not in PRESETS:
        raise Refusal(f"no model is called {run.model}: choose one of {', '.join(PRESETS)}")
    return Phoenix.untrained(PRESETS[run.model], run.world.seed)
