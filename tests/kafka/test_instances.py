"""Several instances: each viewer is answered by one of them, a second owner is refused, and n become m with no loss."""

import os
import signal
from functools import partial
from pathlib import Path

from flows.serving.durable import viewers_folder
from infra.stores.ownership import LOCK_NAME
from schemas.events import Event
from tests.kafka.cluster import Cluster, by_input, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import AUTHORS, NOW_MS, ask, follow, like, post
from tests.kafka.jobs import taken_in, until_taken_in, viewers_in

VIEWERS = [f"viewer-{number}" for number in range(12)]


def test_instances_come_and_go(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    cluster.publish(*(follow(viewer, author) for viewer in VIEWERS for author in AUTHORS[:3]))
    _bad(cluster)
    # Bad posts lie on partitions of both: each is buried by one.
    first, second = start_job("--instance", "0/2"), start_job("--instance", "1/2")
    first.ready()
    second.ready()
    cluster.publish(*_round(0))
    cluster.feeds(_names(0))

    # One is killed: the viewers of the other do not notice.
    second.kill()
    requests = [ask(f"alone-{viewer}", viewer) for viewer in VIEWERS]
    cluster.publish(*requests)
    cluster.feeds(str(one.request) for one in requests if cluster.partition_of(one) % 2 == 0)
    assert {one.partition % 2 for one in cluster.read("feeds") if str(one.feed.request).startswith("alone")} == {0}

    # A second owner of what the first has.
    refused = start_job("--instance", "0/1")
    assert refused.ended() == 2
    assert "in use by process" in refused.said()
    assert "stop that job first" in refused.said()
    assert "Traceback" not in refused.said()
    assert first.runs
    first.stop()

    # Two become one, one becomes three.
    one = start_job()
    cluster.feeds(f"alone-{viewer}" for viewer in VIEWERS)
    cluster.publish(*_round(1))
    cluster.feeds(_names(1))
    one.ready().stop()
    three = [start_job("--instance", f"{k}/3") for k in range(3)]
    cluster.publish(*_round(2))
    cluster.feeds(_names(2))
    for k, job in enumerate(three):
        job.ready()
        wait_until(partial(_has_all_posts, cluster, tmp_path / "state", k), "not all posts are everywhere")
    for job in three:
        job.stop()
    _nothing_lost(cluster, tmp_path)


def _round(number: int) -> list[Event]:
    """Return for each viewer a like and a request; the likes of all rounds are far apart."""
    likes = [like(viewer, number + 1, NOW_MS - 1_000_000 * (3 - number)) for viewer in VIEWERS]
    return [*likes, *(ask(f"{number}-{viewer}", viewer) for viewer in VIEWERS)]


def _names(number: int) -> list[str]:
    return [f"{number}-{viewer}" for viewer in VIEWERS]


def _bad(cluster: Cluster) -> None:
    for topic in ("posts", "graph", "engagements", "feed-requests"):
        for partition in range(cluster.partitions):
            cluster.send_raw(topic, partition, b"key", b"nothing")
    cluster.flush()


def _has_all_posts(cluster: Cluster, state: Path, instance: int) -> bool:
    ends = {place: end for place, end in cluster.ends().items() if place[0] == "posts" and end}
    return ends.items() <= taken_in(state, instance).items()


def _nothing_lost(cluster: Cluster, tmp_path: Path) -> None:
    for topic, count in (("feeds", 4 * len(VIEWERS)), ("served", 4 * len(VIEWERS)), ("dead-letters", 16)):
        messages = cluster.read(topic)
        assert len(by_input(messages)) == count
        assert len(messages) == count, f"{topic}: each once"
    viewers = viewers_in(tmp_path / "state")
    liking = [one for one in viewers.values() if one["count"]]
    assert len(liking) == len(VIEWERS)
    assert {(one["count"], len(one["followed"])) for one in liking} == {(3, 3)}  # type: ignore[arg-type]


def test_the_supervisor_starts_killed_instances_again(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    supervisor = start_job("--instances", "2")
    cluster.publish(*_round(0))
    cluster.feeds(_names(0))
    owner = viewers_folder(tmp_path / "state", 1) / LOCK_NAME
    killed = int(owner.read_text())
    os.kill(killed, signal.SIGKILL)
    cluster.publish(*_round(1))
    cluster.feeds(_names(1))
    restarted = int(owner.read_text())
    assert killed != restarted
    until_taken_in(cluster, tmp_path / "state")
    supervisor.stop()
    messages = cluster.read("feeds")
    assert len(messages) == len(by_input(messages)) == 2 * len(VIEWERS)
    for pid in (killed, restarted):
        assert not Path(f"/proc/{pid}").exists(), "no child outlives the supervisor"
