"""The disk is full: the job says so and ends, and goes on where it was when there is room again."""

from pathlib import Path

from schemas.ids import key_of
from tests.kafka.cluster import Cluster, by_input
from tests.kafka.conftest import StartJob
from tests.kafka.events import MINUTE_MS, NOW_MS, ask, like, post
from tests.kafka.jobs import until_taken_in, viewers_in

VIEWERS = [f"viewer-{number}" for number in range(20)]
POSTS = range(1, 41)
# More words than there is room for.
LONG = range(1000, 4000)
ROOM_BYTES = 64 * 1024


def test_the_disk_is_full(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    cluster.publish(*(post(number) for number in POSTS), ask("before", "viewer-0"))
    job = start_job().ready()
    cluster.feeds(["before"])
    until_taken_in(cluster, tmp_path / "state")
    job.stop()

    # A limit on the size of files fails writes as a full disk does, at a size that the test can choose.
    size = max(path.stat().st_size for path in (tmp_path / "state").rglob("*.mdb"))
    job.start(under=("prlimit", f"--fsize={size + ROOM_BYTES}", "--"))
    job.ready()
    for number in LONG:
        cluster.send(post(number))
        if number % 100 == 0:
            place = (number - LONG.start) // 100
            cluster.send(ask(f"r{place}", VIEWERS[place % 20]))
            for viewer in VIEWERS:
                cluster.send(like(viewer, place + 1, NOW_MS - (60 - place) * MINUTE_MS))
    cluster.flush()
    assert job.ended() == 2
    assert "Traceback" not in job.said()
    assert "the disk is full" in job.said()
    assert "posts-000" in job.said(), "it says where"

    job.start()
    requests = [f"r{place}" for place in range(30)]
    cluster.feeds(requests)
    until_taken_in(cluster, tmp_path / "state")
    assert job.ready().metric("foryou_live_posts") == len(POSTS) + len(LONG)
    job.stop()
    for topic in ("feeds", "served"):
        messages = cluster.read(topic)
        assert len(messages) == len(by_input(messages)) == 1 + len(requests), f"{topic}: each once"
    viewers = viewers_in(tmp_path / "state")
    assert {viewers[key_of(viewer)]["count"] for viewer in VIEWERS} == {30}
