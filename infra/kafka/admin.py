"""Topics in the cluster: create what is missing, list what is there, and say what is not as the job needs it."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # its package says so of few of its names
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from msgspec import Struct

from infra.kafka import KafkaRefused
from infra.kafka.settings import ANSWER_TIMEOUT_S, Setting, admin_settings, open_admin
from infra.kafka.topics import PARTITIONS, STORE_RETENTION_S, TABLE, TOPIC, Naming, Topic

# Creating topics asks more of a broker than answering: every replica makes its files first.
CREATE_TIMEOUT_S: Final = 30.0
ATTEMPT_TIMEOUT_S: Final = 1.0  # of one of several tries; librdkafka waits all of it for a leader it does not know yet
_FOREVER: Final = -1
# What a partition answers whose leader is new, or not yet chosen; for seconds after its start a broker does not answer.
_LEADERLESS: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._NOENT,
    KafkaError._TIMED_OUT,
)


class TopicState(Struct, frozen=True):
    """A topic of the job as it is in the cluster; None and 0 where it is missing.

    `messages` counts offsets between the first and the last: a compacted topic holds fewer. `retention_s` is None for
    ever; `retention_bytes` is a partition's limit, None where there is none; `broker_time` says whose clock messages
    carry.
    """

    name: str
    full_name: str
    partitions: int
    replicas: int = 0
    policy: str = ""
    retention_s: float | None = None
    retention_bytes: int | None = None
    message_bytes_max: int = 0
    messages: int = 0
    broker_time: bool = False


def create_topics(
    address: str,
    naming: Naming | None = None,
    *,
    partitions: int = PARTITIONS,
    replicas: int | None = None,
    store_retention_s: int = STORE_RETENTION_S,
    overrides: Mapping[str, Setting] | None = None,
) -> list[str]:
    """Create the job's topics where they are missing and return the names of those made.

    `replicas` is the brokers' own default unless given. Topics that exist stay as they are, whatever they are:
    `check_topics` judges them. Raises KafkaRefused where the broker can't be reached or does not allow it.
    """
    naming = naming or Naming()
    admin = _admin(address, overrides)
    there = _partitions(admin, address)
    missing = [topic for topic in TABLE if naming.of(topic.name) not in there]
    if not missing:
        return []
    new = [
        NewTopic(
            naming.of(topic.name),
            num_partitions=partitions,
            replication_factor=-1 if replicas is None else replicas,
            config=topic.config(store_retention_s),
        )
        for topic in missing
    ]
    made = []
    for name, future in admin.create_topics(new, operation_timeout=CREATE_TIMEOUT_S).items():
        try:
            future.result(CREATE_TIMEOUT_S)
            made.append(name)
        except KafkaException as error:
            # Somebody else was quicker, another instance that starts at the same time.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaRefused(f"topic {name} can't be created: {error.args[0].str()}.") from None
    _wait_for_leaders(admin, address, made)
    return made


def list_topics(
    address: str, naming: Naming | None = None, *, overrides: Mapping[str, Setting] | None = None
) -> list[TopicState]:
    """Return the state of each topic of the job, in the table's order; raises KafkaRefused as `create_topics`."""
    naming = naming or Naming()
    admin = _admin(address, overrides)
    there = _partitions(admin, address)
    names = {topic.name: naming.of(topic.name) for topic in TABLE}
    found = [full_name for full_name in names.values() if full_name in there]
    configs = _configs(admin, address, found)
    messages = _messages(admin, address, {full_name: there[full_name][0] for full_name in found})
    states = []
    for name, full_name in names.items():
        if full_name not in there:
            states.append(TopicState(name, full_name, 0))
            continue
        config = configs[full_name]
        retention_ms, retention_bytes = int(config["retention.ms"]), int(config["retention.bytes"])
        states.append(
            TopicState(
                name,
                full_name,
                *there[full_name],
                policy=config["cleanup.policy"],
                retention_s=None if retention_ms == _FOREVER else retention_ms / 1000,
                retention_bytes=None if retention_bytes == _FOREVER else retention_bytes,
                message_bytes_max=int(config["max.message.bytes"]),
                messages=messages[full_name],
                broker_time=config["message.timestamp.type"] == "LogAppendTime",
            )
        )
    return states


def check_topics(
    address: str,
    naming: Naming | None = None,
    *,
    store_retention_s: int = STORE_RETENTION_S,
    overrides: Mapping[str, Setting] | None = None,
) -> list[str]:
    """Return a sentence for each thing that keeps the job from running on its topics, none where all is well.

    Raises KafkaRefused as `create_topics`.
    """
    states = list_topics(address, naming, overrides=overrides)
    wrong = [
        f"topic {state.full_name} is missing: create it with `topics create`."
        for state in states
        if not state.partitions
    ]
    counts = {state.full_name: state.partitions for state in states if state.partitions}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        wrong.append(f"topics differ in their number of partitions, so that a viewer's do not meet: {told}.")
    for state in states:
        if state.partitions:
            wrong += _faults(state, TOPIC[state.name], store_retention_s)
    return wrong


def _faults(state: TopicState, topic: Topic, store_retention_s: int) -> list[str]:
    """Return what is wrong with one topic that is there."""
    name = state.full_name
    wrong = []
    if set(state.policy.split(",")) != set(topic.policy.split(",")):
        wrong.append(f"topic {name} has cleanup.policy {state.policy}; {topic.policy} is needed.")
    if state.message_bytes_max < topic.message_bytes_max:
        wrong.append(
            f"topic {name} takes messages of {state.message_bytes_max} bytes (max.message.bytes); "
            f"{topic.message_bytes_max} are needed."
        )
    if "delete" not in state.policy:
        return wrong
    needed_s = topic.retention_needed_s(store_retention_s)
    if needed_s is not None and state.retention_s is not None and state.retention_s < needed_s:
        wrong.append(
            f"topic {name} keeps messages {state.retention_s:g} s; {needed_s} s are needed "
            f"(retention.ms {needed_s * 1000})."
        )
    if state.retention_bytes is not None:
        wrong.append(
            f"topic {name} drops messages beyond {state.retention_bytes} bytes a partition, however young "
            f"(retention.bytes): its retention must go by time alone."
        )
    return wrong


def _admin(address: str, overrides: Mapping[str, Setting] | None) -> AdminClient:
    # Only the emergencies of librdkafka's own log: what goes wrong is told by KafkaRefused.
    return open_admin({**admin_settings(address, overrides), "log_level": 0})


def _refused(address: str, error: BaseException) -> KafkaRefused:
    what = error.args[0].str() if isinstance(error, KafkaException) else f"no answer within {ANSWER_TIMEOUT_S:g} s"
    return KafkaRefused(f"the Kafka broker at {address} does not answer: {what}; is it running, is the address right?")


def _partitions(admin: AdminClient, address: str) -> dict[str, tuple[int, int]]:
    """Return the numbers of partitions and of replicas of each topic of the cluster."""
    try:
        metadata = admin.list_topics(timeout=ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise _refused(address, error) from None
    return {
        name: (len(topic.partitions), min((len(one.replicas) for one in topic.partitions.values()), default=0))
        for name, topic in metadata.topics.items()
        if topic.error is None
    }


def _wait_for_leaders(admin: AdminClient, address: str, names: Sequence[str]) -> None:
    """Wait till every partition of topics just made has a leader, so that they can be used at once."""
    until = time.monotonic() + CREATE_TIMEOUT_S
    while time.monotonic() < until:
        try:
            topics = admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        except KafkaException as error:
            raise _refused(address, error) from None
        made = [topics[name].partitions for name in names if name in topics]
        if len(made) == len(names) and all(one.leader >= 0 for topic in made for one in topic.values()):
            return
        time.sleep(0.05)
    raise KafkaRefused(f"topics made at {address} have no leader after {CREATE_TIMEOUT_S:g} s; see the broker's log.")


def _configs(admin: AdminClient, address: str, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    try:
        answers = admin.describe_configs(asked, request_timeout=ANSWER_TIMEOUT_S)
        return {
            resource.name: {entry.name: entry.value for entry in future.result(ANSWER_TIMEOUT_S).values()}
            for resource, future in answers.items()
        }
    except (KafkaException, TimeoutError) as error:
        raise _refused(address, error) from None


def _messages(admin: AdminClient, address: str, partitions: Mapping[str, int]) -> dict[str, int]:
    """Return for each topic the sum over its partitions of the offsets between the first and the last."""
    totals = dict.fromkeys(partitions, 0)
    every = [(name, number) for name, count in partitions.items() for number in range(count)]
    for (name, _), (first, end) in _bounds(admin, address, every).items():
        totals[name] += end - first
    return totals


def bounds(
    address: str, every: Sequence[tuple[str, int]], overrides: Mapping[str, Setting] | None = None
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return the first offset of each partition, a topic's full name and a number, and one past its last.

    All are asked at once, on a connection of its own: a consumer's answers wait behind its fetches, one by one.
    Raises KafkaRefused.
    """
    return _bounds(_admin(address, overrides), address, every)


def _bounds(
    admin: AdminClient, address: str, every: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], tuple[int, int]]:
    first = _offsets(admin, address, every, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    end = _offsets(admin, address, every, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {place: (first[place], end[place]) for place in every}


def _offsets(
    admin: AdminClient, address: str, every: Sequence[tuple[str, int]], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    """Return each partition's offset; those whose leader is new or being chosen are asked again for a while."""
    until = time.monotonic() + ANSWER_TIMEOUT_S
    found: dict[tuple[str, int], int] = {}
    while len(found) < len(every):
        asked = {TopicPartition(*one): spec for one in every if one not in found}
        for partition, future in admin.list_offsets(asked, request_timeout=ATTEMPT_TIMEOUT_S).items():
            try:
                found[partition.topic, partition.partition] = future.result(ANSWER_TIMEOUT_S).offset
            except (KafkaException, TimeoutError) as error:
                leaderless = isinstance(error, KafkaException) and error.args[0].code() in _LEADERLESS
                if not leaderless or time.monotonic() > until:
                    raise _refused(address, error) from None
        if len(found) < len(every):
            time.sleep(0.05)
    return found
