"""The floor: a job that does nothing. Requests are answered with a feed of the usual size, by the job's own clients.

`python -m benchmarks.kafka.echo ADDRESS PREFIX FEED_BYTES`, until SIGTERM. What it takes from request to feed is
broker, clients and the 1 ms at which Bytewax comes back to its source.
"""

import sys
import time

import msgspec
from confluent_kafka import OFFSET_BEGINNING

from infra.kafka.headers import schema_header
from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS, Connection, Inbox
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import PARTITIONS, TOPIC, Naming
from schemas.events import FeedRequest


def main() -> None:
    """Answer."""
    connection = Connection(sys.argv[1], Naming(sys.argv[2]))
    topics = (*CONTEXT, *ENGAGEMENTS, REQUESTS)
    places = [(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    inbox, outbox = Inbox(connection, dict.fromkeys(places, OFFSET_BEGINNING), 256), Outbox(connection)
    request = msgspec.json.Decoder(FeedRequest)
    headers, filling = [schema_header(TOPIC["feeds"].schema)], "x" * int(sys.argv[3])
    print("ready", flush=True)
    while True:
        outbox.poll()
        poll = inbox.poll(4)
        if poll is None:
            time.sleep(0.001)
            continue
        for place, topic in enumerate(poll.topics):
            if topic == REQUESTS and poll.keys is not None:
                event = request.decode(poll.raw[place])
                feed: dict[str, object] = {
                    "request": event.request,
                    "viewer": event.viewer,
                    "items": [],
                    "filling": filling,
                }
                to = ("feeds", poll.partitions[place])
                outbox.send(Outgoing(to, poll.keys[place], msgspec.json.encode(feed), headers))


if __name__ == "__main__":
    main()
