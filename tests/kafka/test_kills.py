"""SIGKILL at any moment under load: every request is answered once, and the state is that of a job never killed."""

import random
import time
from pathlib import Path

import pytest

from schemas.events import FeedRequest, Insert
from tests.kafka.cluster import Cluster, Received, by_input
from tests.kafka.conftest import StartJob
from tests.kafka.events import HOUR_MS, NOW_MS, post
from tests.kafka.jobs import Job, posts_in, until_taken_in, viewers_in
from tests.kafka.load import BEGIN_MS, OLD_POSTS, Load

# Of the kills, so many hit a job that is still loading what it has, the others one at work.
LOADING_SHARE = 0.3
AT_WORK_S = 1.0


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.full)])
def test_killed_at_random_moments(
    cluster: Cluster, start_job: StartJob, checkpoint: Path, tmp_path: Path, kills: int
) -> None:
    cluster.publish(*(post(number, BEGIN_MS - HOUR_MS) for number in OLD_POSTS))
    rng = random.Random(kills)
    job = start_job("--epoch", "0.2", "--set", "serving.waiting_max=100000")
    with Load(cluster, seed=kills, viewers=40 if kills < 10 else 400) as load:
        for _ in range(kills):
            _killed_at_some_moment(job, rng)
    feeds = cluster.feeds(load.requests)
    assert load.requests, "there was a load"
    until_taken_in(cluster, tmp_path / "state")
    job.ready().stop()

    assert {one.feed.error for one in feeds.values()} <= {None}, "no more was asked than could be answered"
    _each_once(cluster, load)
    killed = viewers_in(tmp_path / "state")

    # The same topics' contents, taken in once, by a job with an empty state: it finds every request answered, takes
    # what the feeds showed as served, and answers nothing. All else follows from the inputs.
    once = start_job(state="unkilled").ready()
    until_taken_in(cluster, tmp_path / "unkilled")
    once.stop()
    unkilled = viewers_in(tmp_path / "unkilled")
    assert killed.keys() == unkilled.keys()
    for viewer, was in killed.items():
        for fact, value in was.items():
            assert value == unkilled[viewer][fact], f"{fact} of {viewer}"
    groups = [one["groups"] for one in killed.values()]
    assert sum(len(some) for some in groups if isinstance(some, list)) > load.engagements / 4, "there is much to lose"
    assert posts_in(tmp_path / "state", checkpoint) == posts_in(tmp_path / "unkilled", checkpoint)
    _each_once(cluster, load)


def test_modules_keep_their_distance_through_kills(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    # A survey at most every five seconds, whom to follow every seven; a request a second. Commits are rare, so that
    # some kills find a module that a feed on Kafka alone tells of.
    spared: dict[str, bool | int | float | str] = {
        "blending.survey_fatigue_s": 5,
        "blending.who_to_follow_fatigue_s": 7,
        "filters.previously_served": False,
        "serving.deadline_ms": 0,
    }
    asked = {
        f"r{second}": FeedRequest(
            NOW_MS + 1000 * second,
            f"r{second}",
            "ann",
            feed="blended",
            inserts=(Insert("survey", second + 1),),
            parameters=spared,
        )
        for second in range(16)
    }
    job, rng = start_job("--epoch", "1").ready(), random.Random(24)
    for second, (name, request) in enumerate(asked.items()):
        cluster.publish(request)
        if second % 6 == 5:
            _killed_at_some_moment(job, rng)
        elif second % 6 == 0:
            # Answered, and killed at once.
            cluster.feeds([name])
            job.kill()
            job.start()
    feeds = cluster.feeds(asked)
    shown = {name: {one.kind for one in feeds[name].feed.modules} for name in asked}
    assert [name for name in asked if "survey" in shown[name]] == ["r0", "r5", "r10", "r15"]
    assert [name for name in asked if "who_to_follow" in shown[name]] == ["r0", "r7", "r14"]


def _killed_at_some_moment(job: Job, rng: random.Random) -> None:
    if rng.random() < LOADING_SHARE:
        job.until_logged("beginning")
        time.sleep(rng.uniform(0, 0.5))
    else:
        job.ready()
        time.sleep(rng.uniform(0, AT_WORK_S))
    job.kill()
    job.start()


def _each_once(cluster: Cluster, load: Load) -> None:
    feeds, served = by_input(cluster.read("feeds")), by_input(cluster.read("served"))
    assert len(feeds) == len(load.requests)
    # A feed whose acknowledgement died with the job may come twice, as the same.
    assert all(len({(one.key, one.value) for one in some}) == 1 and len(some) <= 2 for some in feeds.values())
    assert feeds.keys() == served.keys()
    for about, (one, *more) in served.items():
        assert not more, "what a feed showed is said once"
        assert list(one.served.posts) == _shown(feeds[about][0])
    letters = by_input(cluster.read("dead-letters"))
    assert len(letters) == load.bad
    assert all(len(some) == 1 for some in letters.values())


def _shown(feed: Received) -> list[object]:
    return [item.post for item in feed.feed.items]
