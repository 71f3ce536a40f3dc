"""librdkafka's settings for this job's clients, with the reason for each; every one can be overridden."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from infra.kafka import KafkaRefused
from infra.kafka.topics import OUTPUT_BYTES_MAX

_Client = TypeVar("_Client")
Setting = str | int | float | bool
GROUP: Final = "foryou-stream"
ANSWER_TIMEOUT_S: Final = 5.0  # of a broker to an administrator's question, before it counts as unreachable

_COMMON: Final[dict[str, Setting]] = {
    "client.id": GROUP,
    # A broker that was away is found again within a second; the default doubles the wait up to ten.
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    # Partitions that appear later are known within ten seconds, not five minutes.
    "topic.metadata.refresh.interval.ms": 10_000,
    # A dead peer is noticed though nothing is sent.
    "socket.keepalive.enable": True,
}
_CONSUMER: Final[dict[str, Setting]] = {
    "group.id": GROUP,
    # Offsets are committed with the state they produced, when that is safe, and by nobody else.
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # An offset that retention has taken is an error with a name; the default jumps to the end without a word.
    "auto.offset.reset": "error",
    # All partitions of a broker share one fetch at a time: one that joins late waits until the fetch before is over.
    # Produce to consume on 128 quiet partitions of Apache Kafka: median 3.0 ms with 10 ms, 5.3 ms with the default of
    # 500. Every fetch that finds nothing costs the broker: a quiet job's six consumers half a core with 10 ms, an
    # eighth with 30. librdkafka's mock answers an empty fetch only then: 300 to 430 ms with the default.
    "fetch.wait.max.ms": 30,
    "fetch.min.bytes": 1,
    # A partition whose queue was full is fetched again at once when it has room; the default pauses it for 1 s.
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 50,
    # What is fetched and not yet polled, all partitions together: 16 MiB are a second of 50,000 events of 300 bytes.
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 16 * 1024,
    "enable.partition.eof": False,
}
# For consumers without anybody who waits: the broker answers once it has so much, or after fetch.wait.max.ms. At 1,000
# events/s it answers each 33 times a second in place of once for each batch that a producer sends.
GATHERING: Final[dict[str, Setting]] = {"fetch.min.bytes": 64 * 1024}
_PRODUCER: Final[dict[str, Setting]] = {
    # Retries neither double nor reorder, and what is acknowledged is on every replica in step.
    "enable.idempotence": True,
    "acks": "all",
    # A feed leaves at once: each millisecond here is one of every request.
    "linger.ms": 0,
    "socket.nagle.disable": True,
    "compression.type": "lz4",
    # Java's default, for messages whose partition isn't named: other producers and we agree where a key lies.
    "partitioner": "murmur2_random",
    # A broker that is away for two minutes costs nothing but time; after that deliveries fail, and say so.
    "delivery.timeout.ms": 120_000,
    "message.max.bytes": OUTPUT_BYTES_MAX,
    # What waits to be sent, at most: the default is 1 GiB of it.
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 256 * 1024,
}


def consumer_settings(address: str, overrides: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
    """Return a consumer's settings for the brokers at `address` ("host:port,host:port"), `overrides` last."""
    return {"bootstrap.servers": address, **_COMMON, **_CONSUMER, **(overrides or {})}


def producer_settings(address: str, overrides: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
    """Return a producer's settings for the brokers at `address` ("host:port,host:port"), `overrides` last."""
    return {"bootstrap.servers": address, **_COMMON, **_PRODUCER, **(overrides or {})}


def admin_settings(address: str, overrides: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
    """Return an administrator's settings for the brokers at `address` ("host:port,host:port"), `overrides` last."""
    return {"bootstrap.servers": address, **_COMMON, **(overrides or {})}


def parse_overrides(pairs: Sequence[str]) -> dict[str, Setting]:
    """Return the settings given as `name=value`, such as `sasl.username=job`; raises KafkaRefused for other forms."""
    found: dict[str, Setting] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            raise KafkaRefused(f"{pair!r} is no setting of Kafka's client: give name=value, as in linger.ms=5.")
        found[name.strip()] = value
    return found


def open_consumer(settings: Mapping[str, Setting], **callbacks: Callable[..., Any]) -> Consumer:
    """Return a consumer; callbacks by librdkafka's names (`error_cb`, `stats_cb`). KafkaRefused for bad settings."""
    return _opened(Consumer, settings, callbacks)


def open_producer(settings: Mapping[str, Setting], **callbacks: Callable[..., Any]) -> Producer:
    """Return a producer; callbacks by librdkafka's names (`error_cb`, `stats_cb`). KafkaRefused for bad settings."""
    return _opened(Producer, settings, callbacks)


def open_admin(settings: Mapping[str, Setting], **callbacks: Callable[..., Any]) -> AdminClient:
    """Return an administrator; callbacks by librdkafka's names (`error_cb`). KafkaRefused for bad settings."""
    return _opened(AdminClient, settings, callbacks)


def _opened(client: Callable[[Any], _Client], settings: Mapping[str, Setting], callbacks: Any) -> _Client:
    try:
        return client({**settings, **callbacks})
    except KafkaException as error:
        raise KafkaRefused(f"Kafka's client does not take these settings: {error.args[0].str()}.") from None
    except (TypeError, ValueError) as error:
        raise KafkaRefused(f"Kafka's client does not take these settings: {error}.") from None
