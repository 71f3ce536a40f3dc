"""The command line of foryou-stream: simulate, import, validate, train, replay, look, evaluate, measure.

Every command ends with status 0, or with 2 and one sentence that says what is wrong and the way out.
"""

import os
from pathlib import Path
from typing import Annotated

# Before NumPy is loaded. Its BLAS gives even small products to a second thread and waits for it while the cores have
# other work: choosing 50 posts of 150 took 17 ms so on two busy cores, and 0.6 ms in one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import typer

from flows import parameter_commands
from flows.options import (
    Checkpoint,
    ExperimentFile,
    Json,
    Log,
    Out,
    ParameterFile,
    Set,
    checkpoint_path,
    experiments_from,
    parameters_from,
)
from flows.serving.commands import add_to
from flows.terminal import Refusal, bar, console, errors, print_json, refusals, rows_table, time_ms, viewer_id
from operators.parameters import parse_assignment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=__doc__,
)


@app.command()
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


@app.command(name="import")
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


@app.command()
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


@app.command()
def replay(
    log: Log,
    out: Out = Path("out/replay"),
    checkpoint: Checkpoint = "demo",
    file: ParameterFile = None,
    assignments: Set = None,
    experiments: ExperimentFile = None,
    instances: Annotated[
        int, typer.Option("--instances", "-n", min=1, max=64, help="processes that share the viewers")
    ] = 1,
    verify: Annotated[
        bool, typer.Option(help="replay with 1, 2, 4 and N instances and compare the feeds byte by byte")
    ] = False,
    start: Annotated[str, typer.Option("--from", help="answer requests from this time on only: ms or ISO 8601")] = "",
    show: Annotated[int, typer.Option(help="feeds to print at the end")] = 0,
    as_json: Json = False,
) -> None:
    """Replay a log through the dataflow: ranked feeds, what was served, dead letters, and a table of what happened.

    Example: `run_flow.py replay out/demo/log.jsonl.zst --show 2`
    """
    from flows import instances as many
    from flows.replay import Replay
    from flows.replay import replay as run_one

    with refusals():
        parameters = parameters_from(file, assignments)
        start_ms = time_ms(start) if start else 0
        arms = experiments_from(experiments)
        what = Replay(log, out, checkpoint_path(checkpoint), parameters, answer_from_ms=start_ms, experiments=arms)
        if verify:
            verified(many.verify(what, sorted({1, 2, 4, instances}), errors), as_json)
            return
        if instances > 1:
            summary = many.replay_instances(what, instances, errors)
        else:
            with bar("compiling", as_json) as warming, bar(f"replaying {log.name}", as_json) as progress:
                summary = run_one(what, progress, warming)
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
    checkpoint: Checkpoint = "demo",
    file: ParameterFile = None,
    assignments: Set = None,
    explain: Annotated[bool, typer.Option(help="show how each score came about and what was dropped why")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="how many posts")] = None,
    as_json: Json = False,
) -> None:
    """Make one feed for a viewer at a time, from a log.

    Example: `run_flow.py feed out/demo/log.jsonl.zst 17 --at 2026-01-07T18:00:00 --explain`
    """
    from flows.one_feed import one_feed
    from flows.report import feed_picture, posts_of, related_posts

    with refusals():
        when = time_ms(at) if at else None
        viewer = viewer_id(user)
        parameters = parameters_from(file, assignments)
        with bar(f"reading {log.name}", quiet=as_json) as progress:
            made = one_feed(
                log, checkpoint_path(checkpoint), parameters, viewer, when, explain or as_json, limit, progress
            )
    if as_json:
        print_json(made)
    else:
        console.print(feed_picture(made, posts_of(log, related_posts([made])), explain))


@app.command()
def train(
    log: Log,
    out: Annotated[Path, typer.Option("--out", "-o", help="the checkpoint to write")] = Path("out/model.phoenix"),
    preset: Annotated[
        str, typer.Option(help="the model's size: demo, ids (for logs without text) or standard")
    ] = "demo",
    until: Annotated[str, typer.Option(help="leave out what was served from this time on: ms or ISO 8601")] = "",
    epochs: Annotated[int, typer.Option(min=1, max=100, help="passes over the examples")] = 3,
    seed: Annotated[int, typer.Option(help="of fresh weights and sampled posts")] = 0,
    step: Annotated[int, typer.Option(min=1, max=4096, help="requests in a step")] = 64,
    posts: Annotated[int, typer.Option(min=2, max=256, help="posts of a request at most")] = 32,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="of all but the tables")] = 4e-3,
    table_rate: Annotated[float | None, typer.Option(min=1e-9, help="of the hashed tables, if it differs")] = None,
    negatives: Annotated[int, typer.Option(min=0, max=1024, help="posts of other viewers lent to each request")] = 8,
    decay: Annotated[bool, typer.Option("--decay", help="let the rates fall to nothing along a cosine")] = False,
    save_every: Annotated[float, typer.Option(min=0, help="minutes between two states of the run on disk")] = 5.0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that was stopped")] = False,
    file: ParameterFile = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Train Phoenix, ranker and retrieval, on what a log says was served and what came of it.

    Losses are drawn beside the checkpoint (`.svg`). The run's state is kept there too: after Ctrl-C (status 130) or
    SIGTERM (143), the same command with `--resume` goes on as if nothing had happened.

    Example: `run_flow.py train out/demo/log.jsonl.zst --out out/demo.phoenix --until 2026-01-07`
    """
    from flows.train import Stop, TrainingRun, TrainingStopped
    from flows.train import train as run_training
    from models.recipe import TrainingConfig

    stop = Stop()
    with refusals(), stop.listening():
        until_ms = time_ms(until) if until else None
        settings = TrainingConfig(learning_rate=learning_rate, table_rate=table_rate, negatives=negatives)
        run = TrainingRun(
            log, out, preset, parameters_from(file, assignments), until_ms, epochs, seed, step, posts,
            settings, decay, resume, save_every * 60.0,
        )  # fmt: skip
        try:
            with bar(f"reading {log.name}", as_json) as reading, bar("training", as_json) as training:
                report = run_training(run, reading, training, stop)
        except TrainingStopped as stopped:
            errors.print(str(stopped), soft_wrap=True)
            raise typer.Exit(128 + stop.signal) from None
    if as_json:
        print_json(report)
        return
    facts = msgspec.structs.asdict(report)
    collisions, notes = facts.pop("collisions"), facts.pop("notes")
    rows = [{"what": name, "value": one} for name, one in facts.items()]
    console.print(rows_table(f"{out}, model {report.model}", rows))
    console.print(rows_table("ids that share table rows", [msgspec.structs.asdict(one) for one in collisions]))
    for note in notes:
        errors.print(f"note: {note}", soft_wrap=True)


@app.command()
def evaluate(
    log: Log,
    feeds: Annotated[
        Path | None, typer.Option(help="the folder of a replay: compare its feeds with what came next")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", "-c", help="rank what the log says was served")
    ] = None,
    after: Annotated[
        str, typer.Option(help="count only what was asked or served from this time on: ms or ISO 8601")
    ] = "",
    file: ParameterFile = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Measure feeds (--feeds) by what their viewers did next, and a model (--checkpoint) on what was really served.

    Beside the feeds stand popularity and co-engagement on the same requests; with a simulated world's truth beside the
    log, the share of the best possible utility as well.

    Example: `run_flow.py evaluate out/demo/log.jsonl.zst --feeds out/demo/feeds --checkpoint demo --after 2026-01-07`
    """
    from flows.evaluate import feed_quality
    from flows.train import ranking_quality
    from flows.world_quality import world_quality
    from infra.world import truth_path

    results: dict[str, object] = {}
    with refusals():
        if feeds is None and checkpoint is None:
            raise Refusal("nothing to evaluate: give --feeds FOLDER, --checkpoint NAME or both")
        after_ms = time_ms(after) if after else 0
        parameters = parameters_from(file, assignments)
        if feeds is not None:
            with bar("comparing feeds with what came next", as_json) as progress:
                results["feeds"] = feed_quality(log, feeds, after_ms, progress)
            if truth_path(log).exists():
                results["world"] = world_quality(log, feeds, after_ms)
        if checkpoint is not None:
            with bar("ranking what was served", as_json) as progress:
                results["ranking"] = ranking_quality(log, checkpoint_path(checkpoint), parameters, after_ms, progress)
    if as_json:
        print_json(results)
        return
    for what, value in results.items():
        rows = getattr(value, "table", None)
        facts = {name: one for name, one in msgspec.structs.asdict(value).items() if name != "table"}  # type: ignore[arg-type]
        if rows:
            console.print(rows_table(what, [msgspec.structs.asdict(row) for row in rows]))
        console.print(rows_table("", [{"what": name, "value": one} for name, one in facts.items()]))


parameter_commands.add_to(app)
add_to(app)


@app.command()
def bench(
    only: Annotated[
        list[str] | None, typer.Argument(help="some of: ranker, thunder, index, pipeline, ingest, memory, stores")
    ] = None,
    quick: Annotated[bool, typer.Option(help="smaller sets, about a minute")] = False,
    as_json: Json = False,
) -> None:
    """Measure speed and memory: each table with its peers and limits in the same run.

    Example: `run_flow.py bench thunder index --quick`
    """
    from benchmarks import SUITES

    with refusals():
        unknown = set(only or ()) - SUITES.keys()
        if unknown:
            raise Refusal(f"no benchmark is called {', '.join(sorted(unknown))}: choose from {', '.join(SUITES)}")
    results = {}
    for name, suite in SUITES.items():
        if only and name not in only:
            continue
        with errors.status(f"measuring {name}"):
            results[name] = suite(quick)
        if not as_json:
            console.print(rows_table(name, results[name]))
    if as_json:
        print_json(results)


if __name__ == "__main__":
    app()
