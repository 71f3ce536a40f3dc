"""The commands that make, bring and check recorded logs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from flows.options import Cluster, Json, Log, clusters_from, parameters_from
from flows.terminal import Refusal, bar, console, print_json, refusals, rows_table
from operators.parameters import DEFAULTS, parse_assignment

if TYPE_CHECKING:
    from flows.closed_loop.study import LoopRun
    from infra.world import WorldParameters


def simulate(
    out: Annotated[Path, typer.Argument(help="the log to write, its truth beside it; with --closed-loop a folder")],
    preset: Annotated[str, typer.Option(help="demo, small, large or before-demo")] = "",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="one parameter of the world, as people=1000; may be repeated"),
    ] = None,
    people: Annotated[int | None, typer.Option(help="how many people, as --set people=")] = None,
    days: Annotated[float | None, typer.Option(help="how many days, as --set days=")] = None,
    faults: Annotated[float, typer.Option(min=0, max=1, help="share of broken lines to put in")] = 0.0,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="people read the job's own feeds, and it learns from what they do")
    ] = False,
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", "-c", help="closed loop: the model to begin with; `untrained` has fresh weights"),
    ] = "untrained",
    model: Annotated[str, typer.Option(help="closed loop: the configuration of an untrained model")] = "affinities",
    job: Annotated[
        list[str] | None, typer.Option("--job", help="closed loop: one parameter of the job, as name=value; repeatable")
    ] = None,
    learns: Annotated[bool, typer.Option("--learn/--no-learn", help="closed loop: whether the model learns")] = True,
    learning: Annotated[
        list[str] | None, typer.Option("--learning", help="closed loop: one setting of learning, as name=value")
    ] = None,
    judge: Annotated[int, typer.Option(min=1, help="closed loop: judge every so many-th feed against the truth")] = 4,
    compares: Annotated[
        bool, typer.Option("--compare/--no-compare", help="closed loop: small worlds under changed parameters as well")
    ] = True,
    full: Annotated[bool, typer.Option("--full", help="closed loop: compare in larger worlds for six weeks")] = False,
    experiment: Annotated[
        Path | None,
        typer.Option(help="closed loop: a TOML file of one experiment; the loop ends at the first decision"),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="closed loop: what arms are compared by, an action or dwell_s")
    ] = "favorite",
    cluster: Cluster = None,
    kafka: Annotated[str, typer.Option(help="closed loop: the job that runs at this broker serves, as host:port")] = "",
    prefix: Annotated[str, typer.Option(help="with --kafka: what the names of all topics begin with, and a dot")] = "",
    as_json: Json = False,
) -> None:
    """Simulate a seeded social world and write its log, with the truth about everybody's taste beside it.

    Example: `run_flow.py simulate out/world/log.jsonl.zst --preset demo --set people=500 --set seed=7`

    With `--closed-loop` the feeds people read are the job's, models learn from what comes of them and take over while
    it runs, and a report with plots says what that does:
    `run_flow.py simulate --closed-loop out/loop --days 7 --people 100`
    """
    with refusals():
        sizes = {name: value for name, value in (("people", people), ("days", days)) if value is not None}
        world = _world(preset or ("loop" if closed_loop else "demo"), assignments, sizes)
        out.parent.mkdir(parents=True, exist_ok=True)
        if closed_loop:
            run = _loop_run(world, checkpoint, model, job, learning if learns else None, learns, judge)
            run = _with_arms(run, experiment, metric, clusters_from(cluster))
            _closed_loop(out, run, compares, full, kafka, prefix, as_json)
        else:
            _open_loop(out, world, faults, as_json)


def _world(preset: str, assignments: list[str] | None, sizes: dict[str, Any]) -> "WorldParameters":
    """Return the world asked for. Raises Refusal."""
    from infra.world import PRESETS

    if preset not in PRESETS:
        raise Refusal(f"no world is called {preset}: choose one of {', '.join(PRESETS)}")
    changes = dict(parse_assignment(one) for one in assignments or []) | sizes
    try:
        return msgspec.convert(msgspec.structs.asdict(PRESETS[preset]) | changes, type(PRESETS[preset]))
    except msgspec.ValidationError as error:
        raise Refusal(f"the world refuses a parameter: {error}") from None


def _open_loop(out: Path, world: "WorldParameters", faults: float, as_json: bool) -> None:
    from infra.world import inject_faults
    from infra.world import simulate as make

    with bar(f"simulating {world.people:,} people", as_json) as progress:
        summary = make(out, world, lambda share: progress(share, 1.0))
    broken = inject_faults(out, out, faults, world.seed) if faults else {}
    if as_json:
        print_json({"summary": summary, "faults": broken})
        return
    rows = [{"what": kind, "events": count} for kind, count in (summary.kinds | broken).items()]
    console.print(rows_table(f"{summary.events:,} events of {summary.people:,} people in {out}", rows))


def _loop_run(
    world: "WorldParameters",
    checkpoint: str,
    model: str,
    job: list[str] | None,
    learning: list[str] | None,
    learns: bool,
    judge: int,
) -> "LoopRun":
    """Return the closed loop asked for. Raises Refusal and ParameterRefused."""
    from flows.closed_loop.study import LEARNING, UNTRAINED, LoopRun
    from models.config import PRESETS

    settings = None
    if learns:
        changes = dict(parse_assignment(one) for one in learning or [])
        try:
            settings = msgspec.convert(msgspec.structs.asdict(LEARNING) | changes, type(LEARNING))
        except msgspec.ValidationError as error:
            raise Refusal(f"--learning: {error}") from None
    # As much of a viewer is kept as the model reads, unless more or less is asked for.
    kept = []
    if checkpoint == UNTRAINED and model in PRESETS:
        kept = [f"history.groups_max={max(DEFAULTS.history.groups_max, PRESETS[model].groups_read)}"]
    return LoopRun(world, parameters_from(None, kept + (job or [])), checkpoint, model, settings, judge)


def _with_arms(run: "LoopRun", experiment: Path | None, metric: str, clusters: dict[str, Path]) -> "LoopRun":
    """Return a closed loop with an experiment among its people, and with further models for its arms."""
    named = {name: str(path) for name, path in clusters.items()}
    return msgspec.structs.replace(run, experiment=str(experiment or ""), metric=metric, clusters=named)


def _closed_loop(out: Path, run: "LoopRun", compares: bool, full: bool, kafka: str, prefix: str, as_json: bool) -> None:
    from flows.closed_loop.command import REPORT, Wanted, study
    from flows.closed_loop.study import summary_rows
    from flows.experiments.commands import show_comparison
    from infra.kafka.inbox import Connection
    from infra.kafka.topics import Naming

    connection = Connection(kafka, Naming(prefix)) if kafka else None
    figures = study(Wanted(out, run, compares, full, connection), as_json)
    if as_json:
        print_json(figures)
        return
    console.print(
        rows_table(f"shares of the best possible, the last day; {out / REPORT} tells more", summary_rows(figures))
    )
    if figures[0].looks:
        last = figures[0].looks[-1]
        show_comparison(f"{run.metric} per feed by day {last.day:.2f}, look {len(figures[0].looks)}", last.comparison)


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
