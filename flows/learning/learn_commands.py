"""The commands of a model that goes on learning: learn, and models to see what it has published."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from flows.options import Json, ParameterFile, Set, checkpoint_path, parameters_from
from flows.serving.commands import LOCAL, Kafka, KafkaSet, OperationsPort, Prefix, connection
from flows.terminal import Refusal, bar, console, errors, print_json, refusals, rows_table

Folder = Annotated[Path, typer.Option("--registry", help="the folder of published models")]

# What fits on a terminal of 80 columns; JSON has the rest.
SHOWN: Final = ("version", "to", "examples", "loss", "auc_favorite", "worse", "checkpoint")


def learn(
    source: Annotated[
        Path | None, typer.Argument(help="a folder of examples, as `examples` writes it; Kafka if left out")
    ] = None,
    registry: Folder = Path("out/models"),
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", "-c", help="the model to begin with: a path or `demo`; a fresh one if left out"),
    ] = "",
    preset: Annotated[str, typer.Option(help="size of a fresh model: demo, affinities, ids or standard")] = "demo",
    seed: Annotated[int, typer.Option(help="of fresh weights and of what is left to chance in learning")] = 0,
    anew: Annotated[
        bool, typer.Option("--anew", help="pass over the state on disk: begin from the registry's newest model")
    ] = False,
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    file: ParameterFile = None,
    assignments: Set = None,
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="how far it stands back for other processes of the machine: as nice(1)")
    ] = 10,
    port: OperationsPort = None,
    log_form: Annotated[str, typer.Option("--log", help="log lines: auto, json or human")] = "auto",
    as_json: Json = False,
) -> None:
    """Go on learning from examples in order of time, and publish what is good enough into a registry.

    Each interval of examples is foretold before it is learned from; `trainer.*` says how long it is and by how much a
    model may be worse. Without SOURCE the examples come from Kafka (training-examples), each published model is
    announced on `models`, and it ends with SIGTERM. The state is written after each interval: the same command goes on.

    Example: `run_flow.py learn out/demo/examples --checkpoint demo --registry out/models`
    """
    os.nice(nice)  # first of all: threads have the priority of the one that made them
    from flows.learning.announcing import Announcer
    from flows.learning.example_sources import TOPIC, FolderSource, TopicSource, partitions_of
    from flows.learning.learn import LearnRun, nobody
    from flows.learning.learn import learn as run_learning
    from flows.learning.watching import LearnWatch, answering
    from flows.train import Stop
    from infra.operations import configure_logging

    stop = Stop()
    with refusals(), stop.listening():
        # Of a folder the lines on intervals say all there is.
        configure_logging("info" if source is None else "warning", log_form)
        settings = parameters_from(file, assignments).trainer
        start = checkpoint_path(checkpoint) if checkpoint else None
        run = LearnRun(registry, settings, start, preset, seed, anew)
        intervals = Intervals(as_json)
        watch = LearnWatch()
        with bar("learning", as_json or source is None) as reading, answering(port, watch.health, watch.metrics):
            if source is not None:
                done = run_learning(
                    run,
                    lambda config: FolderSource(source, settings.posts_max, config.co_likers, reading),
                    intervals,
                    nobody,
                    stop,
                    watch,
                )
            else:
                cluster = connection(kafka, prefix, kafka_set)
                partitions = partitions_of(cluster, TOPIC)
                topic = TopicSource(cluster, partitions)
                done = run_learning(run, lambda _config: topic, intervals, Announcer(cluster), stop, watch)
    if as_json:
        print_json({"intervals": intervals.rows, "learned": done})
        return
    facts = {name: getattr(done, name) for name in done.__struct_fields__}
    console.print(rows_table(str(registry), [{"what": name, "value": one} for name, one in facts.items()]))
    if not done.intervals:
        errors.print(
            f"note: {done.waiting} examples do not fill an interval of {settings.interval_examples}; a shorter one is"
            " set by --set trainer.interval_examples=N",
            soft_wrap=True,
        )


class Intervals:
    """Tells of each interval as it ends: a line, or a row to be printed as JSON at the end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.rows: list[dict[str, Any]] = []

    def __call__(self, interval: Any, seconds: float) -> None:
        """Take an interval and how long judging and learning took."""
        row = interval_row(interval, seconds)
        if self._quiet:
            self.rows.append(row)
            return
        said = [f"{name} {'-' if value is None else value}" for name, value in row.items()]
        console.print("  ".join(said), soft_wrap=True, highlight=False)


def interval_row(interval: Any, seconds: float) -> dict[str, Any]:
    """Return what to tell of an interval, by column; None where there is nothing to tell."""
    trained, best, compared = interval.trained, interval.best, interval.compared
    return {
        "interval": interval.number,
        "until": iso(interval.to_ms),
        "examples_per_s": round(interval.examples / seconds, 1),
        "auc_favorite": rounded(trained and trained.auc["favorite"]),
        "auc_favorite_best": rounded(best and best.auc["favorite"]),
        "calibration_error": rounded(trained and trained.calibration_error["favorite"]),
        "worse": rounded(compared and compared.ranker),
        "worse_error": rounded(compared and compared.ranker_error),
        "published": interval.published.version if interval.published else "no",
        "reason": interval.reason or None,
    }


def rounded(value: float | None) -> float | None:
    """Return a number to four digits behind the point."""
    return None if value is None else round(value, 4)


def iso(at_ms: int) -> str:
    """Return a time in milliseconds as ISO 8601, UTC, to the second."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def models(folder: Annotated[Path, typer.Argument(help="the folder of a registry")], as_json: Json = False) -> None:
    """List the published models of a registry, the oldest first: what each learned from, and how good it was.

    Example: `run_flow.py models out/models`
    """
    from models.registry import Registry, damage

    with refusals():
        entries = Registry(folder, keep=1).entries()
        if not entries:
            raise Refusal(f"{folder}: nothing was published there; `run_flow.py learn` publishes")
        rows = [
            {
                "version": one.version,
                "parent": one.facts.parent,
                "at": iso(one.facts.at),
                "from": iso(one.facts.from_ms),
                "to": iso(one.facts.to_ms),
                "examples": one.facts.examples,
                "steps": one.facts.steps,
                "loss": rounded(one.facts.metrics.get("loss")),
                "auc_favorite": rounded(one.facts.metrics.get("auc.favorite")),
                "worse": rounded(one.facts.metrics.get("worse")),
                "checkpoint": damage(one) or "whole",
            }
            for one in entries
        ]
    if as_json:
        print_json(rows)
    else:
        shown = [{name: "-" if row[name] is None else row[name] for name in SHOWN} for row in rows]
        console.print(rows_table(f"models of {folder}", shown))


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(learn)
    app.command()(models)
