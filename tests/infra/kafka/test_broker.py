"""A broker can be had, stays itself over a stop and a crash, and ends with those who started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaRefused
from infra.kafka.broker import ADDRESS, Broker, MockBroker, start_broker
from infra.kafka.kraft import CACHE, artefacts, wait_until_ready
from infra.kafka.topics import Naming

ROOT = Path(__file__).parents[3]


def make_topic(address: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, 1)])[name].result(10)


def written_and_read(address: str, topic: str, values: list[bytes]) -> list[bytes | None]:
    """Write values to partition 0 and return all that the partition holds."""
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(20) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        read: list[bytes | None] = []
        while len(read) < end:
            read += [message.value() for message in consumer.consume(100, timeout=0.1)]
        return read
    finally:
        consumer.close()


def test_what_is_written_is_read(broker: Broker, naming: Naming) -> None:
    if broker.real:
        make_topic(broker.address, naming.prefix)
    assert written_and_read(broker.address, naming.prefix, [b"1", b"2"]) == [b"1", b"2"]


@pytest.mark.full
def test_what_was_acknowledged_survives_a_stop_and_a_crash(stoppable_broker: Broker, naming: Naming) -> None:
    broker = stoppable_broker
    address = broker.address
    make_topic(address, naming.prefix)
    written_and_read(address, naming.prefix, [b"1"])
    broker.stop()
    with pytest.raises(KafkaRefused, match=f"no Kafka broker answers at {address} within 0.3 s"):
        wait_until_ready(address, 0.3)
    broker.start()
    written_and_read(address, naming.prefix, [b"2"])
    broker.kill()
    broker.start()
    assert broker.address == address
    assert written_and_read(address, naming.prefix, [b"3"]) == [b"1", b"2", b"3"]


@contextmanager
def foreground(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a developer's broker and yield its process and the address it prints."""
    command = [str(ROOT / "infra/kafka/start-kafka.sh"), "--folder", str(folder), "--port", "0"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHON": sys.executable})
    assert run.stdout is not None
    with run.stdout:
        try:
            yield run, run.stdout.readline().decode().strip()
        finally:
            run.kill()
            run.wait()


def test_a_developers_broker_ends_in_good_order_and_with_who_started_it(
    stoppable_broker: Broker, tmp_path: Path
) -> None:
    if stoppable_broker.kind != "kafka":
        pytest.skip(f"a broker of kind {stoppable_broker.kind} is no process of ours")
    stoppable_broker.stop()  # one broker at a time; the fixture starts it again
    with foreground(tmp_path) as (run, address):
        wait_until_ready(address, 5)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 0
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists(), "Kafka marks a shutdown in good order"
    with foreground(tmp_path) as (run, address):
        wait_until_ready(address, 5)
        run.kill()
        host, _, port = address.partition(":")
        until = time.monotonic() + 10
        with pytest.raises(ConnectionRefusedError):  # noqa: PT012 (until nobody listens)
            while time.monotonic() < until:
                socket.create_connection((host, int(port)), timeout=1).close()
                time.sleep(0.02)


def test_a_named_broker_comes_first_and_must_answer(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, broker.address)
    given, passed_over = start_broker(tmp_path)
    assert (given.kind, given.address, given.real, given.ours, passed_over) == (
        "environment",
        broker.address,
        True,
        False,
        [],
    )
    with pytest.raises(KafkaRefused, match=r"\(environment\) is not ours to start or stop"):
        given.kill()


def test_the_mock_comes_last_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    with start_broker(tmp_path)[0] as mock:
        assert isinstance(mock, MockBroker)
        assert written_and_read(mock.address, "any", [b"1"]) == [b"1"]
    said = capfd.readouterr().err
    assert "WARNING: no Apache Kafka here (FORYOU_KAFKA names no broker; no Docker engine answers; " in said
    assert "Apache Kafka needs Java 17 or later: no java on the path.): librdkafka's mock stands in" in said


def test_a_download_that_fails_says_what_maven_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Unknown host repo.maven.apache.org'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    with pytest.raises(KafkaRefused, match=r"can't get .* artefacts: \[ERROR\] Unknown host repo.maven.apache.org"):
        artefacts()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.lock"], "nothing half done stays"
