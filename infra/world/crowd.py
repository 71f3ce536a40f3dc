"""A simulated world whose people read what they are given: they talk through events and feeds, and in no other way.

Who shows them what is outside. `next` says what happens up to the next request, in order of time; `show` takes the feed
that answers it, and what people do with it comes out later, at its own times, between what others do. Drawn in the same
order whatever the feeds come from: the same feeds make the same events, in memory as on Kafka.
"""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import DAY_MS, WorldParameters
from infra.world.policy import RETENTION_MS, eligible
from infra.world.rates import Bools, Floats
from infra.world.sessions import Asked
from infra.world.simulator import open_world, truth_of
from infra.world.state import POST_QUALITY_DEVIATION
from infra.world.tastes import Ints
from infra.world.truth import truth_path
from infra.world.worth import NOBODY, Worth
from schemas.events import TOPIC_OF, TOPICS, Event
from schemas.ids import Id

_RANK: Final = {kind: TOPICS.index(topic) for kind, topic in TOPIC_OF.items()}
HEAT_MS: Final = 6 * 3_600_000  # what was done to a post counts less by a factor e after so long, as in the policy


class Crowd:
    """People of a world as users; the same parameters and the same feeds give the same events.

    Requests come one at a time, in order of time: each is to be answered before the next is made.
    """

    def __init__(self, parameters: WorldParameters) -> None:
        self.parameters = parameters
        self.end_ms = parameters.start_ms + int(parameters.days * DAY_MS)
        self._world, self._sessions, _ = open_world(parameters)
        self._waiting: list[tuple[int, int, int, Event]] = []  # time, topic, order within both
        self._events = 0
        self._rows: dict[Id, int] = {}
        self._people = {identity: row for row, identity in enumerate(self._world.people_ids)}
        self._asked: Asked | None = None
        self._met = 0
        self.worth = Worth(truth_of(self._world))

    def next(self) -> tuple[list[Event], Asked | None]:
        """Return what happens up to the next request, and that request, None at the end of the world."""
        if self._asked is not None:
            raise ValueError(f"request {self._asked.request.request} is not answered yet")
        world = self._world
        while (at := self._sessions.next_at()) is not None:
            world.publish_until(at)
            self._asked = self._sessions.ask()
            if self._asked is not None:
                self._meet()
                return self._until(at), self._asked
        world.publish_until(self.end_ms)
        self._meet()
        return self._until(None), None

    def show(self, posts: Sequence[Id]) -> None:
        """Answer the request that waits with posts in order; what this world doesn't know is not looked at."""
        asked, self._asked = self._asked, None
        if asked is None:
            raise ValueError("no request waits for a feed")
        rows = [self._rows[post] for post in posts if post in self._rows]
        self._sessions.show(asked, list(dict.fromkeys(rows)))

    def rows_of(self, posts: Sequence[Id]) -> Ints:
        """Return the rows of posts, NOBODY for those that are not of this world."""
        return np.array([self._rows.get(post, NOBODY) for post in posts], np.int64)

    def person_of(self, viewer: Id) -> int:
        """Return the row of a person. Raises KeyError for one who is not of this world."""
        return self._people[viewer]

    def save_truth(self, log: Path) -> Path:
        """Write the truth of all so far beside a log, and return where."""
        path = truth_path(log)
        truth_of(self._world).save(path)
        return path

    def probabilities(self, asked: Asked, rows: Ints, followed: Bools) -> Floats:
        """Return what a person truly does with each of posts [n] when asking: float64[n, 19] as `Worth.probabilities`.

        Of a repost, what is true of its original; whoever knows all knows the session's topic and what it has shown.
        """
        originals = self.worth.table["original"][rows].astype(np.int64)
        known, _ = self.worth.focus(asked.person, asked.request.at)
        return self._believed(asked, originals, followed, known, self.worth.table["quality"][originals])

    def foreseeable(self, asked: Asked, rows: Ints, followed: Bools) -> Floats:
        """Return `probabilities` as somebody has them who knows people's tastes and habits, and authors, but no more.

        That is not what a session is about before it has shown it, and of how good a post itself is what everybody's
        looks at it say so far, by people who are known as well. So this is about the most that anybody can know.
        """
        originals = self.worth.table["original"][rows].astype(np.int64)
        _, likely = self.worth.focus(asked.person, asked.request.at)
        return self._believed(asked, originals, followed, likely, self.quality_told(originals))

    def quality_told(self, originals: Ints) -> Floats:
        """Return how good originals [n] are as far as their authors and everybody's looks at them say, float64[n]."""
        usual = self.worth.truth.quality[self.worth.table["author"][originals]]
        return self._world.looks.quality(originals, usual, POST_QUALITY_DEVIATION)

    def _believed(self, asked: Asked, originals: Ints, followed: Bools, focus: Floats, quality: Floats) -> Floats:
        shown = self._sessions.acting.shown_before(asked.person) if asked.earlier else None
        person, at = asked.person, asked.request.at
        return self.worth.probabilities(person, at, originals, followed, focus, quality, shown)

    def eligible(self, asked: Asked) -> Ints:
        """Return the rows of all posts that may be shown where somebody asks: recent, allowed, not yet shown."""
        world, at = self._world, asked.request.at
        recent = np.arange(world.posts.first_since(at - RETENTION_MS), world.posts.count)
        return eligible(world, asked.person, at, recent, asked.request.exclude_videos)

    def followed(self, person: int, rows: Ints) -> Bools:
        """Return whether a person follows the author of each post now, bool[n]."""
        follows = self._world.follows[person]
        return np.array([author in follows for author in self.posts["author"][rows].tolist()], np.bool_)

    def popularity(self, rows: Ints, at_ms: int) -> Floats:
        """Return how much was done with each post so far, fading over hours, float64[n]; newer ones first."""
        originals = self.worth.table["original"][rows]
        age_ms = np.maximum(at_ms - self.worth.table["created"][originals], 0)
        heat = np.array([self._world.heat[row] for row in originals.tolist()])
        result: Floats = (heat + 0.01) * np.exp(-age_ms / HEAT_MS)
        return result

    def tastes(self, at_ms: int) -> Floats:
        """Return everybody's tastes at a time, float64[P, T]."""
        people = np.arange(self.parameters.people)
        return self._world.tastes.at(people, np.full(len(people), at_ms))

    @property
    def posts(self) -> npt.NDArray[np.void]:
        """All posts so far, of infra.world.posts.POST."""
        return self._world.posts.rows

    def followers(self) -> Ints:
        """Return how many follow each person now, int64[P]."""
        followed = [author for follows in self._world.follows for author in follows]
        return np.bincount(np.array(followed, np.int64), minlength=self.parameters.people)

    def _meet(self) -> None:
        """Let the truth know the posts and sessions that have come."""
        world = self._world
        for row in range(len(self._rows), world.posts.count):
            self._rows[world.posts.ids[row]] = row
        self.worth.add_posts(world.posts.rows, world.posts.ids)
        for session in world.sessions[self._met :]:
            self.worth.add_session(session)
        self._met = len(world.sessions)

    def _until(self, at: int | None) -> list[Event]:
        """Take out what has happened up to a time, or all, in order; the request that waits comes last."""
        for event in self._world.events:
            heapq.heappush(self._waiting, (event.at, _RANK[type(event)], self._events, event))
            self._events += 1
        self._world.events.clear()
        events: list[Event] = []
        while self._waiting and (at is None or self._waiting[0][0] <= at):
            events.append(heapq.heappop(self._waiting)[3])
        return events if self._asked is None else [*events, self._asked.request]
