"""On Kafka as in a replay, what is logged of a served feed is what its ranker was given, and comes with every feed."""

import pickle
import random
import sys
import time
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np

from flows.learning.messages import decode_example, decode_features, example_of, labelled
from models.inputs import Candidates, Context, History
from schemas.codec import encode
from schemas.learning import LateEngagement
from tests.kafka import noting
from tests.kafka.cluster import Cluster, by_input, wait_until
from tests.kafka.conftest import StartJob, StartJoin
from tests.kafka.events import AUTHORS, HOUR_MS, ask, follow, like, post
from tests.kafka.jobs import Job
from tests.kafka.load import BEGIN_MS, OLD_POSTS, Load

LEARNING = ("--set", "learning.features_enabled=true")


def noted(path: Path) -> dict[tuple[int, int], tuple[Context, Candidates]]:
    found = {}
    with path.open("rb") as file:
        while file.peek(1):
            context, candidates = pickle.load(file)
            found[context.key, context.at_ms] = context, candidates
    return found


def same_bits(one: History | Candidates, other: History | Candidates) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


def test_features_are_what_the_ranker_was_given(cluster: Cluster, start_job: StartJob, tmp_path: Path) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    cluster.publish(*(follow("ann", author) for author in AUTHORS[:4]), like("ann", 1), like("bob", 2), like("bob", 3))
    seen = tmp_path / "seen"
    job = start_job(*LEARNING, under=(sys.executable, noting.__file__, str(seen))).ready()
    cluster.publish(*(ask(f"r-{viewer}", viewer) for viewer in ("ann", "bob")))
    feeds = cluster.feeds(["r-ann", "r-bob"])
    told = {one.about: one for one in cluster.read("served-features")}
    assert told.keys() == {one.about for one in feeds.values()}
    for feed in feeds.values():
        message = told[feed.about]
        assert (message.key, message.partition) == (feed.key, feed.partition)
        assert message.headers["schema"] == b"served-features/1"
        features = decode_features(message.value)
        assert features.posts == feed.feed.shown
        assert (features.request, features.model) == (feed.feed.request, feed.feed.model)
        assert 0 <= time.time() * 1000 - features.served_at < 60_000, "the job's own time"
        nothing = [0] * len(features.posts)
        example = example_of(decode_example(encode(labelled(features, 1, nothing, nothing))))
        context, candidates = noted(seen)[example.context.key, features.at]
        assert len(context.history) > 0
        assert same_bits(example.context.history, context.history)
        assert example.context.counts.tobytes() == context.counts.tobytes()
        rows = [candidates.post.tolist().index(key) for key in example.posts.post.tolist()]
        assert same_bits(example.posts, candidates.take(np.array(rows)))
    job.stop()


def test_no_feed_is_without_its_features_over_kills(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number, BEGIN_MS - HOUR_MS) for number in OLD_POSTS))
    rng = random.Random(3)
    patient = ("--set", "serving.waiting_max=100000", "--set", "serving.deadline_ms=0")
    job = start_job("--epoch", "0.2", *patient, *LEARNING)
    with Load(cluster, seed=3, viewers=20) as load:
        for _ in range(3):
            kill_at_work(job, rng)
    feeds = {one.about: one.feed for one in cluster.feeds(load.requests).values()}
    features = by_input(cluster.read("served-features"))
    ranked = {about for about, feed in feeds.items() if feed.items and not feed.degraded}
    assert len(ranked) > 20
    assert features.keys() == ranked
    # A feed that did not go out has left features of another list before it: the last ones are those of the feed.
    assert all(decode_features(some[-1].value).posts == feeds[about].shown for about, some in features.items())
    wait_until(lambda: len(cluster.read("served")) == len(feeds), "what was shown is not told of each feed")
    job.ready().stop()


def kill_at_work(job: Job, rng: random.Random) -> None:
    job.ready()
    time.sleep(rng.uniform(0, 1.0))
    job.kill()
    job.start()


def test_a_feed_becomes_an_example_with_the_bits_that_ranked_it(
    cluster: Cluster, start_job: StartJob, start_join: StartJoin
) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    cluster.publish(*(follow("ann", author) for author in AUTHORS[:4]), like("ann", 1))
    job = start_job(*LEARNING).ready()
    join = start_join("join", 2, 60)
    join.until_begun()
    cluster.publish(ask("r", "ann"))
    shown = cluster.feeds(["r"])["r"].feed.shown
    cluster.publish(like("ann", int(shown[1])), like("ann", 1))
    wait_until(lambda: bool(cluster.read("training-examples")), "the feed becomes no example")
    (message,) = cluster.read("training-examples")
    (features,) = (decode_features(one.value) for one in cluster.read("served-features"))
    example = decode_example(message.value)
    assert example.posts == shown
    assert {name: example.columns[name] for name in features.columns} == features.columns
    assert example_of(example).actions.tolist() == [0, 1, *[0] * (len(shown) - 2)]
    late = [msgspec.json.decode(one.value, type=LateEngagement) for one in cluster.read("late-engagements")]
    assert [(one.post, one.reason) for one in late] == [(1, "not_served"), (1, "not_served")]
    join.stop()
    job.stop()
