"""The driver of a closed loop: what people do goes out, feeds come back, in turns.

Whoever drives calls `next` for the events to publish, the last of which is a request, and `take` with the feed that
answers it. How events and feeds travel is no matter here: in memory (flows/closed_loop/memory.py) or over Kafka.
"""

from collections.abc import Callable
from typing import Protocol

from infra.world import Crowd
from infra.world.sessions import Asked
from schemas.events import Event, Served
from schemas.feeds import Feed


class Watcher(Protocol):
    """Who is told of each feed before its viewer sees it."""

    def shown(self, asked: Asked, feed: Feed) -> None:
        """Take a feed and the request that it answers."""


class Driver:
    """Takes turns between a crowd and whoever serves it.

    `written` gets every event in its order, what was served behind its request: a log of the loop. `next` gives what
    was served only with `tells_served`, where the job does not tell itself (as one on Kafka does). `besides` is told
    what happens next, before anybody else is, and returns it with what happens besides.
    """

    def __init__(
        self,
        crowd: Crowd,
        watcher: Watcher,
        written: Callable[[list[Event]], None],
        tells_served: bool = True,
        besides: Callable[[list[Event]], list[Event]] = list,
    ) -> None:
        self._crowd = crowd
        self._watcher = watcher
        self._written = written
        self._tells_served = tells_served
        self._besides = besides
        self._asked: Asked | None = None
        self._served: list[Event] = []
        self.events = 0
        self.feeds = 0

    @property
    def asked(self) -> Asked | None:
        """The request that waits for its feed, None where none does."""
        return self._asked

    def next(self) -> list[Event]:
        """Return what happens next, with the next request last; without one the world has ended."""
        events, self._asked = self._crowd.next()
        events, self._served = self._besides([*self._served, *events]), []
        self._written(events)
        self.events += len(events)
        return events if self._tells_served else [event for event in events if not isinstance(event, Served)]

    def take(self, feed: Feed) -> None:
        """Give a viewer the feed that answers the request. Raises ValueError where it answers another."""
        asked, self._asked = self._asked, None
        if asked is None or feed.request != asked.request.request:
            raise ValueError(f"nobody waits for the feed of request {feed.request}")
        self._watcher.shown(asked, feed)
        self.feeds += 1
        request = asked.request
        self._served.append(
            Served(request.at, request.request, request.viewer, feed.shown, request.surface, feed.model)
        )
        self._crowd.show(feed.shown)
