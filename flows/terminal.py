"""How commands talk: progress bars, tables, JSON, and refusals in one sentence with status 2."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec
import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console()
errors = Console(stderr=True)


class Refusal(ValueError):
    """A flag or file that can't be used; the message says the way out."""


def refuse(reason: str) -> NoReturn:
    """Say what is wrong and end with status 2."""
    errors.print(f"[red]error:[/red] {escape(reason)}", soft_wrap=True)
    raise typer.Exit(2) from None


def viewer_id(text: str) -> int | str:
    """Return a viewer's id as events spell it: a number where it is one, else text."""
    return int(text) if text.isascii() and text.isdigit() else text


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the rooms refuse into one sentence and status 2."""
    from infra.importers import ImportRefused
    from infra.kafka import KafkaRefused
    from infra.logs.files import LogRefused
    from infra.operations import OperationsRefused
    from infra.stores import StoreRefused
    from infra.world.truth import TruthRefused
    from models.checkpoints import CheckpointRefused
    from operators.parameters import ParameterRefused
    from operators.visibility import VisibilityRefused

    refused = (
        Refusal, ParameterRefused, LogRefused, CheckpointRefused, ImportRefused, TruthRefused, KafkaRefused,
        OperationsRefused, StoreRefused, VisibilityRefused,
    )  # fmt: skip
    try:
        yield
    except refused as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))


@contextmanager
def bar(title: str, quiet: bool = False) -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar on the error stream; it is told done and total."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=quiet) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def print_json(value: Any) -> None:
    """Print anything as JSON."""
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=str)  # paths are all that msgspec does not know
    sys.stdout.buffer.write(orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stdout.buffer.flush()


def time_ms(text: str) -> int:
    """Return a time given as milliseconds or as ISO 8601 (UTC unless it says otherwise), in milliseconds."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(f"{text!r} is no time: give milliseconds or a date such as 2026-01-07T18:00:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def rows_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return rows as a table, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if isinstance(rows[0][name], int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table
