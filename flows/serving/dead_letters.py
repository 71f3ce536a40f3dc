"""Dead letters: which there are, what is in them, and sending what they hold once more."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from confluent_kafka import KafkaException, Message, TopicPartition

from flows.serving.positions import DEAD_LETTERS
from flows.serving.sending import partitions_of, send
from flows.terminal import Refusal
from infra.kafka import KafkaRefused
from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection, Lane, Place
from infra.kafka.outbox import Outgoing
from infra.kafka.read_back import read_back
from infra.kafka.settings import ANSWER_TIMEOUT_S, consumer_settings, open_consumer
from infra.kafka.topics import TOPIC, key_and_partition
from infra.operations.metric_set import plain_reason
from infra.polls import latest_accepted_ms
from schemas.codec import Refused, decode
from schemas.events import TOPIC_OF
from schemas.feeds import DeadLetter

# The header of a message that was refused before: the dead letter's partition and offset, as in 3/17.
RETRIED_FROM: Final = "retried-from"
HEX_BYTES_A_LINE: Final = 32


class Letter(msgspec.Struct, frozen=True):
    """A dead letter, where it lies and when it was written."""

    partition: int
    offset: int
    at_ms: int
    headers: tuple[tuple[str, str], ...]
    letter: DeadLetter


def newest(connection: Connection, count: int) -> list[Letter]:
    """Return the newest dead letters, newest first. Raises KafkaRefused and Refusal."""
    starts = {place: max(low, end - count) for place, (low, end) in _bounds(connection).items()}
    return newest_first(_read(connection, starts))[:count]


def since(connection: Connection, at_ms: int = 0) -> Iterator[Letter]:
    """Yield the dead letters written since a time, partition by partition. Raises KafkaRefused and Refusal."""
    bounds = _bounds(connection)
    starts = {place: low for place, (low, _) in bounds.items()}
    if at_ms:
        starts = _starts_since(connection, list(bounds), at_ms)
    return _read(connection, starts)


def newest_first(letters: Iterable[Letter]) -> list[Letter]:
    """Return dead letters by the time they were written."""
    return sorted(letters, key=lambda one: (one.at_ms, one.partition, one.offset), reverse=True)


def one(connection: Connection, partition: int, offset: int) -> Letter:
    """Return one dead letter. Raises KafkaRefused, and Refusal where there is none."""
    place = (DEAD_LETTERS, partition)
    bounds = _bounds(connection)
    low, end = bounds.get(place, (0, 0))
    if low <= offset < end:
        letter = next(_read(connection, {place: offset}), None)
        if letter is not None and letter.offset == offset:
            return letter
    held = f"it holds {low} to {end - 1}" if low < end else f"it is empty, of {len(bounds)} partitions"
    raise Refusal(f"{connection.naming.of(DEAD_LETTERS)}[{partition}] has no dead letter at {offset}: {held}")


def by_reason(letters: Iterable[Letter]) -> list[tuple[str, str, int]]:
    """Return topic, reason and number of dead letters, most first; reasons without what they quote."""
    counts = Counter((one.letter.topic, plain_reason(one.letter.reason)) for one in letters)
    return sorted(((topic, reason, count) for (topic, reason), count in counts.items()), key=lambda row: (-row[2], row))


def retry(connection: Connection, letters: Sequence[Letter], corrected: bytes | None = None) -> list[Place]:
    """Send what dead letters hold to where it came from, oldest first; return these topics and partitions.

    `corrected` are other bytes in place of a single letter's: they go where their event belongs. Raises KafkaRefused,
    and Refusal for what can't be sent, before anything is.
    """
    if corrected is not None:
        messages = [_corrected(connection, one, corrected) for one in letters]
    else:
        messages = [_again(one) for one in reversed(newest_first(letters))]
    send(connection, messages)
    return [message.place for message in messages]


def can_be_retried(letter: Letter) -> bool:
    """Return whether there is anything to send again, and a topic of ours to send it to."""
    topic = TOPIC.get(letter.letter.topic)
    return bool(letter.letter.raw) and topic is not None and not topic.ours


def _again(letter: Letter) -> Outgoing:
    was = letter.letter
    if not can_be_retried(letter):
        raise Refusal(
            f"dead letter {letter.partition}/{letter.offset} holds {len(was.raw)} bytes from {was.topic}: "
            "nothing that could be sent again as it was"
        )
    return Outgoing((was.topic, was.partition), was.key, was.raw, _headers(was.topic, letter))


def _corrected(connection: Connection, letter: Letter, raw: bytes) -> Outgoing:
    try:
        event = decode(raw, latest_accepted_ms())
    except Refused as refused:
        raise Refusal(f"the corrected bytes would be refused again: {refused}") from None
    topic = TOPIC_OF[type(event)]
    if TOPIC[topic].ours:
        raise Refusal(f"the corrected bytes belong on {topic}, which the job alone writes")
    key, partition = key_and_partition(event, partitions_of(connection, topic))
    return Outgoing((topic, partition), key, raw, _headers(topic, letter))


def _headers(topic: str, letter: Letter) -> list[tuple[str, bytes]]:
    return [schema_header(TOPIC[topic].schema), (RETRIED_FROM, b"%d/%d" % (letter.partition, letter.offset))]


def shown(raw: bytes) -> str:
    """Return bytes as text where all of it can be printed, else in hex."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(one.isprintable() or one in "\n\t" for one in text):
        return text
    return "\n".join(raw[at : at + HEX_BYTES_A_LINE].hex(" ") for at in range(0, len(raw), HEX_BYTES_A_LINE))


def printable(text: str) -> str:
    """Return text that moves no cursor and changes no colour: what senders choose may be quoted in it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _bounds(connection: Connection) -> dict[Place, tuple[int, int]]:
    places = [(DEAD_LETTERS, one) for one in range(partitions_of(connection, DEAD_LETTERS))]
    lane = Lane(connection, dict.fromkeys(places, 0), lost="latest")
    try:
        return {place: lane.bounds(place) for place in places}
    finally:
        lane.close()


def _starts_since(connection: Connection, places: list[Place], at_ms: int) -> dict[Place, int]:
    """Return the first offset of each partition that is as new; without those partitions where nothing is."""
    name = connection.naming.of(DEAD_LETTERS)
    consumer = open_consumer(consumer_settings(connection.address, connection.settings))
    try:
        asked = [TopicPartition(name, partition, at_ms) for _, partition in places]
        found = consumer.offsets_for_times(asked, ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise KafkaRefused(f"{name} can't be read: {error.args[0].str()}.") from None
    finally:
        consumer.close()
    return {(DEAD_LETTERS, one.partition): one.offset for one in found if one.offset >= 0}


def _read(connection: Connection, starts: dict[Place, int]) -> Iterator[Letter]:
    """Yield dead letters from these offsets on; messages that are none are passed over."""
    for (_, partition), message in read_back(connection, starts, {}):
        try:
            letter = msgspec.json.decode(message.value() or b"", type=DeadLetter)
        except msgspec.MsgspecError:
            continue
        yield Letter(partition, int(message.offset() or 0), max(0, message.timestamp()[1]), _told(message), letter)


def _told(message: Message) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, bytes | None]] = message.headers() or []  # type: ignore[assignment]
    return tuple((name, (value or b"").decode(errors="replace")) for name, value in headers)
