"""Users who were deleted, for those who make examples and learn from them: read from `graph`, whole at each start.

As a global table: `graph` is compacted and keeps every deletion, and nothing has to be stored of it. Its other messages
are told from deletions by their keys, and passed over unread.
"""

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Message

from infra.kafka.inbox import BULK_PER_POLL, BULK_PER_POLL_LOADING, SILENCE_S, Connection, Lane, Place
from infra.operations import get_log
from schemas.codec import Refused, decode
from schemas.events import UserDeleted
from schemas.ids import key_of
from schemas.message_keys import message_key

log = get_log("deletions")

GRAPH: Final = "graph"
# What the keys of deletions end with.
MARK: Final = b'"user_deleted"]'
WAIT_S: Final = 0.001
# Whenever somebody was deleted it has happened: by which clock is no matter.
_ANY_TIME: Final = 2**53


class Deletions:
    """The keys of users who were deleted, of some partitions of viewers; it only grows."""

    def __init__(self, connection: Connection, partitions: Iterable[int]) -> None:
        """Read all that is there by now. Raises KafkaRefused."""
        self._lane = Lane(connection, {(GRAPH, one): OFFSET_BEGINNING for one in partitions}, lost="earliest")
        self._keys: set[int] = set()
        self._untold: list[tuple[int, int]] = []
        left = {place: end for place in self._lane.starts if (end := self._end(place))}
        while left:
            messages = self._lane.poll(BULK_PER_POLL_LOADING)
            self._note(messages)
            for message in messages:
                place = (GRAPH, int(message.partition() or 0))
                if int(message.offset() or 0) + 1 >= left.get(place, 0):
                    left.pop(place, None)
            # A compacted partition may end in what nobody sees any more; a broker that answers has no more then.
            if not messages and time.monotonic() - self._lane.heard_at_s > SILENCE_S:
                self._lane.ends()
                break
            if not messages:
                time.sleep(WAIT_S)

    def _end(self, place: Place) -> int:
        """Return one past the last message of a partition, 0 where it holds none."""
        low, high = self._lane.bounds(place)
        return high if low < high else 0

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def take(self) -> list[tuple[int, int]]:
        """Return the keys of users whose deletion was read since the last call, each with its partition."""
        self._note(self._lane.poll(BULK_PER_POLL))
        told, self._untold = self._untold, []
        return told

    def _note(self, messages: list[Message]) -> None:
        for message in messages:
            name = message.key() or b""
            if not name.endswith(MARK):
                continue
            try:
                event = decode(message.value() or b"", _ANY_TIME)
            except Refused as refused:
                # `serve` has a letter about it.
                log.debug("no_deletion", partition=message.partition(), offset=message.offset(), reason=str(refused))
                continue
            if isinstance(event, UserDeleted) and message_key(event) == name:
                self._keys.add(key_of(event.viewer))
                self._untold.append((key_of(event.viewer), int(message.partition() or 0)))

    def close(self) -> None:
        """Leave."""
        self._lane.close()
