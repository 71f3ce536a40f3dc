"""The commands that tell of parameters and of the pipeline they make."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from flows.options import (
    FeedOption,
    Json,
    ParameterFile,
    Set,
    VisibilityFile,
    feed_name,
    parameters_from,
    visibility_from,
)
from flows.pipeline_table import component_rows, difference_rows
from flows.terminal import console, print_json, refusals, rows_table
from operators.parameters import ENTRIES
from operators.pipeline.surfaces import SURFACES


def parameters(file: ParameterFile = None, assignments: Set = None, as_json: Json = False) -> None:
    """List every parameter: value, default, origin.

    Example: `run_flow.py parameters --set scoring.oon_factor=0.5`
    """
    with refusals():
        tree = msgspec.to_builtins(parameters_from(file, assignments))
    if as_json:
        print_json(tree)
        return
    table = Table("parameter", "value", "default", "scope", "x-algorithm.md", "meaning")
    for entry in ENTRIES.values():
        section, _, field = entry.name.partition(".")
        value = tree[section][field]
        default = msgspec.to_builtins(entry.default)
        style = "bold" if value != default else ""
        table.add_row(entry.name, str(value), str(default), entry.scope, entry.source, entry.description, style=style)
    console.print(table)


def pipeline(
    file: ParameterFile = None,
    assignments: Set = None,
    visibility: VisibilityFile = None,
    feed: FeedOption = "for_you",
    diff: Annotated[tuple[str, str] | None, typer.Option(help="two presets or files: what separates them")] = None,
    as_json: Json = False,
) -> None:
    """List the components of the pipeline in order, each with its rule, origin and parameters; or compare presets.

    The rules of visibility are among them.

    Example: `run_flow.py pipeline --diff january-2026 august-2026`
    """
    with refusals():
        if diff:
            one, other = (parameters_from(Path(name), None) for name in diff)
            title, rows = " and ".join(diff), difference_rows(one, other, diff)
        else:
            title, rows = (
                f"feed {feed_name(feed)}, in order: {SURFACES[feed].rule}",
                component_rows(parameters_from(file, assignments), visibility_from(visibility), feed),
            )
    if as_json:
        print_json(rows)
    else:
        console.print(rows_table(title, rows))


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (parameters, pipeline):
        app.command()(command)
