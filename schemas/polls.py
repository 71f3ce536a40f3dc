"""One poll of a source: raw bytes of all topics, as they go from sources (infra) into a flow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RawPoll:
    """Lines or messages in order, as columns of one length.

    No other event follows a request within a poll: a recorded log is cut after each. So whatever a flow does poll by
    poll is done in the order of the log. `errors` maps a place in the columns to what is wrong with it
    before any decoding; `read_at_s` is `time.perf_counter()` when the poll was read, `at_max` the latest event time
    (milliseconds) accepted then.
    """

    raw: Sequence[bytes]
    topics: Sequence[str]
    partitions: Sequence[int]
    offsets: Sequence[int]
    read_at_s: float
    at_max: int
    errors: Mapping[int, str] = field(default_factory=dict)
