"""The command line of foryou-stream: simulate, import, validate, train, replay, look, evaluate, measure.

Every command ends with status 0, or with 2 and one sentence that says what is wrong and the way out.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from operators.parameters import DEFAULTS, ENTRIES, ParameterRefused, Parameters, load, parse_assignment

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False, help=__doc__
)
console = Console()
errors = Console(stderr=True)

DEMO_CHECKPOINT = Path(__file__).parent / "models" / "checkpoints" / "demo"

Log = Annotated[
    Path, typer.Argument(help="a log: JSON Lines, plain, .gz or .zst, merged or a folder with a file a topic")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="where the outputs go")]
Checkpoint = Annotated[Path, typer.Option("--checkpoint", "-c", help="the Phoenix checkpoint to rank with")]
ParameterFile = Annotated[Path | None, typer.Option("--parameters", "-p", help="a TOML file of parameters")]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="one parameter, as name=value; may be repeated")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


class Refusal(ValueError):
    """A flag or file that can't be used; the message says the way out."""


def refuse(message: str) -> None:
    """Say what is wrong in one sentence and end with status 2."""
    errors.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(2)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the rooms refuse into a sentence and status 2."""
    from infra.logs.files import LogRefused
    from models.checkpoints import CheckpointRefused

    try:
        yield
    except (Refusal, ParameterRefused, LogRefused, CheckpointRefused) as error:
        refuse(str(error))


@contextmanager
def bar(title: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on the error stream; it is told done and total."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=quiet) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def parameters_from(file: Path | None, assignments: list[str] | None) -> Parameters:
    """Return the defaults with a file's and the command line's values in place."""
    parameters = load(file) if file is not None else DEFAULTS
    return parameters.overridden(dict(parse_assignment(one) for one in assignments or []))


def print_json(value: Any) -> None:
    """Print anything as JSON."""
    sys.stdout.buffer.write(orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_INDENT_2) + b"\n")


def time_ms(text: str) -> int:
    """Return a time given as milliseconds or as ISO 8601 (UTC unless it says otherwise), in milliseconds."""
    if text.isdigit():
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(f"{text!r} is no time: give milliseconds or a date such as 2026-01-07T18:00:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def rows_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return rows as a table, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if isinstance(rows[0][name], int | float) else "left")
    for row in rows:
        table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


@app.command(name="parameters")
def parameters_command(file: ParameterFile = None, assignments: Set = None, as_json: Json = False) -> None:
    """List every parameter: value, default, origin.

    Example: [bold]run_flow.py parameters --set scoring.oon_factor=0.5[/bold]
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


@app.command()
def validate(log: Log, as_json: Json = False) -> None:
    """Report every bad line of a log: file, line, field and reason. Status 1 where there are any.

    Example: [bold]run_flow.py validate out/demo/log.jsonl.zst[/bold]
    """
    from infra.logs.validation import LogReport
    from infra.logs.validation import validate as bad_lines
    from infra.polls import latest_accepted_ms

    report = LogReport()
    with refusals():
        bad = []
        for one in bad_lines(log, latest_accepted_ms(), report):
            bad.append(one)
            if not as_json:
                console.print(f"{one.file}:{one.line} {one.path}: {one.reason}", markup=False, soft_wrap=True)
    if as_json:
        print_json({"report": report, "bad": bad})
    else:
        rows = [{"what": name, "lines": count} for name, count in sorted(report.kinds.items())]
        rows += [{"what": "bad", "lines": report.bad}, {"what": "late", "lines": report.late}]
        console.print(rows_table(f"{report.lines:,} lines", rows))
    raise typer.Exit(1 if report.bad else 0)


@app.command()
def replay(
    log: Log,
    out: Out = Path("out/replay"),
    checkpoint: Checkpoint = DEMO_CHECKPOINT,
    file: ParameterFile = None,
    assignments: Set = None,
    instances: Annotated[
        int, typer.Option("--instances", "-n", min=1, max=64, help="processes that share the viewers")
    ] = 1,
    verify: Annotated[
        bool, typer.Option(help="replay with 1, 2, 4 and N instances and compare the feeds byte by byte")
    ] = False,
    show: Annotated[int, typer.Option(help="feeds to print at the end")] = 0,
    as_json: Json = False,
) -> None:
    """Replay a log through the dataflow: ranked feeds, what was served, dead letters, and a table of what happened.

    Example: [bold]run_flow.py replay out/demo/log.jsonl.zst --show 2[/bold]
    """
    from flows import instances as many
    from flows.replay import Replay
    from flows.replay import replay as run_one

    with refusals():
        parameters = parameters_from(file, assignments)
        what = Replay(log, out, checkpoint, parameters)
        if verify:
            verified(many.verify(what, sorted({1, 2, 4, instances}), errors), as_json)
            return
        if instances > 1:
            summary = many.replay_instances(what, instances, errors)
        else:
            with bar(f"replaying {log.name}", quiet=as_json) as progress:
                summary = run_one(what, progress)
    if as_json:
        print_json(summary)
        return
    show_feeds(log, out, show)
    from flows.report import summary_picture

    console.print(summary_picture(summary))
    console.print(f"feeds, served posts and dead letters are in {out}/", style="dim")


def verified(digests: dict[int, str], as_json: bool) -> None:
    """Print what each number of instances answered; status 1 where they differ."""
    same = len(set(digests.values())) == 1
    if as_json:
        print_json({"identical": same, "sha256": {str(n): value for n, value in digests.items()}})
    else:
        console.print(rows_table("feeds, byte by byte", [{"instances": n, "sha256": v} for n, v in digests.items()]))
        console.print("[green]identical[/green]" if same else "[red]different[/red]")
    raise typer.Exit(0 if same else 1)


def show_feeds(log: Path, out: Path, count: int) -> None:
    """Print the last feeds of a replay that have posts, in full."""
    from flows.replay import FEEDS
    from flows.report import feed_picture, posts_of, related_posts
    from schemas.feeds import Feed

    lines = (out / FEEDS).read_bytes().splitlines()
    feeds = [feed for line in lines[-max(count * 20, 1) :] if (feed := msgspec.json.decode(line, type=Feed)).items]
    chosen = feeds[len(feeds) - min(count, len(feeds)) :]
    posts = posts_of(log, related_posts(chosen)) if chosen else {}
    for feed in chosen:
        console.print(feed_picture(feed, posts))


@app.command()
def feed(
    log: Log,
    user: Annotated[str, typer.Argument(help="the viewer's id")],
    at: Annotated[str, typer.Option(help="when: milliseconds or ISO 8601; the end of the log if left out")] = "",
    checkpoint: Checkpoint = DEMO_CHECKPOINT,
    file: ParameterFile = None,
    assignments: Set = None,
    explain: Annotated[bool, typer.Option(help="show how each score came about and what was dropped why")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="how many posts")] = None,
    as_json: Json = False,
) -> None:
    """Make one feed for a viewer at a time, from a log.

    Example: [bold]run_flow.py feed out/demo/log.jsonl.zst 17 --at 2026-01-07T18:00:00 --explain[/bold]
    """
    from flows.one_feed import one_feed
    from flows.report import feed_picture, posts_of, related_posts

    with refusals():
        when = time_ms(at) if at else None
        viewer = int(user) if user.isdigit() else user
        parameters = parameters_from(file, assignments)
        with bar(f"reading {log.name}", quiet=as_json) as progress:
            made = one_feed(log, checkpoint, parameters, viewer, when, explain or as_json, limit, progress)
    if as_json:
        print_json(made)
    else:
        console.print(feed_picture(made, posts_of(log, related_posts([made])), explain))


if __name__ == "__main__":
    app()
