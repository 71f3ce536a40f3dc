"""Broken lines put into a log on purpose, so that tests and the demo show what becomes of them."""

import os
from collections import Counter
from typing import Final

import msgspec
import numpy as np

from infra.logs import LogReader, LogWriter
from schemas.codec import decode, encode
from schemas.events import TOPIC_OF, Engagement, PostCreated, PostDeleted

FAR_FUTURE_MS: Final = 4_102_444_800_000  # the year 2100
TEXT_CHARACTERS: Final = 100_000

# Each of these is refused by schemas.codec.decode, or is valid and strange: a second post of one id, a deletion of a
# post that is not there, an engagement with one.
FAULTS: Final = (
    "truncated",
    "unknown_action",
    "unknown_kind",
    "wrong_type",
    "negative_time",
    "far_future",
    "long_id",
    "long_text",
    "duplicate_post",
    "early_delete",
    "unknown_post",
)
VALID_FAULTS: Final = frozenset({"duplicate_post", "early_delete", "unknown_post"})


def inject_faults(
    log: str | os.PathLike[str], out: str | os.PathLike[str], rate: float, seed: int = 0
) -> dict[str, int]:
    """Copy a valid log to `out` with a share `rate` of extra faulty lines between its own, all of which are kept.

    Returns how many of each of FAULTS were put in; the same seed gives the same bytes. The log may be a folder.
    """
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    with LogWriter(out) as writer:
        for batch in LogReader(log).batches():
            faulty = rng.random(len(batch.raw)) < rate
            for place, raw in enumerate(batch.raw):
                event = decode(raw)
                topic = TOPIC_OF[type(event)]
                if faulty[place]:
                    fault = FAULTS[int(rng.integers(len(FAULTS)))]
                    line, line_topic = _fault(fault, raw, topic, event.at, counts[fault])
                    writer.write_raw(line_topic, [line])
                    counts[fault] += 1
                writer.write_raw(topic, [raw])
    return dict(counts)


def _fault(fault: str, raw: bytes, topic: str, at: int, number: int) -> tuple[bytes, str]:
    """Return one faulty line and its topic; `raw` is the line that will follow it."""
    post = f"fault-{fault}-{number}"
    if fault == "truncated":
        return raw[: len(raw) * 2 // 3], topic
    if fault == "duplicate_post":
        return (raw, topic) if isinstance(decode(raw), PostCreated) else (_twice(at), "posts")
    if fault == "early_delete":
        return encode(PostDeleted(at, post, "fault")), "posts"
    if fault == "unknown_post":
        return encode(Engagement(at, "fault", post, "favorite")), "engagements"
    engagement = msgspec.to_builtins(Engagement(at, "fault", post, "favorite"))
    changed: dict[str, object] = {
        "unknown_action": {"action": "adore"},
        "unknown_kind": {"kind": "rumour"},
        "wrong_type": {"viewer": [1, 2]},
        "negative_time": {"at": -at},
        "far_future": {"at": FAR_FUTURE_MS},
        "long_id": {"viewer": "x" * 65},
        "long_text": msgspec.to_builtins(PostCreated(at, post, "fault")) | {"text": "x" * TEXT_CHARACTERS},
    }[fault]
    return msgspec.json.encode(engagement | changed), "posts" if fault == "long_text" else "engagements"


def _twice(at: int) -> bytes:
    """Return a post of an id that all such lines share."""
    return encode(PostCreated(at, "fault-twice", "fault", text="The same post again."))
