"""From the topic of examples to a folder of them, which `train` reads."""

from pathlib import Path
from typing import Final

from flows.example_files import ExamplesMade, Manifest, write_examples
from flows.learning.deletions import Deletions
from flows.learning.messages import decode_example, example_of
from flows.learning.partitions import EXAMPLES
from flows.training_examples import Example
from infra.kafka import KafkaRefused
from infra.kafka.admin import list_topics
from infra.kafka.headers import parse_origin
from infra.kafka.inbox import Connection
from infra.kafka.read_back import read_back
from infra.logs.files import LogRefused
from schemas.codec import Refused

COMMAND: Final = "collect-examples"


def collect(connection: Connection, folder: Path, since_ms: int = 0, until_ms: int = 2**62) -> Manifest:
    """Write the examples on the topic as it is now, of feeds asked for in a span of time, a file an hour or more.

    They are in the order of the requests' times, and each feed has one, also where its message came twice. Those of
    users who were deleted are left out. All are held in memory: about 12 kB each. Raises KafkaRefused, and LogRefused
    where there are none, for a folder that holds something and for a message that is no example.
    """
    states = list_topics(connection.address, connection.naming, overrides=connection.settings)
    partitions = next(state.partitions for state in states if state.name == EXAMPLES)
    if not partitions:
        raise KafkaRefused("the topics are not there: create them with `topics create`.")
    deletions = Deletions(connection, range(partitions))
    deletions.close()
    found: dict[tuple[int, int], Example] = {}
    for (topic, partition), message in read_back(connection, {(EXAMPLES, one): 0 for one in range(partitions)}, {}):
        offset = int(message.offset() or 0)
        try:
            example = example_of(decode_example(message.value() or b""))
        except Refused as refused:
            raise LogRefused(f"{topic}[{partition}], offset {offset}, is no example: {refused}") from None
        origin = parse_origin(message.headers())  # type: ignore[arg-type]
        if since_ms <= example.context.at_ms < until_ms and example.context.key not in deletions:
            found.setdefault((partition, -1 - offset if origin is None else origin.offset), example)
    in_order = sorted(found.items(), key=lambda one: (one[1].context.at_ms, one[0]))
    name = connection.naming.of(EXAMPLES)
    posts_max = max((len(example.posts) for _, example in in_order), default=0)
    co_likers = all(len(example.posts.co_liked) for _, example in in_order)
    told_of = ExamplesMade(f"topic {name}", COMMAND, posts_max, 0, co_likers)
    return write_examples(folder, (example for _, example in in_order), told_of, hourly=True)
