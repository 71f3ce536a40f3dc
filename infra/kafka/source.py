"""The one source of a flow that runs on Kafka: all topics behind one partition, so that nothing falls out of step."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from schemas.polls import RawPoll


@dataclass(frozen=True, slots=True)
class Turns:
    """What the flow's turns are made of.

    `poll` returns what has come, or None; `before` is called before each poll, when all polls before it have gone
    through the flow; `epoch_ended` when Bytewax ends an epoch; `ended` says that no more polls shall be taken;
    `rests_s` for how many seconds there is no need to ask again: 0 or less for as soon as can be.
    """

    poll: Callable[[], RawPoll | None]
    before: Callable[[], None]
    epoch_ended: Callable[[], None]
    ended: Callable[[], bool]
    rests_s: Callable[[], float] = lambda: 0.0


class KafkaSource(FixedPartitionedSource[RawPoll, None]):
    """Bytewax's view of an inbox. Offsets are kept with the state they produced, not in Bytewax's recovery store.

    What a turn raises ends the flow, and is `failure` after it: Bytewax would make a panic of it, and an error of its
    own.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.failure: Exception | None = None

    def list_parts(self) -> list[str]:
        """Return the one partition."""
        return ["all"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_Partition":
        """Return the partition."""
        return _Partition(self._turns, self._failed)

    def _failed(self, error: Exception) -> None:
        self.failure = error


class _Partition(StatefulSourcePartition[RawPoll, None]):
    def __init__(self, turns: Turns, failed: Callable[[Exception], None]) -> None:
        self._turns, self._failed = turns, failed

    def next_batch(self) -> list[RawPoll]:
        """Return the next poll, or nothing: Bytewax comes back in 1 ms, if not told to rest.

        Raises StopIteration at the end.
        """
        poll = None
        try:
            self._turns.before()
            ended = self._turns.ended()
            if not ended:
                poll = self._turns.poll()
        except Exception as error:
            self._failed(error)
            ended = True
        if ended:
            raise StopIteration
        return [] if poll is None else [poll]

    def next_awake(self) -> datetime | None:
        """Return when to ask again; None for as soon as can be."""
        rests_s = self._turns.rests_s()
        return datetime.now(UTC) + timedelta(seconds=rests_s) if rests_s > 0 else None

    def snapshot(self) -> None:
        """Note that an epoch has ended."""
        self._turns.epoch_ended()
