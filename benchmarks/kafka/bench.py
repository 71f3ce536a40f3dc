"""What every case needs: the broker, the sizes of a run, and a job on a world of its own."""

import contextlib
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.kafka.figures import Latency, latency
from benchmarks.kafka.plans import Arrivals, Bulk, Plan, Told
from benchmarks.kafka.processes import Job, Metrics, Process, Start, generate, machine_busy_s
from benchmarks.kafka.worlds import POSTS_PER_CHUNK, Worlds, live_viewers
from infra.kafka import KafkaRefused
from infra.kafka.admin import create_topics
from infra.kafka.broker import start_broker
from infra.kafka.topics import Naming

Overrides = dict[str, bool | int | float | str]
IDLE_S: Final = 4.0
# Thunder's 1,200 and retrieval's 1,000, of which filters and duplicates leave more than 1,500.
RANKED_MAX: Final = 1_500
# The same where 200 are ranked: what is asked for is in the same proportion.
RANKED_FEW: Final[Overrides] = {"selection.candidates_max": 200, "thunder.posts_max": 200, "retrieval.posts_max": 150}
# Left out at the beginning of a run: caches of the processor, of LMDB and of librdkafka fill.
SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a run is."""

    posts: int = 1_000_000
    viewers: int = 100_000
    many_viewers: int = 1_000_000
    window_s: float = 15.0
    windows: int = 5
    scales: tuple[int, ...] = (10_000, 100_000, 1_000_000)


QUICK: Final = Sizes(100_000, 10_000, 100_000, 3.0, 4, (1_000, 10_000, 100_000))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table of reaches."""

    what: str
    measured: str
    reach: str
    reached: bool | None  # None where there is nothing to reach

    def row(self) -> dict[str, str]:
        """Return a row."""
        return {"what": self.what, "measured": self.measured, "reach": self.reach, "": _WORDS[self.reached]}


_WORDS: Final = {True: "reached", False: "MISSED", None: ""}


@dataclass(slots=True)
class Outcome:
    """What a case found: lines of the table of reaches, and tables with the details."""

    verdicts: list[Verdict] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add a row to a table of details."""
        self.tables.setdefault(table, []).append(row)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of the generator beside a job: what it told, the job's metrics around it, CPU seconds, wall seconds."""

    told: Told
    latency: Latency
    before: Metrics
    after: Metrics
    job_cpu_s: float
    busy_s: float
    wall_s: float
    lags: list[tuple[float, float]]  # seconds since it had settled, messages not read yet

    @property
    def feeds(self) -> int:
        """The feeds that came."""
        return int((self.told.ranked >= 0).sum())


class Session:
    """A job on a world of its own: its instances, and how to start them again."""

    def __init__(self, bench: "Bench", posts: int, viewers: int, commands: list[list[str]], pinned: bool) -> None:
        self.bench, self.posts, self.viewers = bench, posts, viewers
        self.prefix = commands[0][commands[0].index("--prefix") + 1]
        self._commands, self._pinned = commands, pinned
        self.jobs: list[Job] = []

    def start(self) -> Start:
        """Start the instances and wait until they are ready; return how long the last of them took."""
        self.jobs = []
        for instance, command in enumerate(self._commands):
            self.jobs.append(Job(command, self.bench.new_log("job"), instance if self._pinned else None))
        try:
            return [job.wait_until_ready() for job in self.jobs][-1]
        except BaseException:
            self.kill()
            raise

    @property
    def job(self) -> Job:
        """The first instance."""
        return self.jobs[0]

    def run(
        self,
        requests_hz: float,
        duration_s: float,
        parameters: Overrides | None = None,
        bulk: tuple[Bulk, ...] = (),
        effects: bool = False,
        pace: float = 0.0,
    ) -> Measured:
        """Let the generator send for so long, after it has settled, and measure. Times of `bulk` count from then."""
        bench = self.bench
        plan = Plan(
            bench.address,
            self.prefix,
            SETTLE_S + duration_s,
            requests_hz,
            live_viewers(self.viewers),
            self.viewers,
            self.posts,
            parameters or {},
            tuple(Bulk(one.rate_hz, SETTLE_S + one.from_s, SETTLE_S + one.to_s, one.posts_share) for one in bulk),
            bench.arrivals,
            effects,
            pace,
        )
        before, cpu_s, busy_s, start_s = self.job.metrics(), self.cpu_s(), machine_busy_s(), time.monotonic()
        with Lags(self.job) as lags:
            told = generate(plan)
        for job in self.jobs:
            job.check()
        return Measured(
            told,
            latency(told, SETTLE_S, SETTLE_S + duration_s, bench.sizes.windows),
            before,
            self.job.metrics(),
            self.cpu_s() - cpu_s,
            machine_busy_s() - busy_s,
            time.monotonic() - start_s,
            [(at_s - told.start_s - SETTLE_S, lag) for at_s, lag in lags.seen],
        )

    def cpu_s(self) -> float:
        """Return the CPU seconds of all instances so far."""
        return sum(job.cpu_s() for job in self.jobs)

    def idle_cores(self) -> float:
        """Return the cores that the instances take while nobody asks."""
        cpu_s = self.cpu_s()
        time.sleep(IDLE_S)
        return (self.cpu_s() - cpu_s) / IDLE_S

    def kill(self) -> None:
        """End the instances as a crash would."""
        for job in self.jobs:
            job.kill()

    def close(self) -> None:
        """Stop the instances."""
        for job in self.jobs:
            if job.runs():
                job.stop()


class Lags:
    """The messages that a job has not read yet, every second, while in the context."""

    def __init__(self, job: Job) -> None:
        self._job, self._ended = job, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: list[tuple[float, float]] = []  # Unix time, messages

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            with contextlib.suppress(OSError):
                metrics = self._job.metrics()
                lag = sum(value for name, value in metrics.items() if name.startswith("foryou_lag_messages{"))
                self.seen.append((time.time(), lag))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


class Bench:
    """The broker and the folder of a run, and the job that runs now."""

    def __init__(self, sizes: Sizes, checkpoint: Path, arrivals: Arrivals = "even") -> None:
        self.sizes, self.checkpoint, self.arrivals = sizes, checkpoint, arrivals
        self._session: Session | None = None
        self._numbers = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory(prefix="foryou-bench-")
        self.folder = Path(self._folder.name)
        self._broker, passed_over = start_broker(self.folder / "kafka")
        if not self._broker.real:
            self.close()
            raise KafkaRefused(f"A mock of Kafka is no broker to measure: {'; '.join(passed_over)}.")
        self.address, self.broker_kind = self._broker.address, self._broker.kind
        self.worlds = Worlds(self.folder, checkpoint)

    def topics(self) -> str:
        """Create topics that nobody used; return their prefix."""
        prefix = f"bench-{time.time_ns()}-{next(self._numbers)}"
        create_topics(self.address, Naming(prefix))
        time.sleep(SETTLE_S)  # the broker is still busy with them
        return prefix

    def new_log(self, name: str) -> Path:
        """Return the path of a log that is not there yet."""
        return self.folder / f"{name}-{next(self._numbers)}.log"

    def session(self, posts: int, viewers: int) -> Session:
        """Return the one instance on such a world; it goes on until another is asked for."""
        if self._session is None or (self._session.posts, self._session.viewers) != (posts, viewers):
            self.end_session()
            session = self.new_session(posts, viewers)
            session.start()
            self._session = session
        return self._session

    def end_session(self) -> None:
        """Stop the instance that `session` gave, and remove its state."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def new_session(
        self,
        posts: int,
        viewers: int,
        instances: int = 1,
        pinned: bool = False,
        posts_at_once: int = POSTS_PER_CHUNK,
        options: Sequence[str] = (),
    ) -> Session:
        """Make a world and topics for some instances; `pinned` gives each of them a core and one thread.

        `options` are more of the command line's.
        """
        state = self.worlds.state(posts, viewers, posts_at_once, instances)
        prefix = self.topics()
        commands = []
        for instance in range(instances):
            command = ["--kafka", self.address, "--prefix", prefix, "--state", str(state)]
            command += ["--instance", f"{instance}/{instances}", "--checkpoint", str(self.checkpoint), "--log", "json"]
            command += ["--set", f"selection.candidates_max={RANKED_MAX}", *options]
            commands.append([*command, *(["--threads", "1"] if pinned else [])])
        return Session(self, posts, viewers, commands, pinned)

    @contextmanager
    def echo(self, feed_bytes: int) -> Iterator[str]:
        """Run the echo on topics of its own; yield their prefix."""
        prefix = self.topics()
        log = self.new_log("echo")
        with Process(["-m", "benchmarks.kafka.echo", self.address, prefix, str(feed_bytes)], log) as echo:
            while "ready" not in log.read_text():
                echo.check()
                time.sleep(0.05)
            yield prefix
            echo.kill()

    def floor(self, requests_hz: float, duration_s: float, feed_bytes: int) -> Latency:
        """Return the latencies of a job that does nothing, at a rate."""
        end_s = SETTLE_S + duration_s
        with self.echo(feed_bytes) as prefix:
            told = generate(Plan(self.address, prefix, end_s, requests_hz, 1000, 1000, 1000, arrivals=self.arrivals))
        return latency(told, SETTLE_S, end_s, self.sizes.windows)

    def close(self) -> None:
        """End everything that runs and remove the folder."""
        try:
            self.end_session()
        finally:
            self._broker.close()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
