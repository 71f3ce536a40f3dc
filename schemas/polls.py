"""One poll of a source: raw bytes of all topics, as they go from sources (infra) into a flow."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class RawPoll:
    """Lines or messages in order, as columns of one length.

    No event of another kind follows a request within a poll: a recorded log is cut after each. So whatever a flow does
    poll by poll is done in the order of the log. `errors` maps a place in the columns to what is wrong with it
    before any decoding; `read_at_s` is `time.perf_counter()` when the poll was read, `at_max` the latest event time
    (milliseconds) accepted then.

    On Kafka `keys` are those of the messages, which decide on the partition; in a recorded log there are none, and the
    partition follows from the viewer; `published_ms` are the messages' own times. `headers` are given by their places,
    of requests and features; `shed` says which requests are too many to be answered, `standing` that they come from a
    queue that has not been empty for long.
    """

    raw: Sequence[bytes]
    topics: Sequence[str]
    partitions: Sequence[int]
    offsets: Sequence[int]
    read_at_s: float
    at_max: int
    errors: Mapping[int, str] = field(default_factory=dict)
    keys: Sequence[bytes | None] | None = None
    published_ms: Sequence[int] = ()
    headers: Mapping[int, Headers] = field(default_factory=dict)
    shed: AbstractSet[int] = frozenset()
    standing: bool = False
