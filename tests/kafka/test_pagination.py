"""Pages over Kafka go on after SIGKILL: what was shown is known, whether it was committed or only sent."""

import time

import pytest

from operators.cursors import KEY_VARIABLE
from schemas.events import FeedRequest, Follow
from schemas.feeds import Feed
from tests.kafka.cluster import Cluster, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import AUTHORS, NOW_MS, post

POSTS = 40
PAGE = 6


def test_pages_go_on_after_kills(cluster: Cluster, start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "the key of this test")
    cluster.publish(*(post(number) for number in range(1, POSTS + 1)), Follow(NOW_MS, "ann", AUTHORS[0]))
    # Commits are rare: the first kill finds a page that is on Kafka alone, the others pages of the commit before.
    job = start_job("--epoch", "2", "--set", "pagination.ttl_s=60").ready()
    shown: list[object] = []
    cursor: str | None = ""
    for page in range(1, 20):
        assert cursor is not None
        feed = _page(cluster, page, cursor)
        assert feed.error is None
        shown += [item.post for item in feed.items]
        cursor = feed.cursor
        if page in (1, 2, 4):
            if page == 4:
                time.sleep(3)
            job.kill()
            job.start()
            job.ready()
        if cursor is None:
            break
    assert len(shown) == len(set(shown))
    assert set(shown) == set(range(1, POSTS + 1))
    assert job.metric('foryou_feeds_total{outcome="expired"}') == 0

    cluster.publish(FeedRequest(NOW_MS + 200_000, "late", "ann", cursor=_first_cursor(cluster)))
    (late,) = cluster.feeds(["late"]).values()
    assert (late.feed.error or "").startswith("expired")
    wait_until(lambda: job.metric('foryou_feeds_total{outcome="expired"}') == 1, "it is not counted")
    cluster.publish(FeedRequest(NOW_MS, "others", "bob", cursor=_first_cursor(cluster)))
    wait_until(lambda: bool(cluster.read("dead-letters")), "another's cursor is taken")
    (letter,) = cluster.read("dead-letters")
    assert letter.letter.reason == "the cursor is another viewer's"


def _page(cluster: Cluster, page: int, cursor: str) -> Feed:
    name = f"page {page}"
    cluster.publish(FeedRequest(NOW_MS + page, name, "ann", limit=PAGE, cursor=cursor))
    return cluster.feeds([name])[name].feed


def _first_cursor(cluster: Cluster) -> str:
    return cluster.feeds(["page 1"])["page 1"].feed.cursor or ""
