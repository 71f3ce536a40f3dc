"""A study of the closed loop: one crowd and a model that learns from it, then small crowds under changed parameters."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

import msgspec
from msgspec import Struct

from flows.closed_loop.judging import BEST, FORESEEN, SERVED
from flows.closed_loop.kafka import KafkaLoop
from flows.closed_loop.learning import Learner
from flows.closed_loop.measures import (
    Calibration,
    Concentration,
    Reach,
    Suppression,
    Utility,
    calibration,
    concentration,
    reach,
    suppression,
    utility,
)
from flows.closed_loop.memory import MemoryLoop
from flows.closed_loop.records import Lived
from flows.closed_loop.trial import Look, Trial
from flows.training_sources import changed_parameters
from infra.kafka.inbox import Connection
from infra.logs import LogWriter
from infra.world import PRESETS as WORLDS
from infra.world import Crowd, WorldParameters
from infra.world.parameters import DAY_MS
from models.phoenix import Phoenix
from operators.parameters import Parameters, Value, assignment
from operators.parameters.learning import LearningSettings

UNTRAINED: Final = "untrained"
MODEL: Final = "affinities"  # that of fresh weights
LOG: Final = "log.jsonl.zst"
LEARNED: Final = "learned.phoenix"
BEGUN: Final = "begun.phoenix"
FIGURES: Final = "report.json"
SMALL_PEOPLE: Final = 30
SMALL_DAYS: Final = 4.0
FULL_PEOPLE: Final = 100
FULL_DAYS: Final = 42.0
SPANS: Final = 6  # of a loop, over which concentration is told
CHANGING: Final = 4  # parts of a day, where tastes change and are won back within one

Told = Callable[[float, float], None]


class Variant(Struct, frozen=True):
    """A change of the job's parameters to see what it moves, and what it is in words."""

    name: str
    changes: dict[str, Value]
    words: str


# A crowd gives thousands of examples where a platform gives millions: small steps, each example some three times over
# the whole run, a new model every few hours of simulated time. Rates as the demo's model was trained with
# (benchmarks/world/training.py); nothing lent, because feeds tell what was passed over. All models of a usual loop are
# kept (2 MB each), so that its log replays.
LEARNING: Final = LearningSettings(
    interval_examples=64,
    examples_a_step=32,
    passes=3,
    rehearsed=100_000,
    seen_only=True,
    learning_rate=3e-3,
    table_rate=3e-2,
    weight_decay=0.2,
    negatives=0,
    averaging=0.995,
    warm_up_steps=10,
    publish_margin=0.02,
    positives_min=50,
    keep=1000,
)
# One thing changed at a time; what each is worth in the small world is told beside the job as it is.
VARIANTS: Final = (
    Variant("as it is", {}, "the job's own parameters"),
    Variant(
        "no diversity",
        {"dpp.enabled": False, "scoring.author_diversity": False},
        "no DPP, and an author's later posts count as much as the first",
    ),
    Variant("strangers in full", {"scoring.out_of_network": False}, "posts of authors not followed at full score"),
    Variant("strangers at a quarter", {"scoring.oon_factor": 0.25}, "posts of authors not followed at .25 of it"),
    Variant("no cold start", {"cold_start.enabled": False}, "small authors get no place of their own"),
    Variant(
        "worth alone",
        {
            "dpp.enabled": False,
            "scoring.author_diversity": False,
            "scoring.out_of_network": False,
            "scoring.reply_mutual_follow_boost": 0.0,
        },
        "nothing stands between the weighted sum of predictions and the order",
    ),
)


class Figures(Struct, frozen=True):
    """What one closed loop came to, and the command that gives the same."""

    name: str
    words: str
    command: str
    people: int
    days: float
    events: int
    feeds: int
    models: list[tuple[float, str]]  # day, version
    utility: list[Utility]
    calibration: list[Calibration]
    concentration: list[Concentration]
    suppression: Suppression
    reach: Reach
    looks: list[Look] = []  # at the arms of an experiment


class LoopRun(Struct, frozen=True):
    """One closed loop to run; it learns with `settings`, or not at all without.

    `start` is what the command line calls the model that it begins with: a checkpoint, or `untrained` for fresh
    weights of the configuration `model`. `experiment` is the file of one, whose arms are held against each other by the
    `metric`; `clusters` are further models by name.
    """

    world: WorldParameters
    parameters: Parameters
    start: str
    model: str
    settings: LearningSettings | None
    judge_every: int = 1
    clusters: dict[str, str] = {}
    experiment: str = ""
    metric: str = "favorite"

    def command(self, out: Path, last: str = "--no-compare") -> str:
        """Return the command line that lives the same life into a folder."""
        usual = WORLDS["loop"]
        world = [
            f"--set {quote(assignment(name, value))}"
            for name, value in msgspec.structs.asdict(self.world).items()
            if value != getattr(usual, name) and name not in {"people", "days"}
        ]
        job = [one.replace("--set", "--job") for one in changed_parameters(self.parameters)]
        parts = [
            f"run_flow.py simulate --closed-loop {quote(str(out))}",
            f"--people {self.world.people} --days {self.world.days:g} --checkpoint {quote(self.start)}",
            *([f"--model {self.model}"] if self.start == UNTRAINED and self.model != MODEL else []),
            *world,
            *job,
            *self._learning(),
            f"--judge {self.judge_every}",
            *(f"--cluster {name}={quote(path)}" for name, path in self.clusters.items()),
            *([f"--experiment {quote(self.experiment)} --metric {self.metric}"] if self.experiment else []),
            last,
        ]
        return " ".join(part for part in parts if part)

    def _learning(self) -> list[str]:
        """Return how it learns, as the command line has it where it differs from LEARNING."""
        if self.settings is None:
            return ["--no-learn"]
        plain, usual = msgspec.structs.asdict(self.settings), msgspec.structs.asdict(LEARNING)
        return [f"--learning {quote(assignment(name, value))}" for name, value in plain.items() if value != usual[name]]


def live(
    run: LoopRun, phoenix: Phoenix, out: Path, learner: Learner | None, name: str, words: str, told: Told
) -> Figures:
    """Run a closed loop, write its log and truth into a folder, and return what it came to.

    Raises LoopRefused, Refusal and ParameterRefused for an experiment that can't be, CheckpointRefused for its models.
    """
    out.mkdir(parents=True, exist_ok=True)
    crowd = Crowd(run.world)
    with LogWriter(out / LOG) as writer:
        parameters = run.parameters.overridden({"learning.features_enabled": learner is not None})
        start_ms = run.world.start_ms
        trial = Trial.load(Path(run.experiment), run.metric, start_ms) if run.experiment else None
        others = {name: Phoenix.load(Path(path)) for name, path in run.clusters.items()}
        loop = MemoryLoop(crowd, parameters, phoenix, learner, run.judge_every, writer.write, others, trial)
        lived = loop.run(told)
    if trial is not None and not trial.decided:
        trial.look(crowd.end_ms)
    crowd.save_truth(out / LOG)
    figures = _figures(run, crowd, lived, loop.events, run.command(out), name, words)
    return figures if trial is None else msgspec.structs.replace(figures, looks=trial.looks)


def final_share(figures: Figures, of: str = BEST) -> float | None:
    """Return the served feeds' share of what others would have chosen on the last day that was judged, None unknown."""
    worth = figures.utility[-1].worth if figures.utility else {}
    return worth[SERVED] / worth[of] if SERVED in worth and worth.get(of, 0.0) > 0.0 else None


def live_on_kafka(run: LoopRun, connection: Connection, out: Path, timeout_s: float, told: Told) -> Figures:
    """Run a closed loop with a job on Kafka, and write its log and truth; learning is somebody else's there.

    Raises LoopRefused, Refusal, KafkaRefused and LogRefused.
    """
    out.mkdir(parents=True, exist_ok=True)
    crowd = Crowd(run.world)
    with LogWriter(out / LOG) as writer:
        loop = KafkaLoop(connection, crowd, timeout_s, run.judge_every, writer.write)
        lived = loop.run(told)
    crowd.save_truth(out / LOG)
    command = f"{run.command(out, '')} --kafka {connection.address}"
    return _figures(run, crowd, lived, loop.events, command, "over Kafka", "")


def summary_rows(figures: Sequence[Figures]) -> list[dict[str, str | int | float]]:
    """Return a row for each loop, for people."""
    return [
        {
            "loop": one.name,
            "feeds": one.feeds,
            "models": len(one.models),
            "served": share_text(final_share(one)),
            "of what can be foreseen": share_text(final_share(one, FORESEEN)),
            "topics": f"{one.concentration[-1].effective_topics:.1f}" if one.concentration else "–",
            "small authors": one.reach.small_share,
        }
        for one in figures
    ]


def share_text(share: float | None) -> str:
    """Return a share in percent, a dash where it is not known."""
    return "–" if share is None else f"{share:.0%}"


def small_world(world: WorldParameters, full: bool) -> WorldParameters:
    """Return the world in which variants are compared: the same habits, fewer people, tastes that stay."""
    people, days = (FULL_PEOPLE, FULL_DAYS) if full else (SMALL_PEOPLE, SMALL_DAYS)
    return msgspec.structs.replace(
        world, people=people, days=days, follows_per_person=min(world.follows_per_person, people / 4),
        taste_drift_day=0.0, taste_change_day=0.0,
    )  # fmt: skip


def _figures(run: LoopRun, crowd: Crowd, lived: Lived, events: int, command: str, name: str, words: str) -> Figures:
    start, posts = run.world.start_ms, crowd.posts
    span = max(int(run.world.days * DAY_MS / SPANS), 1)
    return Figures(
        name=name,
        words=words,
        command=command,
        people=run.world.people,
        days=run.world.days,
        events=events,
        feeds=len(lived.feeds),
        models=[((at - start) / DAY_MS, version) for at, version in lived.models],
        utility=utility(lived.feeds, start, DAY_MS // CHANGING if run.world.taste_change_day else DAY_MS),
        calibration=calibration(lived.feeds, start),
        concentration=concentration(lived.feeds, posts, crowd.tastes, start, span),
        suppression=suppression(lived.feeds, lived.acts, posts),
        reach=reach(lived.feeds, posts, crowd.followers()),
    )
