"""Two real logs from import to result: `python -m benchmarks.real_logs twitter2010|douban`.

Imports the data, trains on the first part, replays, compares with what came next and with simple
recommenders, and writes docs/results/NAME.md. Logs and models stay in out/NAME, and what is there is not made again
unless --fresh is given.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from benchmarks.pages import markdown_table
from flows.evaluate import FeedQuality, feed_quality
from flows.replay import Replay, Summary, replay
from flows.terminal import bar, console, refusals, rows_table
from flows.train import TrainingRun, TrainingSummary, train
from infra.importers import run as run_import
from infra.logs.reader import LogReader
from infra.polls import latest_accepted_ms
from operators.parameters import DEFAULTS, Value
from schemas.codec import decode_batch
from schemas.events import Engagement

DAY_S: Final = 86_400
RESULTS: Final = Path(__file__).parent.parent / "docs" / "results"


@dataclass(frozen=True)
class Case:
    """One real log: how it is trained on, replayed and what it stands beside.

    `answers_all` replays every request; else those before the test part are passed over, all other events count.
    The page is called as the log where it has no other name.
    """

    title: str
    preset: str
    step: int
    posts: int
    epochs: int
    parameters: dict[str, Value]
    answers_all: bool
    references: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    page: str = ""


CASES: Final[dict[str, Case]] = {
    "twitter2010": Case(
        title="Twitter 2010: replayed feeds and the next reshare",
        page="twitter2010-replay",
        preset="ids",
        step=256,
        posts=16,
        epochs=1,
        parameters={"posts.retention_s": 12 * DAY_S, "filters.age_s": 12 * DAY_S, "retrieval.posts_max": 400},
        answers_all=True,
        references=(),
        notes=(
            "What the models can do with this log where every reshare is foretold is on twitter2010.md: here only what "
            "comes within an hour of a request is asked about, and feeds end at 35 posts.",
            "Retention and age limit are 12 days: half of the reshares come more than 15 h after the post, a tenth "
            "more than 123 h. There is no follow graph, so every post is out-of-network. A rank beyond the 35 posts of "
            "a feed counts as none. 400 posts are retrieved for each request.",
        ),
    ),
    "douban": Case(
        title="Douban: the next adoption, over a real follow graph",
        preset="ids",
        step=256,
        posts=16,
        epochs=1,
        parameters={"posts.retention_s": 60 * DAY_S, "filters.age_s": 60 * DAY_S, "retrieval.posts_max": 400},
        answers_all=False,
        references=(),
        notes=(
            "Time is compressed so that 2005 to 2011 takes 60 days; retention and age limit are 60 such days. 400 "
            "posts are retrieved for each request. Requests before the test part are not answered.",
        ),
    ),
}


def boundary_of(log: Path) -> int:
    """Return the time at which the last fifth of a log's engagements begins, in ms."""
    times = [
        event.at
        for batch in LogReader(log).batches()
        for event in decode_batch(batch.raw, latest_accepted_ms())
        if isinstance(event, Engagement)
    ]
    return sorted(times)[len(times) * 4 // 5]


def run_case(name: str, fresh: bool) -> str:
    """Run one real log from import to result; return the text of its page."""
    case, folder = CASES[name], Path("out") / name
    folder.mkdir(parents=True, exist_ok=True)
    log, model, parameters = folder / "log.jsonl.zst", folder / "model.phoenix", DEFAULTS.overridden(case.parameters)
    facts_file, report_file = folder / "facts.json", folder / "training.json"
    if fresh or not facts_file.exists():
        with bar(f"importing {name}") as progress:
            summary = run_import(name, [], log, progress=lambda share: progress(share, 1.0))
        facts_file.write_bytes(msgspec.json.encode(summary.facts))
    facts = msgspec.json.decode(facts_file.read_bytes())
    until_ms = int(facts.get("boundary_ms") or boundary_of(log))
    if fresh or not report_file.exists():
        run = TrainingRun(log, model, case.preset, parameters, until_ms, case.epochs, 0, case.step, case.posts)
        with bar("reading examples") as reading, bar("training") as training:
            report_file.write_bytes(msgspec.json.encode(train(run, reading, training)))
    trained = msgspec.json.decode(report_file.read_bytes(), type=TrainingSummary)
    lines = [f"# {case.title}", "", f"`python -m benchmarks.real_logs {name}`", ""]
    lines += [f"{note}\n" for note in case.notes]
    lines += _table("Training, on what came before the test part", [asdict(trained)])
    start_ms = 0 if case.answers_all else until_ms
    what = Replay(log, folder / "feeds", model, parameters, answer_from_ms=start_ms)
    with bar(f"replaying {name}") as progress:
        summary_of_replay = replay(what, progress)
    with bar("comparing with what came next") as progress:
        lines += _feeds(feed_quality(log, folder / "feeds", until_ms, progress), summary_of_replay)
    if case.references:
        header, *rows = case.references
        lines += ["## References", "", "From the data's own page, each by its own protocol.", ""]
        lines += markdown_table(header, rows)
    return "\n".join(lines)


def _feeds(quality: FeedQuality, summary: Summary) -> list[str]:
    counts = {
        "requests": quality.requests,
        "answered within an hour": quality.answered,
        "in-network share of feeds": quality.in_network_share,
        "in-network share of hits in the first 20": quality.in_network_share_of_hits,
    }
    whole = {
        "events": summary.events,
        "feeds": summary.feeds,
        "dead letters": sum(summary.dead_letters.values()),
        "seconds": summary.wall_s,
        "feeds a second": summary.feeds / summary.wall_s,
    }
    return [
        *_table("The next post, on the last fifth", [asdict(row) for row in quality.table]),
        *_table("Feeds of that part", [counts]),
        *_table("The whole replay", [whole]),
        *_table("Latency by stage", summary.latency),
    ]


def _table(title: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table in Markdown, and print it."""
    console.print(rows_table(title, rows))
    names = list(rows[0])
    cells = ([f"{value:,.4g}" if isinstance(value, float) else f"{value}" for value in row.values()] for row in rows)
    return [f"## {title}", "", *markdown_table([name.replace("_", " ") for name in names], cells)]


def main(arguments: list[str]) -> None:
    """Run the named cases, all without a name."""
    names = [name for name in arguments if not name.startswith("--")] or list(CASES)
    with refusals():
        for name in names:
            start = time.perf_counter()
            text = run_case(name, "--fresh" in arguments)
            RESULTS.mkdir(parents=True, exist_ok=True)
            page = f"{CASES[name].page or name}.md"
            (RESULTS / page).write_text(text)
            console.print(f"docs/results/{page}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
