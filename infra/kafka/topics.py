"""The table of topics, from which they are created, checked and documented; where each message goes."""

import re
from typing import Final, Literal

from msgspec import Struct

from infra.kafka import KafkaRefused
from schemas.events import Event
from schemas.message_keys import message_key, message_partition

# Of every topic: an instance k of n owns the partitions p with p mod n = k, of all topics the same, so that all of a
# viewer meets in one place. Sixteen allow sixteen instances; the number can't change once there are messages.
PARTITIONS: Final = 16
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
STORE_RETENTION_S: Final = 2 * DAY_S  # how long a post stays live unless parameters say otherwise (posts.retention_s)
MESSAGE_BYTES_MAX: Final = 1_048_588  # Kafka's own default
# Of what we write: an explained feed of 200 posts, or a dead letter around the largest input in base64.
OUTPUT_BYTES_MAX: Final = 4 << 20
NAME_MAX: Final = 249  # Kafka's own limit

Key = Literal["author", "viewer", "change", "post", "cluster", "source"]
Policy = Literal["delete", "compact", "compact,delete"]


class Topic(Struct, frozen=True):
    """One row of the table.

    `key` is what messages are keyed by; `change` is a change of the graph, whose partition is its viewer's; `source`
    is the refused message's own key. `retention_s` is what the topic is created with, None for ever;
    `retention_min_s` is what the job can't do without, at least the store's retention where `for_store`.
    `schema` is the id in the record header of that name. Messages carry the time at which the broker took them where
    `broker_time`, else that of their producer.
    """

    name: str
    schema: str
    key: Key
    carries: str
    ours: bool  # written by the job
    policy: Policy = "delete"
    retention_s: int | None = None
    retention_min_s: int = 0
    for_store: bool = False
    message_bytes_max: int = MESSAGE_BYTES_MAX
    broker_time: bool = False

    def retention_needed_s(self, store_retention_s: int) -> int | None:
        """Return the least retention that the job can do with, None for ever."""
        if self.retention_s is None:
            return None
        return max(self.retention_min_s, store_retention_s) if self.for_store else self.retention_min_s

    def config(self, store_retention_s: int = STORE_RETENTION_S) -> dict[str, str]:
        """Return the settings of Kafka's that the topic is created with."""
        needed_s = self.retention_needed_s(store_retention_s)
        retention_s = None if self.retention_s is None or needed_s is None else max(self.retention_s, needed_s)
        return {
            "cleanup.policy": self.policy,
            "retention.ms": "-1" if retention_s is None else str(retention_s * 1000),
            "max.message.bytes": str(self.message_bytes_max),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }


TABLE: Final[tuple[Topic, ...]] = (
    # A day more than the store keeps posts: a job that was away for a day still finds all it needs.
    Topic("posts", "post/1", "author", "posts created, deleted and labelled, authors labelled", False,
          retention_s=3 * DAY_S, for_store=True),
    Topic("engagements", "engagement/1", "viewer", "actions of viewers on posts, and their undoing", False,
          retention_s=7 * DAY_S, for_store=True, broker_time=True),
    # Compacted: the last word on each follow, block, mute, keyword, subscription and profile stays for ever.
    Topic("graph", "graph/1", "change", "follows, blocks, mutes, muted keywords, subscriptions, profiles", False,
          policy="compact"),
    # A request is of no use an hour later; a day lets one look back.
    Topic("feed-requests", "feed-request/1", "viewer", "requests for feeds", False, retention_s=DAY_S,
          retention_min_s=HOUR_S),
    # The last counts of each post, as long as the post can be live.
    Topic("post-counts", "post-counts/1", "post", "how often each post was seen, liked, replied to so far", True,
          policy="compact,delete", retention_s=3 * DAY_S, for_store=True),
    # A job that starts again looks here for what it has answered: no shorter than requests are kept.
    Topic("feeds", "feed/1", "viewer", "the answers to requests, or why there is none", True, retention_s=3 * DAY_S,
          retention_min_s=DAY_S, message_bytes_max=OUTPUT_BYTES_MAX),
    Topic("served", "served/1", "viewer", "what each feed showed, for training", True, retention_s=7 * DAY_S,
          retention_min_s=DAY_S),
    # What the model saw of served posts: some 10 kB a feed, joined with engagements within the hour.
    Topic("served-features", "served-features/1", "viewer", "what the model saw of served posts, for training", True,
          retention_s=3 * DAY_S, retention_min_s=DAY_S, message_bytes_max=OUTPUT_BYTES_MAX, broker_time=True),
    Topic("training-examples", "training-example/1", "viewer", "served posts with what came of them", True,
          retention_s=7 * DAY_S, retention_min_s=DAY_S, message_bytes_max=OUTPUT_BYTES_MAX),
    Topic("late-engagements", "late-engagement/1", "viewer", "engagements that no open example took", True,
          retention_s=7 * DAY_S),
    # For looking at: nothing reads it, and what a job had no time for is not in it.
    Topic("shadow-scores", "shadow-scores/1", "viewer", "what several models say of the same candidates", True,
          retention_s=3 * DAY_S, message_bytes_max=OUTPUT_BYTES_MAX),
    Topic("dead-letters", "dead-letter/1", "source", "refused messages, their bytes and why", True,
          retention_s=7 * DAY_S, retention_min_s=DAY_S, message_bytes_max=OUTPUT_BYTES_MAX),
    # Compacted: who begins must learn which model was announced last, however long ago.
    Topic("models", "model/1", "cluster", "models to be taken up", False, policy="compact"),
)  # fmt: skip
TOPIC: Final[dict[str, Topic]] = {topic.name: topic for topic in TABLE}


class Naming(Struct, frozen=True):
    """Names of a job's topics in the cluster: the table's, behind `prefix` and a dot where there is a prefix.

    Raises KafkaRefused for a prefix that Kafka does not take.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        longest = max(len(self.of(name)) for name in TOPIC)
        if self.prefix and (longest > NAME_MAX or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.prefix)):
            raise KafkaRefused(
                f"{self.prefix!r} can't start names of topics: letters, digits, '.', '_' and '-' can, "
                f"and a name has at most {NAME_MAX} of them."
            )

    def of(self, name: str) -> str:
        """Return the name in the cluster of a topic of the table."""
        return f"{self.prefix}.{name}" if self.prefix else name

    def table_name(self, full_name: str) -> str:
        """Return the table's name of a topic in the cluster; raises KafkaRefused for a topic that is not the job's."""
        name = full_name.removeprefix(f"{self.prefix}.") if self.prefix else full_name
        if name not in TOPIC or self.of(name) != full_name:
            raise KafkaRefused(f"{full_name} is no topic of this job; those are {', '.join(map(self.of, TOPIC))}.")
        return name


def key_and_partition(event: Event, partitions: int = PARTITIONS) -> tuple[bytes, int]:
    """Return the key of an event's message and the partition it belongs on.

    They are two things: a change of the graph is keyed by the change and lies on its viewer's partition, so a producer
    must name the partition and not leave it to a partitioner.
    """
    return message_key(event), message_partition(event, partitions)
