"""The commands that train models and say how good they are."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from flows.options import Json, Log, ParameterFile, Set, checkpoint_path, parameters_from
from flows.terminal import Refusal, bar, console, errors, print_json, refusals, rows_table, time_ms


def examples(
    log: Log,
    out: Annotated[Path, typer.Argument(help="the folder to write")],
    until: Annotated[str, typer.Option(help="leave out what was served from this time on: ms or ISO 8601")] = "",
    posts: Annotated[int, typer.Option(min=2, max=256, help="posts of a request at most")] = 32,
    seed: Annotated[int, typer.Option(help="of sampled posts, where the log does not say what was shown")] = 0,
    co_likers: Annotated[
        bool, typer.Option("--co-likers", help="for models that read what co-likers say: ask them")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="examples a file at most")] = 4096,
    hourly: Annotated[bool, typer.Option("--hourly", help="begin a new file with each hour")] = False,
    file: ParameterFile = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Write the training examples of a log as Parquet files in order of time, with a manifest of what they hold.

    `run_flow.py train OUT` reads them in place of the log: the same losses, without following the log again.

    Example: `run_flow.py examples out/demo/log.jsonl.zst out/demo/examples --hourly`
    """
    from flows.training_sources import ExamplesRun, write_examples

    with refusals():
        until_ms = time_ms(until) if until else None
        parameters = parameters_from(file, assignments)
        run = ExamplesRun(log, out, parameters, until_ms, seed, posts, co_likers, rows, hourly)
        with bar(f"reading {log.name}", as_json) as reading:
            made = write_examples(run, reading)
    if as_json:
        print_json(made)
        return
    spans = [{"file": part.name, "examples": part.examples, "bytes": part.bytes} for part in made.parts]
    console.print(rows_table(f"{made.examples:,} examples in {out}", spans))


def train(
    log: Annotated[Path, typer.Argument(help="a log, or a folder of examples that `examples` wrote")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the checkpoint to write")] = Path("out/model.phoenix"),
    preset: Annotated[
        str,
        typer.Option(
            help="the model's size: demo, affinities (the same, counting what viewers did over days), ids (for logs"
            " without text), films (long histories, few posts) or standard"
        ),
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
    validate: Annotated[
        float, typer.Option(min=0, max=0.9, help="share of the time, the last, to validate with: the best pass is kept")
    ] = 0.0,
    semantic_ids: Annotated[
        Path | None, typer.Option("--semantic-ids", help="a checkpoint to learn a codebook of semantic IDs from")
    ] = None,
    semantic_levels: Annotated[int, typer.Option(min=1, max=6, help="semantic IDs of a post")] = 4,
    semantic_codes: Annotated[int, typer.Option(min=2, max=256, help="of a level: a power of two")] = 256,
    save_every: Annotated[float, typer.Option(min=0, help="minutes between two states of the run on disk")] = 5.0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that was stopped")] = False,
    file: ParameterFile = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Train Phoenix, ranker and retrieval, on what a log (or a folder of examples) says was served and what came of it.

    Losses are drawn beside the checkpoint (`.svg`). The run's state is kept there too: after Ctrl-C (status 130) or
    SIGTERM (143), the same command with `--resume` goes on as if nothing had happened. With `--validate .1` the last
    tenth of the time is held out, its losses are drawn too, and the model of the best pass is kept.

    Example: `run_flow.py train out/demo/log.jsonl.zst --out out/demo.phoenix --until 2026-01-07`
    """
    from flows.train import Stop, TrainingRun, TrainingStopped
    from flows.train import train as train_examples
    from flows.train_histories import train_histories
    from models.recipe import TrainingConfig

    stop = Stop()
    with refusals(), stop.listening():
        until_ms = time_ms(until) if until else None
        settings = TrainingConfig(learning_rate=learning_rate, table_rate=table_rate, negatives=negatives)
        run = TrainingRun(
            log, out, preset, parameters_from(file, assignments), until_ms, epochs, seed, step, posts,
            settings, decay, resume, save_every * 60.0, validate, semantic_ids, semantic_levels, semantic_codes,
        )  # fmt: skip
        try:
            with bar(f"reading {log.name}", as_json) as reading, bar("training", as_json) as training:
                run_training = train_histories if run.config.retrieval_causal else train_examples
                report = run_training(run, reading, training, stop)
        except TrainingStopped as stopped:
            errors.print(str(stopped), soft_wrap=True)
            raise typer.Exit(128 + stop.signal) from None
    if as_json:
        print_json(report)
        return
    facts = msgspec.structs.asdict(report)
    collisions, notes, validated = (facts.pop(name) for name in ("collisions", "notes", "validated"))
    rows = [{"what": name, "value": one} for name, one in facts.items()]
    console.print(rows_table(f"{out}, model {report.model}", rows))
    console.print(rows_table("ids that share table rows", [msgspec.structs.asdict(one) for one in collisions]))
    if validated:
        title = f"losses held out; the model is that of pass {report.best_epoch}"
        console.print(rows_table(title, [msgspec.structs.asdict(one) for one in validated]))
    for note in notes:
        errors.print(f"note: {note}", soft_wrap=True)


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
    from flows.ranking_quality import ranking_quality
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


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(examples)
    app.command()(train)
    app.command()(evaluate)
