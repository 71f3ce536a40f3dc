"""Author cold start on Kafka: profiles tell the followers of authors, also after an end and a new start."""

from itertools import count

from schemas.codec import encode
from schemas.events import FeedRequest, Profile
from schemas.feeds import FeedItem, PostCounts
from schemas.message_keys import key_of_id, partition_of_id
from tests.kafka.cluster import Cluster, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import NOW_MS, post

# Whoever comes up comes up to the very first; what was shown before comes again, one feed is like another.
SWITCHES = {
    "cold_start.slot": 0,
    "cold_start.rank_share": 1.0,
    "filters.previously_served": False,
    "dpp.enabled": False,
}


def raised(item: FeedItem) -> bool:
    assert item.explanation is not None
    before, cold_start, *_ = item.explanation.steps
    assert cold_start.name == "author_cold_start"
    return cold_start.value > before.value


def test_profiles_tell_who_has_few_followers(cluster: Cluster, start_job: StartJob) -> None:
    posts = range(1, 25)
    cluster.publish(*(post(number) for number in posts))
    for number in posts:
        told = encode(PostCounts(NOW_MS, number, {"favorite": 3}, 5))
        cluster.send_raw("post-counts", partition_of_id(number, cluster.partitions), key_of_id(number), told)
    cluster.flush()
    job, names = start_job().ready(), (f"r{one}" for one in count())

    def items() -> tuple[FeedItem, ...]:
        name = next(names)
        cluster.publish(FeedRequest(NOW_MS, name, "ann", explain=True, parameters=dict(SWITCHES)))
        return cluster.feeds([name])[name].feed.items

    wait_until(lambda: all(item.counts for item in items()), "counts are not known")
    unknown = items()
    assert len(unknown) == 24
    assert not any(map(raised, unknown)), "nobody's followers are known"
    by_rank = sorted(unknown, key=lambda item: item.explanation.rank_before if item.explanation else 0)
    author = by_rank[-1].author
    best = next(item.post for item in by_rank if item.author == author)
    cluster.publish(*(Profile(NOW_MS, one.author, followers=5000) for one in unknown if one.author != author))
    cluster.publish(Profile(NOW_MS, author, followers=3))

    def comes_up() -> bool:
        return [item.post for item in items() if raised(item)] == [best]

    wait_until(comes_up, "the author with few followers does not come up")
    job.stop()
    job.start()
    job.ready()
    wait_until(comes_up, "after a new start the author's followers are not known")
    job.stop()
