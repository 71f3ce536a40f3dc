"""Simulated people live from the feeds of a job on Kafka, as they do in memory."""

from pathlib import Path

import pytest

from flows.closed_loop.judging import BEST, RANDOM, SERVED
from flows.closed_loop.kafka import KafkaLoop
from flows.closed_loop.records import LoopRefused
from infra.logs import LogReader, LogWriter
from infra.world import Crowd, WorldParameters
from schemas.codec import decode
from schemas.events import Engagement, FeedRequest, Served
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import StartJob

SMALL = WorldParameters(
    people=12, days=0.5, follows_per_person=4.0, sessions_per_person_day=6.0, posts_per_person_day=20.0
)


def test_people_live_from_what_a_job_serves(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    job = start_job("--set", "serving.deadline_ms=0").ready()
    with LogWriter(tmp_path / "log.jsonl") as writer:
        lived = KafkaLoop(cluster.connection, Crowd(SMALL), 60.0, written=writer.write).run(lambda *_: None)
    events = [decode(raw) for batch in LogReader(tmp_path / "log.jsonl").batches() for raw in batch.raw]
    asked = [one for one in events if isinstance(one, FeedRequest)]
    assert len(lived.feeds) == len(asked) > 15
    feeds = cluster.feeds([str(one.request) for one in asked])
    assert len(feeds) == len(asked)
    served = {one.request: one.posts for one in events if isinstance(one, Served)}
    assert {one.feed.request: one.feed.shown for one in feeds.values()} == served
    shown = {(one.viewer, post) for one in events if isinstance(one, Served) for post in one.posts}
    acts = [one for one in events if isinstance(one, Engagement)]
    assert len(acts) > 100
    assert all((one.viewer, one.post) in shown for one in acts)
    judged = [one.judgement for one in lived.feeds if one.judgement is not None]
    assert judged
    assert all(one.worth[BEST] + 1e-9 >= max(one.worth[SERVED], one.worth[RANDOM]) for one in judged)
    job.stop()
    assert cluster.read("dead-letters") == []


def test_without_a_job_people_wait_no_longer_than_told(cluster: Cluster) -> None:
    with pytest.raises(LoopRefused, match=r"no feed for request 1 within 0.5 s: is a job running"):
        KafkaLoop(cluster.connection, Crowd(SMALL), 0.5).run(lambda *_: None)
