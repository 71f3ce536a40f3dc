"""The commands that make, bring and check recorded logs."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from flows.options import Json, Log
from flows.terminal import Refusal, bar, console, print_json, refusals, rows_table
from operators.parameters import parse_assignment


def simulate(
    out: Annotated[Path, typer.Argument(help="the log to write; its truth goes beside it")],
    preset: Annotated[str, typer.Option(help="demo, small, large or before-demo")] = "demo",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="one parameter of the world, as people=1000; may be repeated"),
    ] = None,
    faults: Annotated[float, typer.Option(min=0, max=1, help="share of broken lines to put in")] = 0.0,
    as_json: Json = False,
) -> None:
    """Simulate a seeded social world and write its log, with the truth about everybody's taste beside it.

    Example: `run_flow.py simulate out/world/log.jsonl.zst --preset demo --set people=500 --set seed=7`
    """
    from infra.world import PRESETS, inject_faults
    from infra.world import simulate as make

    with refusals():
        if preset not in PRESETS:
            raise Refusal(f"no world is called {preset}: choose one of {', '.join(PRESETS)}")
        changes = dict(parse_assignment(one) for one in assignments or [])
        try:
            world = msgspec.convert(msgspec.structs.asdict(PRESETS[preset]) | changes, type(PRESETS[preset]))
        except msgspec.ValidationError as error:
            raise Refusal(f"the world refuses a parameter: {error}") from None
        out.parent.mkdir(parents=True, exist_ok=True)
        with bar(f"simulating {world.people:,} people", as_json) as progress:
            summary = make(out, world, lambda share: progress(share, 1.0))
        broken = inject_faults(out, out, faults, world.seed) if faults else {}
    if as_json:
        print_json({"summary": summary, "faults": broken})
        return
    rows = [{"what": kind, "events": count} for kind, count in (summary.kinds | broken).items()]
    console.print(rows_table(f"{summary.events:,} events of {summary.people:,} people in {out}", rows))


def import_command(
    name: Annotated[str, typer.Argument(help="kuairand, twitter2010, douban or movielens")],
    out: Annotated[Path, typer.Argument(help="the log to write")],
    sources: Annotated[
        list[Path] | None, typer.Option("--source", help="a file of the data; found in FORYOU_DATA if left out")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="one option of the importer, as name=value")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn recorded data of another platform into a log.

    Example: `run_flow.py import twitter2010 out/twitter2010/log.jsonl.zst`
    """
    from infra.importers import run as run_import

    with refusals():
        options = dict(parse_assignment(one) for one in assignments or [])
        out.parent.mkdir(parents=True, exist_ok=True)
        with bar(f"importing {name}", as_json) as progress:
            summary = run_import(name, sources or [], out, options, lambda share: progress(share, 1.0))
    if as_json:
        print_json(summary)
        return
    rows = [{"what": what, "value": str(value)} for what, value in (summary.kinds | summary.facts).items()]
    console.print(rows_table(f"{summary.events:,} events in {out}", rows))
    for note in summary.notes:
        console.print(f"[dim]{note}[/dim]")


def validate(log: Log, as_json: Json = False) -> None:
    """Report every bad line of a log: file, line, field and reason. Status 1 where there are any.

    Example: `run_flow.py validate out/demo/log.jsonl.zst`
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


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(simulate)
    app.command(name="import")(import_command)
    app.command()(validate)
