"""A broker for tests and for developers: the one named, Docker's, Apache Kafka itself, or librdkafka's mock.

`python -m infra.kafka.broker` runs Apache Kafka in the foreground for a developer without Docker.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from confluent_kafka import Producer

from infra.kafka import KafkaRefused
from infra.kafka.kraft import READY_TIMEOUT_S, SETTINGS, KafkaProcess, free_ports, kafka_version, wait_until_ready

ADDRESS: Final = "FORYOU_KAFKA"  # environment: the address of a broker that is there already
DOCKER_SOCKET: Final = "unix:///var/run/docker.sock"
PROBE_TIMEOUT_S: Final = 2.0
GIVEN_TIMEOUT_S: Final = 10.0  # a broker named in the environment should be up; one just started may need a moment
DEVELOPER_PORT: Final = 9092  # Kafka's own

Kind = Literal["environment", "docker", "kafka", "mock"]


class Broker(ABC):
    """A broker at `address` ("host:port"), running once made; leaving its context ends it.

    `kind` says what it is; `real` is false for the mock alone; `ours` says whether it may be stopped and killed.
    """

    kind: ClassVar[Kind]
    address: str

    @property
    def real(self) -> bool:
        """Whether this is Apache Kafka."""
        return self.kind != "mock"

    @property
    def ours(self) -> bool:
        """Whether `stop`, `kill` and `start` work: it is a process or container that we started."""
        return self.kind in ("docker", "kafka")

    @abstractmethod
    def start(self) -> None:
        """Start again after `stop` or `kill`, on the same data and address, and wait till it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in good order, as a deployment would. Raises KafkaRefused for a broker that isn't ours."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL). Raises KafkaRefused for a broker that isn't ours."""

    @abstractmethod
    def close(self) -> None:
        """End it for good; nothing of it runs on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Untouchable(Broker):
    """A broker that we can't stop."""

    def start(self) -> None:
        """Raise KafkaRefused."""
        raise KafkaRefused(f"the broker at {self.address} ({self.kind}) is not ours to start or stop.")

    stop = start
    kill = start

    def close(self) -> None:
        """Leave it as it is."""


class GivenBroker(_Untouchable):
    """The broker that FORYOU_KAFKA names."""

    kind = "environment"

    def __init__(self, address: str) -> None:
        self.address = address
        wait_until_ready(address, GIVEN_TIMEOUT_S)


class MockBroker(_Untouchable):
    """librdkafka's mock cluster of one node: memory only, no administration, no retention; it can't be stopped."""

    kind = "mock"

    def __init__(self) -> None:
        # The mock lives as long as the client that made it.
        self._keeper = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        (node,) = self._keeper.list_topics(timeout=PROBE_TIMEOUT_S).brokers.values()
        self.address = f"{node.host}:{node.port}"


class ProcessBroker(Broker):
    """Apache Kafka as a process of this machine."""

    kind = "kafka"

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, port: int = 0) -> None:
        self._process = KafkaProcess(folder, settings, port)
        self.address = self._process.address
        self.start()

    def start(self) -> None:
        """Start the process where it is not running."""
        self._process.start()

    def stop(self) -> None:
        """Send SIGTERM and wait."""
        self._process.stop()

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self._process.kill()

    def close(self) -> None:
        """Kill: what is in the folder can still be started again."""
        self._process.kill()


class DockerBroker(Broker):
    """Apache Kafka's own image, through testcontainers, on a port that stays the same over a restart."""

    kind = "docker"

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        from testcontainers.core.container import DockerContainer

        with free_ports(1) as (port,):
            pass
        container = DockerContainer(f"apache/kafka:{kafka_version()}").with_bind_ports(9092, port)
        self.address = f"{container.get_container_host_ip()}:{port}"
        own = {
            "controller.quorum.voters": "1@localhost:9093",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
        }
        # The image reads its settings from variables: `node.id` is KAFKA_NODE_ID.
        for name, value in (SETTINGS | own | dict(settings or {})).items():
            container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
        self._container = container.start()
        wait_until_ready(self.address, READY_TIMEOUT_S)

    def _docker(self) -> Any:
        return self._container.get_wrapped_container()

    def start(self) -> None:
        """Start the same container again, with its data."""
        self._docker().start()
        wait_until_ready(self.address, READY_TIMEOUT_S)

    def stop(self) -> None:
        """Send SIGTERM and wait."""
        self._docker().stop()

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self._docker().kill()
        self._docker().wait()

    def close(self) -> None:
        """Remove the container and its data."""
        self._container.stop()


def docker_answers() -> bool:
    """Return whether a Docker engine is there; quick where there is none."""
    where = urlsplit(os.environ.get("DOCKER_HOST") or DOCKER_SOCKET)
    if where.scheme not in ("unix", "tcp", "http", "https"):
        return True  # ssh or a named pipe: let Docker's own client find out
    unix = where.scheme == "unix"
    target: Any = where.path if unix else (where.hostname, where.port or 2375)
    try:
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            probe.connect(target)
            return True
    except OSError:
        return False


def start_broker(folder: Path, settings: Mapping[str, str] | None = None) -> tuple[Broker, list[str]]:
    """Return the first broker that can be had, and a sentence for each kind passed over on the way.

    In this order: the address in FORYOU_KAFKA (KafkaRefused where it does not answer: one named is the one meant);
    Docker, where an engine answers; Apache Kafka as a process, its data in `folder`; librdkafka's mock, which only
    some tests can do with. `settings` are a broker's own, as in server.properties; a named broker and the mock
    pass them over.
    """
    address = os.environ.get(ADDRESS)
    if address:
        return GivenBroker(address), []
    passed_over = [f"{ADDRESS} names no broker"]
    if docker_answers():
        try:
            return DockerBroker(settings), passed_over
        # Whatever Docker's client raises (no right to the socket, no image, no network), the next kind may do.
        except Exception as error:
            passed_over.append(f"Docker can't run Kafka: {error}")
    else:
        passed_over.append("no Docker engine answers")
    try:
        return ProcessBroker(folder, settings), passed_over
    except KafkaRefused as refused:
        passed_over.append(str(refused))
    sys.stderr.write(f"WARNING: no Apache Kafka here ({'; '.join(passed_over)}): librdkafka's mock stands in for it\n")
    return MockBroker(), passed_over


def main() -> None:
    """Run Apache Kafka in the foreground until Ctrl-C or SIGTERM; print its address."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.broker", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/kafka"), help="data and log; kept from run to run")
    parser.add_argument(
        "--port", type=int, default=DEVELOPER_PORT, help=f"port of clients, {DEVELOPER_PORT} by default"
    )
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with ProcessBroker(arguments.folder, port=arguments.port) as broker:
            sys.stdout.write(f"{broker.address}\n")
            sys.stdout.flush()
            ended.wait()
            broker.stop()
    except KafkaRefused as refused:
        sys.stderr.write(f"error: {refused}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
