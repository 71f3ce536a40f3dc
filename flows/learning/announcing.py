"""Published models are told of on Kafka, so that jobs which are running take them up."""

from typing import Final

from flows.learning.example_sources import partitions_of
from infra.kafka import KafkaRefused
from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection
from infra.kafka.outbox import DeliveryFailed, Outbox, Outgoing
from infra.kafka.topics import TOPIC, key_and_partition
from models.registry import Entry
from schemas.codec import encode
from schemas.events import ModelAnnounced

MODELS: Final = "models"
DRAIN_S: Final = 30.0


def announcement(entry: Entry, at_ms: int) -> ModelAnnounced:
    """Return the announcement of a published model at a time of the stream.

    Its checkpoint is named alone: it lies in the folder of models that the job was given, wherever that is mounted.
    """
    return ModelAnnounced(at_ms, entry.version, entry.path.name, entry.sha256)


class Announcer:
    """Announces models on the topic models. Raises KafkaRefused where that is not there."""

    def __init__(self, connection: Connection) -> None:
        self._partitions = partitions_of(connection, MODELS)
        self._outbox = Outbox(connection)

    def __call__(self, entry: Entry, at_ms: int) -> None:
        """Announce a model and wait until the broker has it; raises KafkaRefused where it does not take it."""
        event = announcement(entry, at_ms)
        key, partition = key_and_partition(event, self._partitions)
        headers = [schema_header(TOPIC[MODELS].schema)]
        self._outbox.send(Outgoing((MODELS, partition), key, encode(event), headers))
        try:
            taken = self._outbox.drain(DRAIN_S)
        except DeliveryFailed as failed:
            raise KafkaRefused(f"{failed}: start again when the broker is back.") from None
        if not taken:
            raise KafkaRefused(f"the broker took no announcement for {DRAIN_S:g} s: start again when it is back.")
