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

from flows import log_commands, model_commands, parameter_commands
from flows.experiments import commands as experiment_commands
from flows.learning import join_commands, learn_commands
from flows.options import (
    Checkpoint,
    Cluster,
    ExperimentFile,
    FeedCursor,
    FeedOption,
    InsertsOption,
    Json,
    Log,
    Models,
    Out,
    ParameterFile,
    PostsOption,
    Set,
    VisibilityFile,
    checkpoint_path,
    clusters_from,
    experiments_from,
    feed_name,
    inserts_from,
    parameters_from,
    visibility_from,
)
from flows.serving.commands import add_to
from flows.terminal import Refusal, bar, console, errors, print_json, refusals, rows_table, time_ms, viewer_id

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=__doc__,
)


log_commands.add_to(app)


@app.command()
def replay(
    log: Log,
    out: Out = Path("out/replay"),
    checkpoint: Checkpoint = "demo",
    file: ParameterFile = None,
    assignments: Set = None,
    experiments: ExperimentFile = None,
    visibility: VisibilityFile = None,
    cluster: Cluster = None,
    models: Models = None,
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
        what = Replay(
            log,
            out,
            checkpoint_path(checkpoint),
            parameters,
            answer_from_ms=start_ms,
            experiments=arms,
            visibility=visibility_from(visibility),
            clusters=clusters_from(cluster),
            models=models,
        )
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
    cluster: Cluster = None,
    models: Models = None,
    explain: Annotated[bool, typer.Option(help="show how each score came about and what was dropped why")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="how many posts")] = None,
    cursor: FeedCursor = "",
    visibility: VisibilityFile = None,
    which: FeedOption = "for_you",
    posts: PostsOption = None,
    inserts: InsertsOption = None,
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
        rules = visibility_from(visibility)
        with bar(f"reading {log.name}", quiet=as_json) as progress:
            made = one_feed(
                log,
                checkpoint_path(checkpoint),
                parameters,
                viewer,
                when,
                explain or as_json,
                limit,
                progress,
                rules,
                clusters_from(cluster),
                feed_name(which),
                tuple(viewer_id(post) for post in posts or ()),
                inserts_from(inserts),
                cursor,
                models,
            )
    if as_json:
        print_json(made)
    else:
        console.print(feed_picture(made, posts_of(log, related_posts([made])), explain))


model_commands.add_to(app)
learn_commands.add_to(app)
parameter_commands.add_to(app)
experiment_commands.add_to(app)
add_to(app)
join_commands.add_to(app)


@app.command()
def bench(
    only: Annotated[
        list[str] | None, typer.Argument(help="some of: ranker, thunder, index, pipeline, dpp, ingest, memory, stores")
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
