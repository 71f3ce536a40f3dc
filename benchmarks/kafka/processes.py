"""The processes of a run: the job, the generator and the echo; their metrics and their CPU time."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import orjson

from benchmarks.kafka.plans import Plan, Told, read
from infra.kafka.kraft import free_ports

ROOT: Final = Path(__file__).parents[2]
READY_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 20.0
GENERATOR_TIMEOUT_S: Final = 120.0  # beyond its plan's duration: making a million messages takes 20 s
_TICKS_HZ: Final = os.sysconf("SC_CLK_TCK")

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from a start until the job was ready, and until each condition of readiness held."""

    ready_s: float
    conditions_s: dict[str, float]


class Process:
    """A process of ours in a session of its own; leaving the context ends it."""

    def __init__(self, command: Sequence[str], log: Path, cpu: int | None = None) -> None:
        self.log = log
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*pin, sys.executable, *command], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT
            )
        self.started_s = time.monotonic()

    def cpu_s(self) -> float:
        """Return the CPU time of the process and all its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_HZ

    def memory_bytes(self) -> int:
        """Return the resident memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def runs(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise RuntimeError with the last lines of its log if it has ended."""
        if not self.runs():
            tail = self.log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"a process ended with status {self._process.returncode}:\n{tail}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Send SIGTERM, wait, and kill what does not go."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.runs():
            self.stop()


class Job(Process):
    """One instance of `run_flow.py serve`."""

    def __init__(self, command: Sequence[str], log: Path, cpu: int | None = None) -> None:
        with free_ports(1) as (self.port,):
            pass
        super().__init__(["run_flow.py", "serve", "--port", str(self.port), *command], log, cpu)

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
        return body

    def wait_until_ready(self) -> Start:
        """Wait until /readyz is 200. Raises RuntimeError where the job ends or takes too long."""
        conditions_s: dict[str, float] = {}
        while (now_s := time.monotonic() - self.started_s) < READY_TIMEOUT_S:
            self.check()
            with contextlib.suppress(urllib.error.HTTPError, OSError):
                metrics = self.metrics()
                for name, value in metrics.items():
                    if name.startswith("foryou_ready{") and value:
                        conditions_s.setdefault(name.split('"')[1], now_s)
                self._get("/readyz")
                return Start(time.monotonic() - self.started_s, conditions_s)
            time.sleep(0.05)
        raise RuntimeError(f"the job was not ready within {READY_TIMEOUT_S:g} s")

    def metrics(self) -> Metrics:
        """Return every series of /metrics by its name and labels."""
        found = {}
        for line in self._get("/metrics").decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of its log about an event."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [orjson.loads(line) for line in lines if line.startswith("{") and f'"event":"{event}"' in line]

    def log_times_s(self) -> dict[str, float]:
        """Return for each event of its log the seconds since the log's first line, at the event's first time."""
        first, found = None, dict[str, float]()
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                entry: Mapping[str, Any] = orjson.loads(line)
                at = _unix_s(entry)
                first = at if first is None else first
                found.setdefault(str(entry["event"]), at - first)
        return found


def _unix_s(entry: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(str(entry["at"])).timestamp()


def machine_busy_s() -> float:
    """Return the CPU seconds that all processes of the machine took so far, all cores together."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = (
        int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS_HZ


def generate(plan: Plan) -> Told:
    """Run the generator, in a process of its own, and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        told, out = Path(folder) / "told.npz", Path(folder) / "out"
        written = Path(folder) / "plan.json"
        written.write_bytes(msgspec.json.encode(plan))
        with Process(["-m", "benchmarks.kafka.generator", str(written), str(told)], out) as process:
            end_s = time.monotonic() + plan.duration_s + GENERATOR_TIMEOUT_S
            while process.runs() and time.monotonic() < end_s:
                time.sleep(0.1)
            if not told.exists():
                raise RuntimeError(f"the generator ended with nothing:\n{out.read_text(errors='replace')[-2000:]}")
            return read(told)
