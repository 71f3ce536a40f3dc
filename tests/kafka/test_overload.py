"""More requests than can be answered: the late get a feed without the model, the oldest are shed, none is forgotten."""

import time
from pathlib import Path

from schemas.ids import key_of
from tests.kafka.cluster import Cluster, Received, by_input
from tests.kafka.conftest import StartJob
from tests.kafka.events import AUTHORS, ask, follow, post
from tests.kafka.jobs import until_taken_in, viewers_in

WAITING_MAX = 50
REQUESTS = 2000
# Fewer than may wait, and more than are ranked in a second.
WAITING = 240


def test_past_the_deadline_without_the_model(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    cluster.publish(*(follow(viewer, author) for viewer in ("ann", "bob", "eve") for author in AUTHORS))
    job = start_job().ready()
    now_ms = int(time.time() * 1000)
    cluster.publish(ask("old", "ann"), at_ms=now_ms - 5000)
    cluster.publish(ask("new", "bob"))
    cluster.publish(ask("future", "eve"), at_ms=now_ms + 3_600_000)
    feeds = {name: one.feed for name, one in cluster.feeds(["old", "new", "future"]).items()}
    assert feeds["old"].degraded == ("deadline",)
    assert feeds["new"].degraded == feeds["future"].degraded == ()
    assert {one.error for one in feeds.values()} == {None}
    assert all(one.items for one in feeds.values())
    newest = [item.post for item in feeds["old"].items]
    assert newest == sorted(newest, reverse=True), "newest first: post n is n ms younger"
    assert [item.post for item in feeds["new"].items] != newest
    assert {item.score for item in feeds["old"].items} == {0.0}
    assert job.metric('foryou_feeds_total{outcome="late"}') == 1
    assert job.metric('foryou_feeds_total{outcome="ranked"}') == 2
    job.stop()


def test_a_standing_queue_is_worked_off_without_the_model(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    names = [f"r{number}" for number in range(WAITING)]
    cluster.publish(*(follow(1 + number, AUTHORS[0]) for number in range(WAITING)))
    hurry = ("serving.wait_interval_ms=200", "serving.wait_target_ms=50", "serving.deadline_ms=600000")
    job = start_job(*(part for one in hurry for part in ("--set", one))).ready()
    cluster.publish(*(ask(name, 1 + number) for number, name in enumerate(names)))
    feeds = [one.feed for one in cluster.feeds(names).values()]
    late = [feed for feed in feeds if feed.degraded == ("deadline",)]
    assert WAITING / 4 < len(late) < WAITING
    assert all(feed.items and feed.error is None for feed in feeds)
    cluster.publish(ask("later", 1))
    assert cluster.feeds(["later"])["later"].feed.degraded == (), "the queue was empty, and hurries nobody"
    job.stop()


def test_the_oldest_are_shed(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    # All on one partition, so that the order is known.
    viewers = [name for name in (f"viewer-{n}" for n in range(400)) if cluster.partition_of(ask("r", name)) == 0]
    names = [f"r{number}" for number in range(REQUESTS)]
    cluster.publish(*(ask(name, viewers[place % len(viewers)]) for place, name in enumerate(names)))
    job = start_job("--set", f"serving.waiting_max={WAITING_MAX}", "--set", "serving.deadline_ms=0").ready()
    feeds = cluster.feeds(names)
    shed = {name for name, one in feeds.items() if one.feed.error is not None}
    answered = feeds.keys() - shed
    assert REQUESTS / 2 < len(shed) < REQUESTS
    assert not shed & set(names[-WAITING_MAX:]), "the latest are answered"
    for name in shed:
        _is_shed(feeds[name])
    assert any(feeds[name].feed.items for name in answered)
    assert job.metric('foryou_feeds_total{outcome="shed"}') == len(shed)
    assert job.metric('foryou_feeds_total{outcome="ranked"}') == len(answered)

    until_taken_in(cluster, tmp_path / "state")
    job.stop()
    job.start()
    cluster.publish(ask("later", viewers[0]))
    assert cluster.feeds(["later"])["later"].feed.error is None, "what was too much an hour ago is forgotten"
    job.ready().stop()
    messages = cluster.read("feeds")
    assert len(messages) == len(by_input(messages)) == REQUESTS + 1, "each has one feed"
    served = by_input(cluster.read("served"))
    assert len(served) == len(answered) + 1, "nothing was served to those that were shed"
    shown = {key_of(item.post) for name in answered for item in feeds[name].feed.items}
    known = {post for viewer in viewers_in(tmp_path / "state").values() for _, post in viewer["served"]}  # type: ignore[attr-defined]
    assert known == shown


def _is_shed(one: Received) -> None:
    assert str(one.feed.error).startswith("shed:")
    assert not one.feed.items
