"""The join of one viewer partition: its feeds in a store, and how far it is in each topic.

Messages wait for their time, and so do their offsets: the store holds what has gone through the join, and the offset of
the first message of each topic that has not. After a kill these are read again, and go through as they would have.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.learning.joining import Joined, Joining
from flows.serving.positions import DEAD_LETTERS, SERVED_FEATURES, Positions
from infra.kafka.inbox import ENGAGEMENTS, Place
from infra.stores import PartitionStore
from schemas.feeds import DeadLetter

INPUTS: Final = (SERVED_FEATURES, *ENGAGEMENTS)
EXAMPLES: Final = "training-examples"
LATE: Final = "late-engagements"
OUTPUTS: Final = (EXAMPLES, LATE, DEAD_LETTERS)
FORMAT_VERSION: Final = 2  # 1: posts and acts as lists

# What an output is about: its topic, and the topic and offset of the message it comes from.
About = tuple[str, str, int]


class JoinPartition:
    """One partition at work. `sent` are outputs of a process before this one that are still to be made again."""

    def __init__(self, folder: Path, partition: int, inactivity_s: int, late_s: int) -> None:
        """Raises StoreRefused for a store of another or of another version."""
        self.partition = partition
        self.joining = Joining(inactivity_s, late_s)
        self.sent: set[About] = set()
        self._store = PartitionStore.open(folder / f"examples-{partition:03}", FORMAT_VERSION)
        self.joining.restore(raw for _, raw in self._store.items())
        self.positions = Positions.decoded(self._store.meta)
        self.until_ms = self.positions.clock_ms
        self._latest_ms = dict.fromkeys(INPUTS, 0)
        self._waiting: dict[str, deque[tuple[int, int]]] = {topic: deque() for topic in INPUTS}
        self._letters: deque[tuple[int, DeadLetter]] = deque()

    def timed(self, topic: str, offset: int, published_ms: int) -> int:
        """Return the time of a message in the join: that of the broker, and never before that of a message before it.

        A partition's new leader may have another clock; the order of the partition is what stays.
        """
        at_ms = self._latest_ms[topic] = max(self._latest_ms[topic], published_ms)
        self._waiting[topic].append((at_ms, offset))
        return at_ms

    def bury(self, letter: DeadLetter, at_ms: int) -> None:
        """Take a letter about features that can't be read; it waits for their time, as all else does."""
        self._letters.append((at_ms, letter))

    def take_letters(self) -> list[DeadLetter]:
        """Return the letters whose time has come."""
        letters = []
        while self._letters and self._letters[0][0] < self.until_ms:
            letters.append(self._letters.popleft()[1])
        return letters

    def advance(self, nothing_before_ms: Mapping[str, int]) -> Joined:
        """Join up to the time before which nothing more comes of either topic.

        A topic has nothing before its latest message; `nothing_before_ms` says more of those read to their ends.
        """
        times_ms = [max(self._latest_ms[topic], nothing_before_ms.get(topic, 0)) for topic in INPUTS]
        self.until_ms = max(self.until_ms, min(times_ms))
        for waiting in self._waiting.values():
            while waiting and waiting[0][0] < self.until_ms:
                waiting.popleft()
        joined = self.joining.advance(self.until_ms)
        self.sent.difference_update((EXAMPLES, SERVED_FEATURES, place) for place in joined.passed_features)
        self.sent.difference_update((LATE, ENGAGEMENTS[0], place) for place in joined.passed_engagements)
        return joined

    def forget(self, viewer: int) -> None:
        """Forget a deleted viewer, by its key: what was sent of it is not made again, and not waited for."""
        places = self.joining.forget_viewer(viewer)
        self.sent.difference_update((EXAMPLES, SERVED_FEATURES, place) for place in places)

    def note_sent(self, about: About) -> None:
        """Note an output of a process before this one, if it is to be made again: what it comes of is not done with."""
        _, topic, offset = about
        if offset >= self.positions.of(topic, self.partition) or self.joining.is_open(offset):
            self.sent.add(about)

    def is_sent(self, about: About) -> bool:
        """Return whether an output was sent before, and forget it."""
        if about not in self.sent:
            return False
        self.sent.discard(about)
        return True

    def commit(self, next_offsets: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
        """Make durable what has gone through, once all outputs are out, and return where each topic begins again.

        `next_offsets` are those of the messages read, `ends` the ends of the outputs as last heard of.
        """
        inputs = {topic: dict(offsets) for topic, offsets in self.positions.inputs.items()}
        for topic in INPUTS:
            waiting, place = self._waiting[topic], (topic, self.partition)
            offset = waiting[0][1] if waiting else next_offsets.get(place)
            if offset is not None:
                inputs[topic] = {self.partition: offset}
        outputs = self.positions.outputs
        if not self.sent:
            # Until all that was sent before is made again, it must be found again.
            outputs = {topic: max(ends.get((topic, self.partition), 0), outputs.get(topic, 0)) for topic in OUTPUTS}
        puts, gone = self.joining.take_changed()
        if puts or gone or (inputs, outputs) != (self.positions.inputs, self.positions.outputs):
            self.positions = Positions(inputs, outputs, self.until_ms)
            self._store.commit(puts, gone, self.positions.encoded())
        return {(topic, self.partition): offset for topic in inputs for offset in inputs[topic].values()}

    def close(self) -> None:
        """Close the store and give it up."""
        self._store.close()
