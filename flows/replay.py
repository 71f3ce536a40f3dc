"""Replay a recorded log through the For You dataflow, as one instance, and write down what happened."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec
from msgspec import Struct

from flows.for_you import Answer, ForYou, Sinks, for_you
from flows.intake import Intake
from infra.latency import Latencies
from infra.logs.reader import LogReader
from infra.polls import EachSink, PollSource, latest_accepted_ms, polls_of, run
from operators.clusters import Clusters, Compared, Shadows
from operators.decode import Ownership
from operators.experiments import NO_EXPERIMENTS, Experiments
from operators.parameters import Parameters
from operators.ranking import Ranker
from operators.state import MemoryState, live_posts
from operators.viewers.query import Request
from operators.visibility import DEFAULT, VisibilityRules
from schemas.codec import encode
from schemas.feeds import DeadLetter, Feed
from schemas.polls import RawPoll

FEEDS: Final = "feeds.jsonl"
SERVED: Final = "served.jsonl"
DEAD_LETTERS: Final = "dead-letters.jsonl"
SERVED_FEATURES: Final = "served-features.jsonl"
SHADOW_SCORES: Final = "shadow-scores.jsonl"
SUMMARY: Final = "summary.json"
# Files that there are only where parameters ask for what is in them.
OPTIONAL: Final = (SHADOW_SCORES, SERVED_FEATURES)
# Requests in work for each thread: one being ranked, one waiting so that the thread never idles.
IN_WORK_PER_THREAD: Final = 2


class StageTotal(Struct):
    """What a stage was given and kept over all feeds."""

    given: int = 0
    kept: int = 0


class Summary(Struct):
    """What happened in a replay."""

    events: int = 0
    feeds: int = 0
    items: int = 0
    in_network_items: int = 0
    live_posts: int = 0
    viewers: int = 0
    wall_s: float = 0.0
    model: str = ""
    dead_letters: dict[str, int] = {}
    degraded: dict[str, int] = {}
    sources: dict[str, int] = {}
    stages: dict[str, StageTotal] = {}
    latency: list[dict[str, float | str]] = []


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay, with what, and where to. Requests before `answer_from_ms` are passed over.

    `at_max` is the latest event time accepted, in milliseconds, the same for all instances. `clusters` are the
    checkpoints of further models by their names, `models` is where announced ones lie: beside the log unless told.
    """

    log: Path
    out: Path
    checkpoint: Path
    parameters: Parameters
    ownership: Ownership = field(default_factory=Ownership)
    threads: int = min(2, os.cpu_count() or 1)
    answer_from_ms: int = 0
    experiments: Experiments = NO_EXPERIMENTS
    visibility: VisibilityRules = DEFAULT
    at_max: int = field(default_factory=latest_accepted_ms)
    clusters: dict[str, Path] = field(default_factory=dict)
    models: Path | None = None


class Outputs:
    """Files of one instance's outputs, and the summary of them.

    With `offsets` each feed's line begins with the place of its request, for merging instances; see `merge`. `optional`
    are the files beside those that there always are: what shadow models say, and features of what was served.
    """

    def __init__(self, out: Path, offsets: bool, optional: Sequence[str] = ()) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out = out
        self._offsets = offsets
        self._names = (FEEDS, SERVED, DEAD_LETTERS, *optional)
        self._files: dict[str, BinaryIO] = {}
        self.summary = Summary()
        self._latencies = Latencies()
        self._counts: dict[str, Counter[str]] = {"dead_letters": Counter(), "degraded": Counter(), "sources": Counter()}

    def __enter__(self) -> Self:
        for name in OPTIONAL:
            (self._out / name).unlink(missing_ok=True)
        self._files = {name: (self._out / name).open("wb") for name in self._names}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        summary = self.summary
        summary.dead_letters = dict(self._counts["dead_letters"].most_common())
        summary.degraded = dict(self._counts["degraded"].most_common())
        summary.sources = dict(self._counts["sources"].most_common())
        summary.latency = self._latencies.table()
        (self._out / SUMMARY).write_bytes(msgspec.json.format(encode(summary), indent=2))

    def answers(self, answers: list[Answer]) -> None:
        """Write feeds and served posts."""
        for answer in answers:
            mark = self._mark(answer.request)
            self._files[FEEDS].write(mark + encode(answer.feed) + b"\n")
            if answer.served is not None:
                self._files[SERVED].write(mark + encode(answer.served) + b"\n")
            if answer.features is not None:
                self._files[SERVED_FEATURES].write(mark + encode(answer.features) + b"\n")
            self._sum_up(answer.feed)
            for stage, duration_s in answer.durations_s.items():
                self._latencies.observe(stage, duration_s)

    def shadow_scores(self, compared: list[Compared]) -> None:
        """Write what shadow models say; their time is the stage `shadow`."""
        for one in compared:
            self._files[SHADOW_SCORES].write(self._mark(one.request) + encode(one.scores) + b"\n")
            self._latencies.observe("shadow", one.duration_s)

    def _mark(self, request: Request) -> bytes:
        return b"%d\t" % request.origin.offset if self._offsets else b""

    def dead_letters(self, letters: list[DeadLetter]) -> None:
        """Write dead letters."""
        for letter in letters:
            self._files[DEAD_LETTERS].write(encode(letter) + b"\n")
            self._counts["dead_letters"][f"{letter.path}: {letter.reason}"] += 1

    def _sum_up(self, feed: Feed) -> None:
        summary = self.summary
        summary.feeds += 1
        summary.items += len(feed.items)
        summary.model = feed.model
        self._counts["degraded"].update(feed.degraded)
        for item in feed.items:
            summary.in_network_items += item.in_network
            self._counts["sources"][item.source] += 1
        for stage in feed.stages:
            total = summary.stages.setdefault(stage.stage, StageTotal())
            total.given += stage.given
            total.kept += stage.kept


Told = Callable[[int, int], None]


def replay(what: Replay, progress: Told | None = None, warming: Told | None = None) -> Summary:
    """Replay a log as one instance; return what happened, which also lies beside the feeds in `out`.

    `progress` is told the bytes read and the bytes of the log, `warming` the shapes compiled and all of them, before
    the first event is read. Raises LogRefused, CheckpointRefused, and ParameterRefused for a model nobody loaded.
    """
    reader = LogReader(what.log)
    clusters = Clusters.load(what.checkpoint, what.clusters)
    clusters.check(what.parameters)
    what.experiments.check(what.parameters, clusters.check)
    clusters.warm_up(what.parameters.selection.candidates_max, warming)
    several = len(clusters.names) > 1
    posts = live_posts(what.parameters, clusters.prod, interest_clusters=True)
    state = MemoryState(what.parameters, posts, what.visibility)
    shadows = Shadows() if several else None
    ranker = Ranker(what.threads, what.threads * IN_WORK_PER_THREAD, shadows)
    intake = Intake(
        state,
        what.parameters,
        what.ownership,
        what.answer_from_ms,
        experiments=what.experiments,
        check=clusters.check,
    )
    job = ForYou(intake, clusters, ranker, what.models or beside(what.log))
    wanted = (several, what.parameters.learning.features_enabled)
    optional = [name for name, is_wanted in zip(OPTIONAL, wanted, strict=True) if is_wanted]
    with Outputs(what.out, what.ownership.instances > 1, optional) as outputs:
        source = PollSource(_told(polls_of(reader, at_max=what.at_max), reader, progress), ranker.ready)
        # Every instance refuses the same lines; the first one writes them down.
        letters = outputs.dead_letters if what.ownership.instance == 0 else _ignore
        start_s = time.perf_counter()
        shadow_scores = EachSink(outputs.shadow_scores) if several else None
        run(for_you(job, source, Sinks(EachSink(outputs.answers), EachSink(letters), shadow_scores)))
        ranker.close()
        summary = outputs.summary
        summary.wall_s = time.perf_counter() - start_s
        summary.events = job.intake.events
        summary.live_posts = len(state.posts.table)
        summary.viewers = len(state.viewers)
    return summary


def beside(log: Path) -> Path:
    """Return the folder that a log is, or lies in."""
    return log if log.is_dir() else log.parent


def _ignore(_letters: list[DeadLetter]) -> None:
    return


def _told(polls: Iterator[RawPoll], reader: LogReader, progress: Told | None) -> Iterator[RawPoll]:
    for poll in polls:
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        yield poll


def merge(parts: list[Path], out: Path) -> None:
    """Merge the outputs of instances into one: feeds in the order of their requests, as one instance writes them."""
    out.mkdir(parents=True, exist_ok=True)
    optional = [name for name in OPTIONAL if (parts[0] / name).exists()]
    for name in (FEEDS, SERVED, *optional):
        lines = [line for part in parts for line in (part / name).read_bytes().splitlines(keepends=True)]
        lines.sort(key=lambda line: int(line[: line.index(b"\t")]))
        (out / name).write_bytes(b"".join(line[line.index(b"\t") + 1 :] for line in lines))
    (out / DEAD_LETTERS).write_bytes((parts[0] / DEAD_LETTERS).read_bytes())


def digest(out: Path) -> str:
    """Return the SHA-256 of a replay's feeds."""
    return hashlib.sha256((out / FEEDS).read_bytes()).hexdigest()


def merged_summary(parts: list[Path]) -> Summary:
    """Return the summary of instances taken together; latencies are those of the slowest instance by request p99."""
    summaries = [msgspec.json.decode((part / SUMMARY).read_bytes(), type=Summary) for part in parts]
    first = summaries[0]
    total = Summary(
        events=first.events, live_posts=first.live_posts, model=first.model, dead_letters=first.dead_letters
    )
    for one in summaries:
        total.feeds += one.feeds
        total.items += one.items
        total.in_network_items += one.in_network_items
        total.viewers += one.viewers
        total.wall_s = max(total.wall_s, one.wall_s)
        total.degraded = dict(Counter(total.degraded) + Counter(one.degraded))
        total.sources = dict(Counter(total.sources) + Counter(one.sources))
        for stage, counts in one.stages.items():
            stage_total = total.stages.setdefault(stage, StageTotal())
            stage_total.given += counts.given
            stage_total.kept += counts.kept
    total.latency = max((one.latency for one in summaries), key=_request_p99)
    return total


def _request_p99(latency: list[dict[str, float | str]]) -> float:
    return next((float(row["latency_ms_p99"]) for row in latency if row["stage"] == "request"), 0.0)
