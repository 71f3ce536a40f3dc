"""One request over Kafka: published, and its feed waited for, as a client of the job does."""

import time
from typing import Final

import msgspec

from flows.terminal import Refusal
from infra.kafka.headers import SCHEMA
from infra.kafka.inbox import Connection, Lane
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import TOPIC, key_and_partition
from schemas.codec import encode
from schemas.events import FeedRequest
from schemas.feeds import Feed

FEEDS: Final = "feeds"
REQUESTS: Final = "feed-requests"


def ask(connection: Connection, request: FeedRequest, timeout_s: float) -> Feed:
    """Publish a request and return the feed that comes back.

    Raises KafkaRefused where the broker can't be reached, and Refusal where no feed comes in time.
    """
    probe = Lane(connection, {(FEEDS, 0): 0}, lost="latest")
    partitions = probe.partitions(FEEDS)
    probe.close()
    if not partitions:
        raise Refusal(f"topic {connection.naming.of(FEEDS)} is not there: create the topics with `topics create`")
    key, partition = key_and_partition(request, partitions)
    place = (FEEDS, partition)
    lane = Lane(connection, {place: 0}, lost="latest")
    lane.start_at(place, lane.bounds(place)[1])
    outbox = Outbox(connection)
    headers = [(SCHEMA, TOPIC[REQUESTS].schema.encode())]
    outbox.send(Outgoing((REQUESTS, partition), key, encode(request), headers))
    end_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < end_s:
            outbox.poll()
            for message in lane.poll(100):
                feed = msgspec.json.decode(message.value() or b"", type=Feed)
                if feed.request == request.request:
                    return feed
            time.sleep(0.0005)
    finally:
        lane.close()
    raise Refusal(f"no feed within {timeout_s:g} s: is a job running that owns partition {partition} of {place[0]}?")
