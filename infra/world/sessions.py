"""When people come, how long they stay and what they ask for: their sessions, one request after the other."""

import heapq
from typing import Final

import numpy as np
from msgspec import Struct

from infra.world.acting import Acting
from infra.world.parameters import DAY_MS, HOUR_MS
from infra.world.people import PARTS, TOPIC_COUNT
from infra.world.posts import draw_times
from infra.world.state import World
from schemas.events import FeedRequest

# How often a request carries each switch; a bottom request follows another in its session.
IN_NETWORK_ONLY: Final = 0.03
EXCLUDE_VIDEOS: Final = 0.03
EXPLAIN: Final = 0.02
SEEN_IDS: Final = 50  # the latest shown posts a request names
BETWEEN_REQUESTS_MS: Final = (1_000, 20_000)
GOES_ON: Final = 0.5  # chance of another request in a session, up to the limit


class Asked(Struct, frozen=True):
    """A request that waits for its feed: whose it is, in which session, and how many the session had before."""

    person: int
    session: int
    earlier: int
    request: FeedRequest


class Sessions:
    """The people's sessions in order of time: `ask` for the next request, then `show` what answers it, and so on."""

    def __init__(self, world: World, when: np.random.Generator, acts: np.random.Generator) -> None:
        self._world = world
        self._rng = acts
        self.acting = Acting(world, acts)
        self._busy_until: dict[int, int] = {}
        parameters, people = world.parameters, world.people
        rates = people.session_rate * parameters.sessions_per_person_day * parameters.days
        who = np.repeat(np.arange(parameters.people), when.poisson(rates))
        times = draw_times(people.time_zone_h[who], parameters.start_ms, parameters.days, when)
        comes = ~people.new_reader[who] | (times >= parameters.start_ms + parameters.new_readers_from_day * DAY_MS)
        who, times = who[comes], times[comes]
        self._starts = sorted(zip(times.tolist(), who.tolist(), strict=True), reverse=True)
        # Requests still to come: time, an order for ties, person, session and how many requests it has had.
        self._later: list[tuple[int, int, int, int, int]] = []
        self._requests = 0

    def next_at(self) -> int | None:
        """Return the time of the next step, None at the end of the world."""
        times = [queue[end][0] for queue, end in ((self._starts, -1), (self._later, 0)) if queue]
        return min(times, default=None)

    def ask(self) -> Asked | None:
        """Let the next person open a session or ask for more; None where they are still busy with another session."""
        if self._later and (not self._starts or self._later[0][0] <= self._starts[-1][0]):
            at, _, person, session, earlier = heapq.heappop(self._later)
        else:
            at, person = self._starts.pop()
            if at < self._busy_until.get(person, 0):
                return None
            session, earlier = self._open(at, person), 0
        world = self._world
        world.sessions[session][2] = at
        in_network_only, exclude_videos, explain = self._rng.random(3) < (IN_NETWORK_ONLY, EXCLUDE_VIDEOS, EXPLAIN)
        request = FeedRequest(
            at=at,
            request=self._requests + 1,
            viewer=world.people_ids[person],
            seen_ids=tuple(world.posts.ids[row] for row in list(world.shown[person])[-SEEN_IDS:]),
            bottom=earlier > 0,
            in_network_only=bool(in_network_only),
            exclude_videos=bool(exclude_videos),
            explain=bool(explain),
        )
        return Asked(person, session, earlier, request)

    def show(self, asked: Asked, rows: list[int]) -> None:
        """Let a person go through posts, none where the feed is empty; they may come back for more."""
        world, at, person = self._world, asked.request.at, asked.person
        self._requests += 1
        if rows:
            focus, is_first = world.sessions[asked.session][3], asked.earlier == 0
            at, looks = self.acting.act(person, at, rows, focus, is_first)
            world.shown[person].update(dict.fromkeys(rows[:looks] if world.parameters.tells_looks else rows))
        self._come_back(asked, at)

    def pass_over(self, asked: Asked) -> None:
        """Let a request count as not made; the person may come back."""
        self._come_back(asked, asked.request.at)

    def _come_back(self, asked: Asked, at: int) -> None:
        """Draw whether a person who is done with a feed at that time asks for more."""
        again_at = at + int(self._rng.integers(*BETWEEN_REQUESTS_MS))
        self._busy_until[asked.person] = again_at + 1
        self._world.sessions[asked.session][2] = at
        if asked.earlier + 1 < self._world.parameters.requests_per_session and self._rng.random() < GOES_ON:
            heapq.heappush(self._later, (again_at, self._requests, asked.person, asked.session, asked.earlier + 1))

    def _open(self, at: int, person: int) -> int:
        """Begin a session and return its number; its focus is drawn by the time of day where the person lives."""
        world = self._world
        part = (at // HOUR_MS + int(world.people.time_zone_h[person])) % 24 // (24 // PARTS)
        chances = world.tastes.focus_at(np.array([person]), np.array([part]), np.array([at]))[0]
        focus = int(self._rng.choice(TOPIC_COUNT, p=chances))
        world.sessions.append([person, at, at, focus])
        return len(world.sessions) - 1
