"""Requests that were read and have no room yet, in their order, with the messages among them that are none."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from confluent_kafka import Message

from schemas.codec import decode_batch
from schemas.events import FeedRequest
from schemas.message_keys import key_of_id

# What is refused costs a dead letter and no model, so it takes no room and many may go at once. So many messages at
# most, in requests allowed to wait, are read ahead: the rest stays with the broker.
READ_AHEAD: Final = 4
_ANY_TIME: Final = 2**53


class WaitingRequests:
    """A queue that hands out as many requests as there is room for; its length counts requests alone.

    More than `waiting_max` of them are too many: the oldest are handed out at once, to be shed. A queue that was never
    empty for `interval_s` is a standing one, by the seconds of `clock`: waiting there makes up for nothing (CoDel, RFC
    8289, as of requests in "Fail at Scale", ACM Queue 13/8).
    """

    def __init__(
        self, waiting_max: int, interval_s: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._waiting_max = waiting_max
        self._interval_s = interval_s
        self._clock = clock
        self._empty_at_s = clock()
        self._queue: deque[tuple[Message, bool]] = deque()  # with whether it is a request
        self._requests = 0

    def __len__(self) -> int:
        return self._requests

    @property
    def standing(self) -> bool:
        """Whether it was not empty after any `take` of the last `interval_s`."""
        return self._clock() - self._empty_at_s > self._interval_s

    def room(self) -> int:
        """Return how many messages more may be read."""
        return min(self._waiting_max + 1, READ_AHEAD * (self._waiting_max + 1) - len(self._queue))

    def add(self, messages: list[Message]) -> None:
        """Put messages at the end."""
        for message in messages:
            asks = _asks(message)
            self._requests += asks
            self._queue.append((message, asks))

    def take(self, room: int) -> tuple[list[Message], int]:
        """Return the next messages with at most `room` requests after those that are too many, and where these end."""
        too_many = max(0, self._requests - self._waiting_max)
        taken: list[Message] = []
        shed = requests = 0
        while self._queue and (not self._queue[0][1] or requests < too_many + room):
            message, asks = self._queue.popleft()
            taken.append(message)
            requests += asks
            if asks and requests <= too_many:
                shed = len(taken)
        self._requests -= requests
        if not self._requests:
            self._empty_at_s = self._clock()
        return taken, shed


def _asks(message: Message) -> bool:
    """Return whether a message is a feed request under its key: all else is refused later, with the reason."""
    (event,) = decode_batch([message.value() or b""], _ANY_TIME)
    return isinstance(event, FeedRequest) and message.key() == key_of_id(event.viewer)
