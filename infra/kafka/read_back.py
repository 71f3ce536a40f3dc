"""Reads partitions from an offset up to where they end now, and stops."""

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Message

from infra.kafka import KafkaRefused
from infra.kafka.inbox import Connection, Lane, Place

MESSAGES_AT_ONCE = 1000
# A broker that recovers after a kill may be silent for seconds; what was not read counts as never sent.
SILENCE_S = 20.0


def read_back(
    connection: Connection, starts: Mapping[Place, int], ends: dict[Place, int]
) -> Iterator[tuple[Place, Message]]:
    """Yield the messages from each start on, or from the first that is left; `ends` is told where partitions end now.

    Raises KafkaRefused where a partition can't be read to its end: what is not known to have been sent is sent again.
    """
    if not starts:
        return
    lane = Lane(connection, starts, lost="earliest")
    try:
        left = {}
        for place, start in starts.items():
            low, ends[place] = lane.bounds(place)
            if max(low, start) < ends[place]:
                left[place] = ends[place]
        while left:
            if time.monotonic() - lane.heard_at_s > SILENCE_S:
                (topic, partition), end = next(iter(left.items()))
                raise KafkaRefused(
                    f"{topic}[{partition}] can't be read up to {end}: the broker says nothing for {SILENCE_S:g} s."
                )
            messages = lane.poll(MESSAGES_AT_ONCE)
            if not messages:
                time.sleep(0.001)
            for message in messages:
                place = lane.table_name(str(message.topic())), int(message.partition() or 0)
                offset = int(message.offset() or 0)
                if offset < ends[place]:
                    yield place, message
                if offset + 1 >= ends[place]:
                    left.pop(place, None)
    finally:
        lane.close()
