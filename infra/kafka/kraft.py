"""Apache Kafka as a process of this machine: its artefacts from Maven Central, its storage, its start and its end."""

import fcntl
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.kafka import KafkaRefused

POM: Final = Path(__file__).with_name("pom.xml")
LOG4J: Final = Path(__file__).with_name("log4j2.properties")
CACHE: Final = (
    "FORYOU_KAFKA_CACHE"  # environment: where Kafka's artefacts are kept, ~/.cache/foryou-stream unless given
)
JAVA_MIN: Final = 17  # what Kafka 4 asks of a broker
HEAP: Final = "-Xmx512m"  # of one node with small topics; Kafka's own scripts give 1 GB
DOWNLOAD_TIMEOUT_S: Final = 300  # 44 MB
READY_TIMEOUT_S: Final = 60  # measured: 2.5 s on two idle cores
STOP_TIMEOUT_S: Final = 20  # measured: 0.3 s
# One cluster, one id: nothing but this folder's own files ever compares it.
CLUSTER_ID: Final = "Zm9yeW91LXN0cmVhbS0xMg"

# One node that is broker and controller at once. What Kafka replicates three times by default has one home here.
SETTINGS: Final[dict[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",  # nobody else will join
    # After a kill the node is let in again once its last session is over: 9 s by default, of which a start waits all.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",  # a mistyped name is an error, not a topic
    # 10 MiB are mapped for each index of each partition by default; hundreds of small partitions need none of it.
    "log.index.size.max.bytes": "1048576",
}


def kafka_version() -> str:
    """Return the version of Kafka that pom.xml pins."""
    version = ElementTree.parse(POM).find(".//{*}kafka.version")
    assert version is not None
    assert version.text
    return version.text


def artefacts() -> Path:
    """Return the folder with Kafka's jars; the first call downloads them, about 44 MB.

    Several processes may ask at once: one downloads, the others wait. Raises KafkaRefused where Java or Maven is
    missing or too old, or where Maven can't get the artefacts.
    """
    java()
    home = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "foryou-stream")
    # The pins' own hash in the name: another log4j is another folder, as another Kafka is.
    folder = home / f"kafka-{kafka_version()}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with (home / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=home) as unfinished:
                _download(Path(unfinished) / "jars")
                # A folder of the final name is complete: it appears in one step.
                (Path(unfinished) / "jars").rename(folder)
    return folder


def _download(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaRefused("Apache Kafka's artefacts need Maven: no mvn on the path.")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(
            [maven, "--quiet", "--batch-mode", f"--file={POM}", *goal],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaRefused(f"Maven did not get Apache Kafka's artefacts within {DOWNLOAD_TIMEOUT_S} s.") from None
    if done.returncode or not list(folder.glob("kafka_*.jar")):
        said = next((line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line), "it says nothing")
        raise KafkaRefused(f"Maven can't get Apache Kafka's artefacts: {said.strip()}")


def java() -> str:
    """Return the path of a Java that can run Kafka, JAVA_HOME's first; raises KafkaRefused where there is none."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=f"{home}/bin") if home else None
    path = path or shutil.which("java")
    if path is None:
        raise KafkaRefused(f"Apache Kafka needs Java {JAVA_MIN} or later: no java on the path.")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_MIN:
        raise KafkaRefused(f"Apache Kafka needs Java {JAVA_MIN} or later: {path} says {said.splitlines()[:1]}.")
    return path


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Yield ports that nobody listens on; they are held till the end, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until_ready(address: str, timeout_s: float) -> None:
    """Wait for a broker to answer with its metadata; raises KafkaRefused after `timeout_s` seconds."""
    admin = AdminClient(
        {"bootstrap.servers": address, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "log_level": 0}
    )
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if admin.list_topics(timeout=min(1.0, timeout_s)).brokers:
                return
        except KafkaException:
            time.sleep(0.02)
    raise KafkaRefused(
        f"no Kafka broker answers at {address} within {timeout_s:g} s; is it running, is the port right?"
    )


class KafkaProcess:
    """One Kafka node on 127.0.0.1 with its data, settings and log in a folder. Its port outlives `stop` and `kill`."""

    # The broker dies with whoever started it, however that ends: a shell waits for the end of a pipe we hold.
    _TIED = 'exec 3<&0; (read -r _ <&3; kill -9 $$) 2>/dev/null & exec "$@" </dev/null 3<&-'

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, port: int = 0) -> None:
        """Prepare a node, `settings` over SETTINGS, on `port` or any free one; KafkaRefused as `artefacts` raises."""
        self._classpath = str(artefacts() / "*")
        self._java = java()
        self._process: subprocess.Popen[bytes] | None = None
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "kafka.log"
        self._data = folder / "data"
        self._properties = folder / "server.properties"
        with free_ports(2) as (free, controller):
            self.address = f"127.0.0.1:{port or free}"
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": str(self._data),
        }
        lines = (f"{name}={value}\n" for name, value in (SETTINGS | own | dict(settings or {})).items())
        self._properties.write_text("".join(lines))

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, on what data there is, and wait till clients are answered. Raises KafkaRefused with the log's end."""
        if self.running:
            return
        if not (self._data / "meta.properties").exists():
            self._format()
        options = [HEAP, "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={LOG4J}", "-cp", self._classpath]
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                ["sh", "-c", self._TIED, "kafka", self._java, *options, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for those who started it; they stop it in their own time
            )
        until = time.monotonic() + READY_TIMEOUT_S
        while process.poll() is None and time.monotonic() < until:
            try:
                return wait_until_ready(self.address, timeout_s=1.0)
            except KafkaRefused:
                continue
        self.kill()
        raise KafkaRefused(f"Apache Kafka does not start; its log ({self.log}) ends: {self._log_end()}")

    def stop(self) -> None:
        """Stop in good order, as a deployment would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._bury(self._process)

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._bury(self._process)

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        self._process = None

    def _format(self) -> None:
        options = ["-Xmx128m", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={LOG4J}", "-cp", self._classpath]
        flags = ["format", "--cluster-id", CLUSTER_ID, "--config", str(self._properties)]
        done = subprocess.run(
            [self._java, *options, "kafka.tools.StorageTool", *flags],
            capture_output=True,
            text=True,
            check=False,
        )
        self.log.write_text(done.stdout + done.stderr)
        if done.returncode:
            raise KafkaRefused(f"Apache Kafka's storage in {self._data} can't be made: {self._log_end()}")

    def _log_end(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])
