"""What the flow of post counts tells, read by every instance: from its beginning at each start, as a global table."""

from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING

from infra.kafka.inbox import BULK_PER_POLL, Connection, Lane
from infra.operations import get_log
from operators.posts.live import LivePosts
from schemas.feeds import Feed, PostCounts
from schemas.ids import key_of

log = get_log("counts")

COUNTS: Final = "post-counts"
_decoder: Final = msgspec.json.Decoder(PostCounts)


class Counts:
    """Keeps the counts of the live posts up, a bounded number of messages a turn."""

    def __init__(self, connection: Connection, partitions: int, posts: LivePosts) -> None:
        starts = {(COUNTS, partition): OFFSET_BEGINNING for partition in range(partitions)}
        self._lane = Lane(connection, starts, lost="earliest", gathers=True)
        self._posts = posts

    def take(self) -> None:
        """Take in what has come."""
        told = []
        for message in self._lane.poll(BULK_PER_POLL):
            try:
                told.append(_decoder.decode(message.value() or b""))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.warning("not_counts", partition=message.partition(), offset=message.offset(), reason=str(error))
        if told:
            self._posts.counts.put(told)
            self._posts.forget_counts()

    def shown(self, feed: Feed) -> Feed:
        """Return a feed with the counts of its posts."""
        counts = self._posts.counts
        items = tuple(msgspec.structs.replace(item, counts=counts.of(key_of(item.post))) for item in feed.items)
        return msgspec.structs.replace(feed, items=items)

    def close(self) -> None:
        """Leave."""
        self._lane.close()
