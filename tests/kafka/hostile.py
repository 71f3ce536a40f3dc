"""Messages that mean harm, from a seed, and what is to become of each."""

import random
import string
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from infra.kafka.topics import MESSAGE_BYTES_MAX
from infra.polls import latest_accepted_ms
from schemas.codec import Refused, decode, encode
from schemas.events import TOPIC_OF, Engagement, Event, FeedRequest, Follow, Mute, MuteKeyword, PostCreated, Profile
from schemas.message_keys import message_key
from tests.kafka.cluster import Cluster
from tests.kafka.events import MINUTE_MS, NOW_MS

# `unsure` is valid by itself, and may be refused for what it says of something else.
Verdict = Literal["refused", "taken", "unsure"]
TOPICS: Final = ("posts", "graph", "engagements", "feed-requests")
POST_KINDS: Final = ("post_created", "post_deleted", "post_labelled")
DEPTH: Final = 20_000
# What the broker adds to a message: headers of the batch and of the record, some 100 bytes.
OVERHEAD_BYTES: Final = 512


class Message(NamedTuple):
    """A message as a producer hands it to Kafka."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


def verdict_on(message: Message) -> Verdict:
    """Return what is to become of a message, by the schemas alone."""
    if not message.value:
        return "refused"
    try:
        event = decode(message.value, latest_accepted_ms())
    except Refused:
        return "refused"
    if TOPIC_OF[type(event)] != message.topic or getattr(event, "viewer", 1) == 0:
        return "refused"
    if message.topic == "posts":
        return "unsure"  # the id of a post that is there, with other words
    if message_key(event) != message.key:
        return "refused"
    more = isinstance(event, FeedRequest) and (event.parameters or event.cursor or event.posts or event.inserts)
    return "unsure" if more else "taken"


class Hostile:
    """Makes hostile messages. Only viewers named victim-... and posts named h... are meant, nobody else."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster, self._rng = cluster, random.Random(seed)
        self._last = self._mutated()
        self._kinds: list[tuple[int, Callable[[], Message]]] = [
            (52, self._mutated), (15, self._noise), (8, self._wrong_key), (5, self._nothing), (5, self._stray),
            (5, self._strange), (1, self._parameters), (8, lambda: self._last), (1, self._deep),
        ]  # fmt: skip

    def next(self) -> Message:
        """Return one message."""
        weights, kinds = zip(*self._kinds, strict=True)
        self._last = self._rng.choices(kinds, weights)[0]()
        return self._last

    def huge(self) -> Message:
        """Return a message as large as the topic takes."""
        start = b'{"kind":"post_created","at":1,"post":"h","author":"mallory","text":"'
        noise = "".join(self._rng.choices(string.ascii_letters, k=MESSAGE_BYTES_MAX - len(start) - OVERHEAD_BYTES))
        return Message("posts", 0, b"mallory", start + noise.encode() + b'"}')

    def _event(self) -> Event:
        rng = self._rng
        number, at_ms = rng.randrange(1000), NOW_MS - rng.randrange(60) * MINUTE_MS
        viewer, other = f"victim-{number}", f"victim-{rng.randrange(1000)}"
        # Requests are few: what is to be seen is the work that others make, not that of ranking more feeds.
        return rng.choices((
            PostCreated(at_ms, f"h{number}", f"mallory-{number}", "words ä ö \U0001f600", "en", ("films",)),
            Engagement(at_ms, viewer, rng.randrange(1, 41), "reply", dwell_s=2.5),
            Follow(at_ms, viewer, other), Mute(at_ms, viewer, other), MuteKeyword(at_ms, viewer, "words"),
            Profile(at_ms, viewer, at_ms, 3), FeedRequest(at_ms, f"h{number}", viewer, seen_ids=(1, "h1")),
        ), (4, 8, 4, 4, 4, 4, 1))[0]  # fmt: skip

    def _as_message(self, event: Event, value: bytes | None = None) -> Message:
        partition = self._cluster.partition_of(event)
        return Message(TOPIC_OF[type(event)], partition, message_key(event), encode(event) if value is None else value)

    def _mutated(self) -> Message:
        rng, event = self._rng, self._event()
        value = bytearray(encode(event))
        for _ in range(rng.randrange(1, 4)):
            place, end = sorted(rng.choices(range(len(value) + 1), k=2))
            change = rng.randrange(5)
            if change == 0 and place < len(value):
                value[place] ^= 1 << rng.randrange(8)
            elif change == 1:
                value[place:place] = rng.randbytes(rng.randrange(1, 4))
            elif change == 2:
                del value[place : place + rng.randrange(1, 9)]
            elif change == 3:
                value[place:place] = value[place:end]
            else:
                value[place:place] = rng.choice(
                    (b"9" * 30, b"null", b'"', b"\\ud800", b"-", b"1e999", b"\\u0000", b"[")
                )
        return self._as_message(event, bytes(value))

    def _noise(self) -> Message:
        rng = self._rng
        size = rng.randrange(1, 300)
        key = rng.randbytes(rng.randrange(1, 40))
        return Message(rng.choice(TOPICS), rng.randrange(self._cluster.partitions), key, rng.randbytes(size))

    def _wrong_key(self) -> Message:
        message = self._as_message(self._event())
        # A compacted topic takes nothing without a key.
        keys = [b"", b"victim", b"\xff" * 8, None]
        key = self._rng.choice(keys[: 3 if message.topic == "graph" else 4])
        return message._replace(key=key, partition=self._rng.randrange(self._cluster.partitions))

    def _nothing(self) -> Message:
        return self._noise()._replace(value=self._rng.choice((b"", None)))

    def _stray(self) -> Message:
        return self._as_message(self._event())._replace(topic=self._rng.choice(TOPICS))

    def _strange(self) -> Message:
        """Return a whole event with one field that is a world of its own."""
        event = self._event()
        fields = msgspec.to_builtins(event)
        name = self._rng.choice(list(fields))
        fields[name] = self._rng.choice(
            (0, -1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40, 1.5, True, None, "", "x" * 65, "ä" * 64, "\u0000",
             "\u202e", [], [[]], {}, {"at": {}}, int(time.time() * 1000) + 10**9, "post_created")
        )  # fmt: skip
        # Python's own integers are larger than msgspec's writer knows.
        text = "{" + ",".join(f'"{key}":{_json(value)}' for key, value in fields.items()) + "}"
        return self._as_message(event, text.encode())

    def _parameters(self) -> Message:
        rng = self._rng
        names = ("selection.result_size", "selection.candidates_max", "serving.waiting_max", "nothing.there", "", ".")
        values = (0, -1, 10**12, 1.5, True, "", "x", "{0.__class__}")
        parameters = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(1, 4))}
        number = rng.randrange(1000)
        return self._as_message(FeedRequest(NOW_MS, f"h{number}", f"victim-{number}", parameters=parameters))

    def _deep(self) -> Message:
        event = self._event()
        opened = self._rng.choice((b"[", b'{"a":'))
        inner = self._rng.choice((opened * DEPTH, b"[" * DEPTH + b"]" * DEPTH))
        whole = encode(event)
        return self._as_message(event, self._rng.choice((inner, whole[:-1] + b',"more":' + inner + b"}")))


def _json(value: object) -> str:
    return str(value) if type(value) is int else msgspec.json.encode(value).decode()
