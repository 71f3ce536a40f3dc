"""Headers say where a message comes from, survive a broker, and never break on what others write."""

import pytest
from confluent_kafka import TopicPartition

from infra.kafka.admin import create_topics
from infra.kafka.broker import Broker
from infra.kafka.headers import (
    REASON_BYTES_MAX,
    Origin,
    origin_headers,
    parse_origin,
    schema_header,
    trace_headers,
)
from infra.kafka.settings import consumer_settings, open_consumer, open_producer, producer_settings
from infra.kafka.topics import Naming

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # the W3C recommendation's own example


def test_what_is_said_of_an_origin_is_read() -> None:
    for origin in (
        Origin("test1.posts", 3, 2**62, 1_700_000_000_000, "not JSON: é"),
        Origin("feed-requests", 0, 0, -1),
    ):
        headers = origin_headers(origin.topic, origin.partition, origin.offset, origin.timestamp_ms, origin.reason)
        assert parse_origin([schema_header("feed/1"), *headers]) == origin


def test_headers_survive_the_broker(real_broker: Broker, naming: Naming) -> None:
    address, topic = real_broker.address, naming.of("dead-letters")
    create_topics(address, naming, partitions=1)
    headers = [schema_header("dead-letter/1"), ("traceparent", TRACE), *origin_headers("posts", 1, 2, 3, "too long")]
    producer = open_producer(producer_settings(address))
    producer.produce(topic, b"", partition=0, headers=headers)
    assert producer.flush(20) == 0
    consumer = open_consumer(consumer_settings(address))
    consumer.assign([TopicPartition(topic, 0, 0)])
    (message,) = consumer.consume(1, timeout=20)
    consumer.close()
    assert message.headers() == headers
    assert parse_origin(message.headers()) == Origin("posts", 1, 2, 3, "too long")
    assert trace_headers(message.headers()) == [("traceparent", TRACE)]


@pytest.mark.parametrize("size", [REASON_BYTES_MAX - 1, REASON_BYTES_MAX, REASON_BYTES_MAX + 1, 10**6])
def test_a_long_reason_is_cut_between_characters(size: int) -> None:
    reason = dict(origin_headers("posts", 0, 0, 0, "é" * size))["reason"]
    assert REASON_BYTES_MAX - 1 <= len(reason) <= REASON_BYTES_MAX
    assert set(reason.decode()) == {"é"}


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("origin-topic", b"posts")],
        [("origin-topic", None), *origin_headers("posts", 0, 0, 0)[1:]],
        [*origin_headers("posts", 0, 0, 0), ("origin-offset", b"x")],
        [*origin_headers("posts", 0, 0, 0), ("origin-offset", None)],
        [*origin_headers("posts", 0, 0, 0), ("origin-offset", b"9" * 5000)],
        [*origin_headers("posts", 0, 0, 0), ("origin-offset", "٣".encode())],
    ],
)
def test_an_origin_not_told_in_full_is_none(headers: list[tuple[str, bytes | None]] | None) -> None:
    assert parse_origin(headers) is None


def test_bytes_that_are_no_text_are_read_all_the_same() -> None:
    found = parse_origin([*origin_headers("posts", 0, 0, 0), ("reason", b"\xff"), ("origin-topic", b"\xffposts")])
    assert found == Origin("\ufffdposts", 0, 0, 0, "\ufffd")


def test_a_trace_goes_on_and_what_is_no_trace_does_not() -> None:
    assert trace_headers([("a", b"1"), ("traceparent", TRACE)]) == [("traceparent", TRACE)]
    later = TRACE.replace(b"00-4", b"01-4") + b"-what-comes-later"
    assert trace_headers([("traceparent", later)]) == [("traceparent", later)]
    for wrong in (
        None,
        b"",
        TRACE[:-1],
        TRACE.upper(),
        b"ff" + TRACE[2:],
        b"00-" + b"0" * 32 + TRACE[35:],
        TRACE + b"\n",
    ):
        assert trace_headers([("traceparent", wrong)]) == []
    assert trace_headers(None) == []
