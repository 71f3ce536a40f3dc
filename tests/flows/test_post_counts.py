"""Post counts: how they are counted, and that they are the same after a stop, on real Kafka."""

import threading
from pathlib import Path

import msgspec

from flows.post_counts import Counter, Counting, CountingJob
from infra.kafka.admin import create_topics
from infra.kafka.broker import Broker
from infra.kafka.inbox import Connection
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.read_back import read_back
from infra.kafka.topics import Naming, key_and_partition
from schemas.actions import ACTIONS
from schemas.codec import encode
from schemas.events import Engagement, Follow, Served
from schemas.feeds import PostCounts
from schemas.ids import key_of
from tests.kafka.cluster import wait_until

PARTITIONS = 4


def test_actions_are_counted_by_post_and_undone_ones_taken_back() -> None:
    counter = Counter()
    counter.take([Engagement(5, 1, 9, "favorite"), Engagement(7, 2, 9, "favorite"), Engagement(6, 2, "x", "reply")])
    counter.take(
        [Engagement(8, 1, 9, "favorite", undo=True), Follow(9, 1, 2), Engagement(6, 3, "x", "reply", undo=True)]
    )
    counter.take([Engagement(6, 3, "x", "reply", undo=True), Served(6, "r", 4, (9, "x"))])
    changed = {one.post: one for one in (counter.message(key) for key in counter.take_changed())}
    assert changed == {9: PostCounts(8, 9, {"favorite": 1}, 1), "x": PostCounts(6, "x", {}, 1)}
    assert counter.take_changed() == []
    assert len(counter.forget(7)) == 1
    assert [post for post, _ in counter.latest.values()] == [9]


def test_what_comes_twice_counts_once_and_stored_totals_are_counted_on() -> None:
    counter = Counter()
    counter.put(9, 9, 3, [2, *[0] * (len(ACTIONS) - 1)])  # from before impressions were counted
    counter.put(key_of("x"), "x", 3, [*[0] * len(ACTIONS), 5])
    events = [Engagement(5, 1, 9, "favorite"), Served(5, "r", 1, (9, "x", "x"))]
    counter.take(events)
    counter.take([*events, *events])
    told = {post: counter.message(key) for key, (post, _) in counter.latest.items()}
    assert told == {9: PostCounts(5, 9, {"favorite": 3}, 1), "x": PostCounts(5, "x", {}, 6)}


def publish(connection: Connection, count: int) -> None:
    outbox = Outbox(connection)
    for number in range(count):
        event = Engagement(1_000 + number, number % 7, number % 3 + 1, "favorite")
        key, partition = key_and_partition(event, PARTITIONS)
        outbox.send(Outgoing(("engagements", partition), key, encode(event), []))
        if number % 10 == 0:
            outbox.send(Outgoing(("served", partition), key, encode(Served(1, number + count, event.viewer, (1,))), []))
    assert outbox.drain(20)


def count_until(what: Counting, wanted: dict[int, tuple[int, int]]) -> None:
    """Count until this is told, and stop."""
    job = CountingJob(what)

    def watch() -> None:
        try:
            wait_until(lambda: told(what.connection) == wanted, f"{wanted} is not told")
        finally:
            job.stop()

    watching = threading.Thread(target=watch)
    watching.start()
    job.run()
    watching.join()
    assert told(what.connection) == wanted


def told(connection: Connection) -> dict[int, tuple[int, int]]:
    """Return the last word on each post's favorites, and how often it was shown."""
    found = {}
    for _, message in read_back(connection, {("post-counts", p): 0 for p in range(PARTITIONS)}, {}):
        counts = msgspec.json.decode(message.value() or b"", type=PostCounts)
        assert message.key() == str(counts.post).encode()
        found[int(counts.post)] = counts.counts.get("favorite", 0), counts.shown
    return found


def test_counting_goes_on_where_it_stopped(real_broker: Broker, naming: Naming, tmp_path: Path) -> None:
    create_topics(real_broker.address, naming, partitions=PARTITIONS)
    connection = Connection(real_broker.address, naming)
    what = Counting(connection, tmp_path, every_s=0.2)
    publish(connection, 300)
    count_until(what, {1: (100, 30), 2: (100, 0), 3: (100, 0)})
    publish(connection, 30)
    # The first 30 engagements came again while the job was away for longer than it remembers single ones.
    count_until(what, {1: (110, 33), 2: (110, 0), 3: (110, 0)})
