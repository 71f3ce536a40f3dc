"""Pytest's plugin for tests that need Kafka: one broker for the whole session, and topic names nobody else uses."""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from infra.kafka.broker import Broker, start_broker
from infra.kafka.topics import Naming

_broker: Broker | None = None
_passed_over: list[str] = []
_told: list[str] = []
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Return the session's broker, whichever kind could be had; `real_broker` where the mock won't do."""
    global _broker
    # A broker of minutes spends more on compiling itself well than that saves; JVMs take options from here.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    _broker, passed_over = start_broker(tmp_path_factory.mktemp("kafka"))
    _passed_over.extend(passed_over)
    with _broker:
        yield _broker


@pytest.fixture
def real_broker(broker: Broker) -> Broker:
    """Return the broker, Apache Kafka; the test is skipped on the mock, which has no topics' administration."""
    if not broker.real:
        pytest.skip(f"needs Apache Kafka; librdkafka's mock stands in for it: {'; '.join(_passed_over)}")
    return broker


@pytest.fixture
def stoppable_broker(real_broker: Broker) -> Iterator[Broker]:
    """Return a broker to stop and kill; it runs again after the test. Skipped where the broker isn't ours."""
    if not real_broker.ours:
        pytest.skip(f"needs a broker that may be stopped; {real_broker.address} is not ours")
    yield real_broker
    real_broker.start()


@pytest.fixture
def naming() -> Naming:
    """Return names of topics of this test alone, also on a broker that outlives the session."""
    return Naming(f"test-{os.getpid()}-{next(_numbers)}-{os.urandom(3).hex()}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary which broker the tests of this one ran against."""
    if _broker is None:
        return
    told = [f"Kafka: {_broker.kind} at {_broker.address}"]
    if not _broker.real:
        told.append(f"WARNING: NOT Apache Kafka but librdkafka's mock: {'; '.join(_passed_over)}")
    getattr(session.config, "workeroutput", {})["kafka"] = told
    _told.extend(told)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist tells at its end."""
    _told.extend(node.workeroutput.get("kafka", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which brokers the tests ran against, and loudly where one was the mock."""
    for line in _told:
        loud = line.startswith("WARNING")
        terminalreporter.write_line(line, red=loud, bold=loud)
