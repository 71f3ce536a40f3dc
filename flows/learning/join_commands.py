"""The commands that join what was served with what came of it, and fetch the examples."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Json, ParameterFile, Set, parameters_from
from flows.serving.commands import LOCAL, Kafka, KafkaSet, OperationsPort, Prefix, connection, instance_of
from flows.terminal import Refusal, console, print_json, refusals, rows_table, time_ms


def join_examples(
    kafka: Kafka = LOCAL,
    state: Annotated[Path, typer.Option("--state", help="the folder of the join's stores")] = Path("out/learning"),
    instance: Annotated[str, typer.Option("--instance", "-i", help="which instance this is: k/n, k from 0")] = "0/1",
    every: Annotated[float, typer.Option(min=0.05, help="seconds between commits")] = 1.0,
    file: ParameterFile = None,
    assignments: Set = None,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    on_lost_offsets: Annotated[
        str, typer.Option(help="where retention took unread messages: stop, earliest or latest")
    ] = "stop",
    port: OperationsPort = None,
    log_form: Annotated[str, typer.Option("--log", help="log lines: auto, json or human")] = "auto",
) -> None:
    """Join served features with engagements into labelled examples on training-examples, until SIGTERM.

    An example closes `learning.inactivity_s` after it was served or last acted on; later engagements go to
    late-engagements.

    Example: `run_flow.py join-examples --kafka localhost:9092 --state out/learning --instance 0/2`
    """
    from flows.learning.examples_flow import Joins
    from flows.learning.examples_flow import join_examples as run
    from flows.serving.job import LOST_POLICIES
    from infra.operations import configure_logging

    with refusals():
        configure_logging(form=log_form)
        if on_lost_offsets not in LOST_POLICIES:
            raise Refusal(f"--on-lost-offsets {on_lost_offsets}: choose one of {', '.join(LOST_POLICIES)}")
        ordinal, count = instance_of(instance)
        learning, lost = parameters_from(file, assignments).learning, LOST_POLICIES[on_lost_offsets]
        run(Joins(connection(kafka, prefix, kafka_set), state, learning, ordinal, count, every, lost, port))


def collect_examples(
    out: Annotated[Path, typer.Argument(help="the folder to write")],
    kafka: Kafka = LOCAL,
    since: Annotated[str, typer.Option(help="leave out what was asked for before this time: ms or ISO 8601")] = "",
    until: Annotated[str, typer.Option(help="leave out what was asked for from this time on: ms or ISO 8601")] = "",
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    as_json: Json = False,
) -> None:
    """Write the examples on training-examples as Parquet, a file an hour, with a manifest; `train` reads the folder.

    Example: `run_flow.py collect-examples out/examples --kafka localhost:9092 --since 2026-01-07`
    """
    from flows.learning.collecting import collect

    with refusals():
        since_ms, until_ms = (time_ms(text) if text else end for text, end in ((since, 0), (until, 2**62)))
        made = collect(connection(kafka, prefix, kafka_set), out, since_ms, until_ms)
    if as_json:
        print_json(made)
        return
    spans = [{"file": part.name, "examples": part.examples, "bytes": part.bytes} for part in made.parts]
    console.print(rows_table(f"{made.examples:,} examples in {out}", spans))


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(join_examples)
    app.command()(collect_examples)
