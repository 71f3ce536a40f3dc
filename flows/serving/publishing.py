"""A recorded log onto Kafka: each event on its topic and partition, as fast as asked for."""

import time
from collections.abc import Callable
from pathlib import Path

from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection
from infra.kafka.outbox import Outbox, Outgoing
from infra.kafka.topics import TOPIC, key_and_partition
from infra.logs.reader import LogReader
from infra.polls import latest_accepted_ms
from schemas.codec import Refused, decode
from schemas.events import TOPIC_OF

Told = Callable[[float, float], None]
# Messages on their way at most: beyond it the log is read no faster than the broker takes it.
ON_THEIR_WAY_MAX = 50_000


def publish(
    connection: Connection, log: Path, partitions: int, rate_hz: float = 0, progress: Told | None = None
) -> dict[str, int]:
    """Publish a log's events in their order; return how many went to each topic, bad lines under "refused".

    Bad lines go nowhere: they have no key. What a log says was served stays out, since the job says it itself.
    `rate_hz` is events a second, 0 for as many as the broker takes.
    Raises LogRefused and KafkaRefused.
    """
    reader, outbox = LogReader(log), Outbox(connection)
    headers = {topic: [schema_header(one.schema)] for topic, one in TOPIC.items()}
    counts: dict[str, int] = {}
    start_s, sent, at_max = time.monotonic(), 0, latest_accepted_ms()
    for batch in reader.batches():
        for line in batch.raw:
            try:
                event = decode(line, at_max)
            except Refused:
                counts["refused"] = counts.get("refused", 0) + 1
                continue
            topic = TOPIC_OF[type(event)]
            if TOPIC[topic].ours:
                continue  # what was served then is not what this job serves
            key, partition = key_and_partition(event, partitions)
            outbox.send(Outgoing((topic, partition), key, line, headers[topic]))
            counts[topic] = counts.get(topic, 0) + 1
            sent += 1
            if sent % 256 == 0:
                outbox.poll()
                while len(outbox.unacknowledged()) > ON_THEIR_WAY_MAX:
                    outbox.poll(0.01)
                if rate_hz:
                    time.sleep(max(0.0, start_s + sent / rate_hz - time.monotonic()))
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
    outbox.drain(timeout_s=60)
    return counts
