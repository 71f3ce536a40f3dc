"""Keys of Kafka messages and the partitions they go to: Kafka's own default, murmur2 over the key's bytes."""

from typing import Final

import orjson

from schemas.events import (
    POST_EVENTS,
    Block,
    Event,
    Follow,
    ModelAnnounced,
    Mute,
    MuteKeyword,
    Profile,
    Subscribe,
    UserDeleted,
)
from schemas.ids import Id

_AUTHOR_KINDS: Final = {Follow: "follow", Block: "block", Mute: "mute", Subscribe: "subscribe"}

# Constants of MurmurHash2 as Kafka's clients use it, seed included.
_MULTIPLIER: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_32_BITS: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit hash that Kafka's default partitioner takes of a key."""
    length = len(data)
    whole = length & ~3
    h = _SEED ^ length
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _32_BITS
        k = (k ^ (k >> 24)) * _MULTIPLIER & _32_BITS
        h = (h * _MULTIPLIER & _32_BITS) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _32_BITS
    h = (h ^ (h >> 13)) * _MULTIPLIER & _32_BITS
    return h ^ (h >> 15)


def key_of_id(identity: Id) -> bytes:
    """Return the key of messages that go by an id: its text."""
    return str(identity).encode()


def partition_of_id(identity: Id, partitions: int) -> int:
    """Return the partition that messages keyed by an id go to."""
    return (murmur2(key_of_id(identity)) & 0x7FFFFFFF) % partitions


def message_key(event: Event) -> bytes:
    """Return the key of an event's message.

    A change of the graph is keyed by what it changes (`[7,"follow",9]`), not by its viewer alone: the topic is
    compacted, and only the last message of each key stays. Its partition is that of the viewer all the same.
    """
    if isinstance(event, Profile):
        return orjson.dumps([event.viewer, "profile"])
    if isinstance(event, UserDeleted):
        return orjson.dumps([event.viewer, "user_deleted"])
    if isinstance(event, MuteKeyword):
        return orjson.dumps([event.viewer, "mute_keyword", event.keyword])
    if isinstance(event, Follow | Block | Mute | Subscribe):
        return orjson.dumps([event.viewer, _AUTHOR_KINDS[type(event)], event.author])
    return key_of_id(_named(event))


def message_partition(event: Event, partitions: int) -> int:
    """Return the partition of an event's message: that of its viewer, of a post's author, of a model's cluster."""
    return partition_of_id(_named(event), partitions)


def _named(event: Event) -> Id:
    if isinstance(event, ModelAnnounced):
        return event.cluster
    return event.author if isinstance(event, POST_EVENTS) else event.viewer
