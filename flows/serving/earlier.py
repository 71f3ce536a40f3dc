"""What processes before this one sent after the last commit, so that nothing is sent twice.

Inputs are read again from the commit on. A request whose feed is on the feeds topic has been answered: what the feed
showed counts as served, and no other feed is made. So it is with dead letters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from flows.serving.positions import DEAD_LETTERS, FEEDS, OUTPUTS, SERVED, Positions
from infra.kafka.headers import Origin, parse_origin
from infra.kafka.inbox import Connection, Place
from infra.kafka.read_back import read_back
from schemas.feeds import Feed


@dataclass(slots=True)
class Answered:
    """A feed that was sent, and whether what it showed was sent as well."""

    feed: Feed
    served: bool = False


@dataclass(slots=True)
class Earlier:
    """Answers by the partition and offset of their request, and the inputs that have dead letters."""

    answers: dict[tuple[int, int], Answered] = field(default_factory=dict)
    letters: set[tuple[str, int, int]] = field(default_factory=set)
    ends: dict[Place, int] = field(default_factory=dict)
    viewers: Mapping[int, Positions] = field(default_factory=dict)

    def answer(self, partition: int, offset: int) -> Answered | None:
        """Return, and forget, the answer to a request."""
        return self.answers.pop((partition, offset), None)

    def has_letter(self, topic: str, partition: int, offset: int) -> bool:
        """Return whether an input has a dead letter, and forget it.

        Posts may be read from their beginning by an instance that is new to them: those that the partition's owner had
        behind it at the last commit have theirs.
        """
        if offset < self.viewers[partition].of(topic, partition):
            return True
        if (topic, partition, offset) not in self.letters:
            return False
        self.letters.discard((topic, partition, offset))
        return True

    def remains(self, partition: int) -> bool:
        """Return whether inputs of a partition are still to come that have been dealt with."""
        return any(one == partition for one, _ in self.answers) or any(one == partition for _, one, _ in self.letters)


def read_earlier(connection: Connection, viewers: Mapping[int, Positions], starts: Mapping[Place, int]) -> Earlier:
    """Return what was sent about inputs that are read again from `starts` on."""
    earlier = Earlier(viewers=dict(viewers))
    served: set[tuple[int, int]] = set()
    since = {(topic, one): positions.outputs.get(topic, 0) for one, positions in viewers.items() for topic in OUTPUTS}
    for (topic, partition), message in read_back(connection, since, earlier.ends):
        origin = parse_origin(message.headers())  # type: ignore[arg-type]
        if origin is None or not _is_read_again(origin, starts):
            continue
        if topic == DEAD_LETTERS:
            earlier.letters.add((origin.topic, origin.partition, origin.offset))
        elif topic == SERVED:
            served.add((partition, origin.offset))
        elif topic == FEEDS:
            feed = msgspec.json.decode(message.value() or b"", type=Feed)
            earlier.answers[partition, origin.offset] = Answered(feed)
    for place in served & earlier.answers.keys():
        earlier.answers[place].served = True
    return earlier


def _is_read_again(origin: Origin, starts: Mapping[Place, int]) -> bool:
    start = starts.get((origin.topic, origin.partition))
    return start is not None and origin.offset >= start
