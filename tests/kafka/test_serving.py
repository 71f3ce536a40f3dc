"""Requests on Kafka are answered on Kafka: keys, partitions and headers, once, also over an end and a new start."""

import time

from infra.kafka.topics import key_and_partition
from schemas.events import Engagement
from schemas.feeds import Feed
from tests.kafka.cluster import Cluster, by_input, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import AUTHORS, NOW_MS, ask, follow, like, post

STOPS_WITHIN_S = 10  # what Kubernetes and people wait for without a doubt


def test_feeds_served_and_dead_letters(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    cluster.publish(*(follow("ann", author) for author in AUTHORS[:4]), like("ann", 1), like("ann", 2))
    job = start_job().ready()
    plain, explained = ask("r1", "ann"), ask("r2", "ann", explain=True)
    cluster.publish(plain, explained)
    feeds = cluster.feeds(["r1", "r2"])

    key, partition = key_and_partition(plain, cluster.partitions)
    for request, offset in (("r1", 0), ("r2", 1)):
        one = feeds[request]
        assert (one.key, one.partition) == (key, partition)
        assert one.about == ("feed-requests", partition, offset)
        assert one.headers["schema"] == b"feed/1"
        assert 0 <= time.time() * 1000 - one.origin.timestamp_ms < 60_000, "the request's own time"
        assert one.feed.items
        assert not one.feed.degraded
    _explained(feeds["r2"].feed)
    shown = [[item.post for item in feeds[request].feed.items] for request in ("r1", "r2")]
    assert not set(shown[0]) & set(shown[1]), "what was served a moment ago does not come again"

    wait_until(lambda: len(cluster.read("served")) == 2, "served does not come beside each feed")
    for one, posts in zip(cluster.read("served"), shown, strict=True):
        assert (one.key, one.partition, one.headers["schema"]) == (key, partition, b"served/1")
        assert (list(one.served.posts), one.served.viewer) == (posts, "ann")

    _bad_among_good(cluster)
    assert job.metric('foryou_feeds_total{outcome="ranked"}') == 4
    assert job.stop() < STOPS_WITHIN_S


def _explained(feed: Feed) -> None:
    item = feed.items[0]
    assert item.explanation is not None
    assert item.explanation.contributions
    dropped = {post for stage in feed.dropped for post in stage.posts}
    assert {1, 2} <= dropped, "what the viewer has engaged with is dropped, and named"


def _bad_among_good(cluster: Cluster) -> None:
    """Bad messages go to the dead letters, each once and with its bytes; requests around them are answered."""
    like_key, like_partition = key_and_partition(like("ann", 3), cluster.partitions)
    other = (like_partition + 1) % cluster.partitions
    bad = [
        ("engagements", like_partition, like_key, b'{"kind": "engagement", "at": ', "not JSON"),
        ("feed-requests", like_partition, like_key, b'{"kind":"feed_request","at":1,"request":"x"}', "viewer"),
        ("engagements", other, b"bob", b'{"kind":"engagement","at":1,"viewer":"ann","post":3,"action":"favorite"}',
         "the message's key must be ann"),
        ("posts", 0, b"author-1", b'{"kind":"follow","at":1,"viewer":"ann","author":"bob"}', "belongs to topic graph"),
        ("feed-requests", like_partition, like_key, None, "no value"),
    ]  # fmt: skip
    cluster.send(ask("r3", "ann"))
    for topic, partition, key, value, _ in bad:
        cluster.send_raw(topic, partition, key, value)
    cluster.send(ask("r4", "ann"))
    cluster.flush()
    feeds = cluster.feeds(["r3", "r4"])
    assert all(one.feed.error is None for one in feeds.values())

    wait_until(lambda: len(cluster.read("dead-letters")) == len(bad), "not all that is bad is in the dead letters")
    letters = {(one.origin.topic, one.letter.raw): one for one in cluster.read("dead-letters")}
    for topic, partition, key, value, reason in bad:
        one = letters[topic, value or b""]
        assert (one.partition, one.key, one.letter.key) == (partition, key, key)
        assert one.headers["schema"] == b"dead-letter/1"
        assert reason in (one.headers["reason"] or b"").decode()
        assert reason in f"{one.letter.path} {one.letter.reason}"
        assert one.origin.timestamp_ms == one.letter.published_ms > 0


def test_sigterm_answers_what_was_read_and_a_new_start_goes_on(cluster: Cluster, start_job: StartJob) -> None:
    cluster.publish(*(post(number) for number in range(1, 41)))
    job = start_job().ready()
    names = [f"r{number}" for number in range(60)]
    for number, name in enumerate(names[:50]):
        cluster.send(ask(name, f"viewer-{number % 7}"))
        cluster.send(Engagement(NOW_MS, f"viewer-{number % 7}", number % 40 + 1, "reply"))
    cluster.send_raw("posts", 1, b"x", b"nothing")
    cluster.flush()
    wait_until(lambda: len(cluster.read("feeds")) > 5, "nothing is answered")
    assert job.stop() < STOPS_WITHIN_S
    answered = by_input(cluster.read("feeds"))
    served = by_input(cluster.read("served"))
    assert answered.keys() == served.keys(), "an end leaves no feed without what it served"

    cluster.publish(*(ask(name, "viewer-1") for name in names[50:]))
    job.start()
    cluster.feeds(names)
    job.ready().stop()
    for topic, count in (("feeds", 60), ("served", 60), ("dead-letters", 1)):
        messages = cluster.read(topic)
        assert len(messages) == len(by_input(messages)) == count, f"{topic}: each once"
