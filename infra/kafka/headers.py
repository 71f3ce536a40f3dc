"""Record headers: the schema of the value, the trace it belongs to, and the message that it comes from."""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

Headers = list[tuple[str, bytes]]

SCHEMA: Final = "schema"
TRACEPARENT: Final = "traceparent"
ORIGIN_TOPIC: Final = "origin-topic"
ORIGIN_PARTITION: Final = "origin-partition"
ORIGIN_OFFSET: Final = "origin-offset"
ORIGIN_TIMESTAMP: Final = "origin-timestamp"
REASON: Final = "reason"
REASON_BYTES_MAX: Final = 1024

# https://www.w3.org/TR/trace-context/: version, trace id, parent id and flags; ids of zeros alone are invalid, and
# so is version ff. Later versions may add fields behind a dash.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{0,200})?"
)
_NUMBER: Final = re.compile(rb"-?\d{1,19}")


class Origin(Struct, frozen=True, gc=False):
    """The message that another comes from: a feed's request, or what a dead letter holds.

    `timestamp_ms` is the message's own, -1 where it has none; `reason` says why it was refused, "" for a feed.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str = ""


def schema_header(schema: str) -> tuple[str, bytes]:
    """Return the header with the id of the value's schema, such as `feed/1`."""
    return SCHEMA, schema.encode()


def trace_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> Headers:
    """Return the trace context of an incoming message, to send on: one header, or none where it is absent or wrong."""
    value = _last(headers, TRACEPARENT)
    return [(TRACEPARENT, value)] if value is not None and _TRACEPARENT.fullmatch(value) else []


def origin_headers(topic: str, partition: int, offset: int, timestamp_ms: int, reason: str = "") -> Headers:
    """Return the headers that say where a message comes from; a reason is cut to REASON_BYTES_MAX bytes."""
    headers = [
        (ORIGIN_TOPIC, topic.encode()),
        (ORIGIN_PARTITION, b"%d" % partition),
        (ORIGIN_OFFSET, b"%d" % offset),
        (ORIGIN_TIMESTAMP, b"%d" % timestamp_ms),
    ]
    if reason:
        cut = reason.encode(errors="replace")[:REASON_BYTES_MAX]
        headers.append((REASON, cut.decode(errors="ignore").encode()))
    return headers


def parse_origin(headers: Sequence[tuple[str, bytes | None]] | None) -> Origin | None:
    """Return where a message comes from, None where its headers don't say so in full; never raises."""
    topic = _last(headers, ORIGIN_TOPIC)
    numbers = [_last(headers, name) for name in (ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP)]
    if topic is None or not all(number is not None and _NUMBER.fullmatch(number) for number in numbers):
        return None
    partition, offset, timestamp_ms = (int(number or b"") for number in numbers)
    reason = _last(headers, REASON) or b""
    return Origin(topic.decode(errors="replace"), partition, offset, timestamp_ms, reason.decode(errors="replace"))


def _last(headers: Sequence[tuple[str, bytes | None]] | None, name: str) -> bytes | None:
    """Return the last header of a name, which is the one that counts where there are several."""
    return next((value for key, value in reversed(headers or ()) if key == name), None)
