"""Fixtures: topics of a test's own on the session's broker, and jobs that end with the test."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from infra.kafka.broker import Broker
from infra.kafka.topics import Naming
from tests.kafka.cluster import Cluster
from tests.kafka.jobs import Job
from tests.kafka.joins import JoinProcess

StartJob = Callable[..., Job]
StartJoin = Callable[..., JoinProcess]


@pytest.fixture
def cluster(real_broker: Broker, naming: Naming) -> Cluster:
    """Return the topics of this test alone."""
    return Cluster(real_broker.address, naming)


@pytest.fixture
def start_job(cluster: Cluster, checkpoint: Path, tmp_path: Path) -> Iterator[StartJob]:
    """Return a function that starts a job on the test's topics: `start_job(*options, state="state")`."""
    jobs = []

    def start(*options: str, state: str = "state", under: Sequence[str] = ()) -> Job:
        jobs.append(Job(cluster, tmp_path / state, checkpoint, *options, under=under))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.runs:
            job.kill()


@pytest.fixture
def start_join(cluster: Cluster, tmp_path: Path) -> Iterator[StartJoin]:
    """Return a function that starts a join: `start_join(state, inactivity_s, late_s, instance="0/1")`."""
    joins = []

    def start(state: str, inactivity_s: int, late_s: int, instance: str = "0/1") -> JoinProcess:
        joins.append(JoinProcess(cluster, tmp_path / state, inactivity_s, late_s, instance))
        return joins[-1]

    yield start
    for join in joins:
        if join.runs:
            join.kill()
