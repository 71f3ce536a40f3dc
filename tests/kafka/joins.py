"""The join as a process of its own, and what it should make of the messages that are on its topics."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from flows.learning.examples_flow import decode
from flows.learning.joining import Joining
from infra.kafka.inbox import WITH_HEADERS
from infra.kafka.read_back import read_back
from schemas.codec import encode
from schemas.learning import ServedFeatures
from schemas.polls import RawPoll
from tests.kafka.cluster import PATIENCE_S, Cluster, wait_until
from tests.kafka.jobs import RUN_FLOW, ask

# What an output is about, and its bytes.
Made = dict[tuple[int, int], bytes]


class JoinProcess:
    """`run_flow.py join-examples` on a state folder; killed and started again."""

    def __init__(self, cluster: Cluster, state: Path, inactivity_s: int, late_s: int, instance: str = "0/1") -> None:
        connection = cluster.connection
        self._command = [
            sys.executable, str(RUN_FLOW), "join-examples", "--kafka", connection.address,
            "--prefix", connection.naming.prefix, "--state", str(state), "--instance", instance, "--every", "0.2",
            "--set", f"learning.inactivity_s={inactivity_s}", "--set", f"learning.late_s={late_s}",
            "--log", "json", "--port", "0",
        ]  # fmt: skip
        self._log = state.parent / f"{state.name}-{instance.replace('/', '-of-')}.log"
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log)

    @property
    def runs(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def until_begun(self) -> None:
        """Wait until it reads; fails when it ends before."""

        def begun() -> bool:
            said = self._log.read_text(errors="replace")
            assert self.runs, f"it ended with status {self._process.returncode}: {said}"
            return '"beginning"' in said

        wait_until(begun, "it never begins")

    def ask(self, path: str) -> str:
        """Return what its operations server answers. Raises HTTPError for another status than 200."""
        return ask(self._log.read_text(errors="replace"), path)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> dict[str, int]:
        """Send SIGTERM; return what it says came of all that it took since its start."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(PATIENCE_S)
        said = self._log.read_text(errors="replace")
        assert status == 0, f"it ended with status {status}: {said}"
        lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return next(line for line in lines if line.get("event") == "stopped")


def expected(cluster: Cluster, inactivity_s: int, late_s: int) -> tuple[Made, Made]:
    """Return the examples and late engagements that follow from all that is on the topics, in one go, in memory."""
    places = {(topic, one): 0 for topic in ("served-features", "engagements") for one in range(cluster.partitions)}
    examples, late = {}, {}
    parts = [Joining(inactivity_s, late_s) for _ in range(cluster.partitions)]
    for (topic, partition), message in read_back(cluster.connection, places, {}):
        headers = {0: message.headers() or ()} if topic in WITH_HEADERS else {}
        offset, published_ms = int(message.offset() or 0), message.timestamp()[1]
        poll = RawPoll(
            [message.value() or b""], [topic], [partition], [offset], 0.0, 0,
            keys=[message.key()], published_ms=[published_ms], headers=headers,  # type: ignore[arg-type]
        )  # fmt: skip
        taken = decode(poll)
        for _, _, at_ms, asked, features in taken.features:
            if isinstance(features, ServedFeatures):
                parts[partition].put_features(features, at_ms, offset, asked)
        for _, _, at_ms, engagement in taken.engagements:
            parts[partition].put_engagement(engagement, at_ms, offset)
    for partition, part in enumerate(parts):
        joined = part.advance(2**62)
        examples |= {(partition, offset): encode(one) for offset, one in joined.examples}
        late |= {(partition, offset): encode(one) for offset, one in joined.late}
    return examples, late


def made(cluster: Cluster, topic: str) -> Made:
    """Return what the join has sent to a topic, by what it is about; fails where something came twice."""
    messages = cluster.read(topic)
    found = {(one.partition, one.origin.offset): one.value for one in messages}
    assert len(found) == len(messages), f"something came twice on {topic}"
    return found
