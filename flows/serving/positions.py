"""How far the state is: stored beside it in the same commit, and where an instance begins by it."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING

from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS, Place
from schemas.events import ModelAnnounced

FEEDS: Final = "feeds"
SERVED: Final = "served"
SERVED_FEATURES: Final = "served-features"  # sent before their feed: where there is none, they are made again
DEAD_LETTERS: Final = "dead-letters"
SHADOW_SCORES: Final = "shadow-scores"  # nobody needs to know how far it is
MODELS: Final = "models"
OUTPUTS: Final = (FEEDS, SERVED, DEAD_LETTERS)


class Positions(msgspec.Struct, array_like=True):
    """What a store says of itself: the next offset of every partition it has taken in, by topic.

    `outputs` are the offsets in its partition of our own topics from which on there may be messages that it does not
    know of. `clock_ms` is the job's clock, `announced` the models in force that were announced, by cluster.
    """

    inputs: dict[str, dict[int, int]] = {}
    outputs: dict[str, int] = {}
    clock_ms: int = 0
    announced: dict[str, ModelAnnounced] = {}

    def encoded(self) -> bytes:
        """Return the bytes of a store's `meta`."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, meta: bytes) -> "Positions":
        """Return positions from a store's `meta`; those of a new store are empty."""
        return msgspec.msgpack.decode(meta, type=cls) if meta else cls()

    def of(self, topic: str, partition: int) -> int:
        """Return the next offset of a partition, its beginning where nothing was taken in."""
        return self.inputs.get(topic, {}).get(partition, OFFSET_BEGINNING)


def starts(
    viewers: Mapping[int, Positions], posts: Positions, partitions: Mapping[str, int], owned: Iterable[int]
) -> dict[Place, int]:
    """Return where to begin in each partition.

    The graph is read whole by every instance and taken in by every viewer partition; it begins where the last of them
    is. To take in the same changes again, in their order, ends in the same relations.
    """
    owned = list(owned)
    context, graph = CONTEXT
    found: dict[Place, int] = {(context, one): posts.of(context, one) for one in range(partitions[context])}
    for partition in range(partitions[graph]):
        found[graph, partition] = min(viewers[one].of(graph, partition) for one in owned)
    for topic in (*ENGAGEMENTS, REQUESTS):
        found |= {(topic, one): viewers[one].of(topic, one) for one in owned}
    return found
