"""The job as a process of its own, and the state it leaves."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flows.serving.durable import FORMAT_VERSION, DurableState, posts_folder, viewer_partitions, viewers_folder
from flows.serving.positions import Positions
from infra.kafka.inbox import Place
from infra.stores import PartitionStore
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from operators.viewers.facts import decode_viewer
from operators.viewers.sequences import Groups
from operators.viewers.tallies import NO_TALLY, TALLY
from tests.kafka.cluster import PATIENCE_S, Cluster, wait_until

RUN_FLOW: Final = Path(__file__).resolve().parents[2] / "run_flow.py"
# Few shapes to compile, and no more posts than the tests have.
SMALL: Final = ("--set", "selection.candidates_max=64", "--threads", "1")


class Job:
    """`run_flow.py serve` on a state folder; started, stopped, killed and started again."""

    def __init__(
        self, cluster: Cluster, state: Path, checkpoint: Path, *options: str, under: Sequence[str] = ()
    ) -> None:
        """Start it; `under` is a command that runs it, such as one that sets limits first."""
        self.state = state
        naming = cluster.connection.naming
        self._command = [
            sys.executable, str(RUN_FLOW), "serve", "--kafka", cluster.connection.address, "--prefix", naming.prefix,
            "--state", str(state), "--checkpoint", str(checkpoint), "--port", "0", "--log", "json", *SMALL, *options,
        ]  # fmt: skip
        state.mkdir(parents=True, exist_ok=True)
        self._log = state.parent / f"{state.name}-{'-'.join(options).replace('/', '-of-')[:40]}.log"
        self.start(under)

    def start(self, under: Sequence[str] = ()) -> None:
        """Start it (again)."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*under, *self._command], stderr=log, stdout=log)

    def said(self) -> str:
        """Return what it wrote since its start."""
        return self._log.read_text(errors="replace")

    def logged(self, event: str) -> dict[str, object] | None:
        """Return the first log line about an event since its start."""
        return next(iter(self.all_logged(event)), None)

    def all_logged(self, event: str) -> list[dict[str, object]]:
        """Return the log lines about an event since its start."""
        lines = (json.loads(line) for line in self.said().splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if line.get("event") == event]

    @property
    def runs(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def until_logged(self, event: str) -> None:
        """Wait until it has said something; fails when it ends before."""
        wait_until(lambda: self.logged(event) is not None or not self.runs, f"it never logs {event}: {self.said()}")
        assert self.logged(event) is not None, f"it ended with status {self._process.returncode}: {self.said()}"

    def ready(self) -> "Job":
        """Wait until /readyz says so."""
        self.until_logged("operations")

        def is_ready() -> bool:
            assert self.runs, f"it ended with status {self._process.returncode}: {self.said()}"
            try:
                self.ask("/readyz")
            except urllib.error.HTTPError as error:
                error.close()
                return False
            except OSError:  # it ended while it was asked: the next look says how
                return False
            return True

        wait_until(is_ready, "it is never ready")
        return self

    def ask(self, path: str) -> str:
        """Return what its operations server answers."""
        return ask(self.said(), path)

    def metric(self, name_and_labels: str) -> float:
        """Return one sample of its metrics, 0 where there is none; labels as in the exposition."""
        return sample(self.ask("/metrics"), name_and_labels)

    def stop(self) -> float:
        """Send SIGTERM; return the seconds it took to end with status 0."""
        start_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        status = self.ended()
        assert status == 0, f"it ended with status {status}: {self.said()}"
        return time.monotonic() - start_s

    def ended(self) -> int:
        """Wait for its end; return its status."""
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def nudge(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)


def ask(said: str, path: str) -> str:
    """Return what a process answers on the port that its log tells. Raises HTTPError for another status than 200."""
    lines = (json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}"))
    port = next(line["port"] for line in lines if line.get("event") == "operations")
    with urllib.request.urlopen(f"http://localhost:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def sample(exposition: str, name_and_labels: str) -> float:
    """Return one sample of metrics, 0 where there is none; labels as in the exposition."""
    for line in exposition.splitlines():
        name, _, value = line.rpartition(" ")
        if name == name_and_labels:
            return float(value)
    return 0.0


def taken_in(state: Path, instance: int = 0) -> dict[Place, int]:
    """Return how far a state folder is by its last commits: the next offset of each input partition."""
    found: dict[Place, int] = {}
    folders = [viewers_folder(state, partition) for partition in viewer_partitions(state)]
    for folder in (*folders, posts_folder(state, instance)):
        store = PartitionStore.open(folder, FORMAT_VERSION, read_only=True)
        for topic, offsets in Positions.decoded(store.meta).inputs.items():
            for partition, offset in offsets.items():
                found[topic, partition] = min(offset, found.get((topic, partition), offset))
        store.close()
    return found


def until_taken_in(cluster: Cluster, state: Path, instance: int = 0) -> None:
    """Wait until a job has committed all that is on its inputs."""
    ends = {place: end for place, end in cluster.ends().items() if end}
    wait_until(lambda: ends.items() <= taken_in(state, instance).items(), "the job does not come to the end")


def _tally(groups: Groups) -> tuple[list[int], list[tuple[int, int, int]]]:
    row = np.frombuffer(groups.tally or NO_TALLY, TALLY)[0]
    return row["counts"].tolist(), sorted(
        zip(*(row[one].tolist() for one in ("at_s", "request", "posts")), strict=True)
    )


def viewers_in(state: Path) -> dict[int, dict[str, object]]:
    """Return all that the stores in a folder hold of each viewer, in forms that can be compared."""
    found: dict[int, dict[str, object]] = {}
    for partition in viewer_partitions(state):
        store = PartitionStore.open(viewers_folder(state, partition), FORMAT_VERSION, read_only=True)
        try:
            for key, raw in store.items():
                groups, facts = decode_viewer(raw)
                relations = facts.relations
                found[key] = {
                    "partition": partition,
                    "count": groups.count,
                    "groups": [row.tobytes() for row in groups.rows],
                    "followed": set(relations.followed.tolist()),
                    "followed_by": set(relations.followed_by.tolist()),
                    "blocked": set(relations.blocked.tolist()),
                    "blocked_by": set(relations.blocked_by.tolist()),
                    "muted": set(relations.muted.tolist()),
                    "keywords": set(relations.keywords),
                    "followers": relations.followers,
                    "seen": set(facts.seen.tolist()),
                    "tally": _tally(groups),
                    "sessions": facts.sessions,
                    "served": set(zip(facts.served_ms.tolist(), facts.served.tolist(), strict=True)),
                }
        finally:
            store.close()
    return found


def posts_in(state: Path, checkpoint: Path, instance: int = 0) -> dict[int, tuple[object, ...]]:
    """Return the live posts that come back from a store, by key; rows and labels' numbers are left out.

    Posts of different authors are taken in in any order, and those two follow from it.
    """
    durable = DurableState(state, (), instance, DEFAULTS, Phoenix.load(checkpoint))
    try:
        durable.load_posts(lambda _done, _of: None)
        table = durable.posts.table
        posts = table.gather(np.arange(table.base, table.end))
        columns = (posts.author, posts.created_ms, posts.flags, posts.reply_to, posts.repost_of, posts.video_ms)
        rows = zip(*(column.tolist() for column in columns), posts.terms.tolist(), strict=True)
        return dict(zip(posts.key.tolist(), rows, strict=True))
    finally:
        durable.close()
