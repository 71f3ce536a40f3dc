"""A social world simulated from a seed: who comes when, what a logging policy shows them, and what they do with it.

The policy fills a slate from recent posts of followed authors, from popular posts and at random, in random order; what
happens then is drawn from the stated probabilities of infra.world.rates. Scale and base rates: x-algorithm.md 3.4.
"""

import heapq
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from infra.logs import LogWriter
from infra.logs.validation import KINDS
from infra.world.acting import Acting
from infra.world.beginning import begin
from infra.world.parameters import DAY_MS, HOUR_MS, WorldParameters
from infra.world.people import PARTS, TOPIC_COUNT, make_people
from infra.world.policy import Policy
from infra.world.posts import draw_times
from infra.world.state import World
from infra.world.truth import Truth, truth_path
from schemas.events import TOPIC_OF, TOPICS, FeedRequest, Served

# How often a request carries each switch; a bottom request follows another in its session.
IN_NETWORK_ONLY: Final = 0.03
EXCLUDE_VIDEOS: Final = 0.03
EXPLAIN: Final = 0.02
SEEN_IDS: Final = 50  # the latest shown posts a request names
BETWEEN_REQUESTS_MS: Final = (1_000, 20_000)
GOES_ON: Final = 0.5  # chance of another request in a session, up to the limit
EVENTS_A_WRITE: Final = 4096


class WorldSummary(Struct, frozen=True):
    """What was simulated and where it lies; `kinds` counts events by kind, times are in ms."""

    log: Path
    truth: Path
    events: int
    kinds: dict[str, int]
    people: int
    sessions: int
    first_at: int
    last_at: int


def simulate(
    out: str | os.PathLike[str],
    parameters: WorldParameters | None = None,
    progress: Callable[[float], None] | None = None,
) -> WorldSummary:
    """Simulate a world, write its log to `out` and its truth beside it; the same parameters give the same bytes.

    `progress` is told the share done, 0 to 1. Raises LogRefused where `out` can't be written.
    """
    parameters = WorldParameters() if parameters is None else parameters
    writer = LogWriter(out)
    world = run_world(parameters, progress)
    rank = {kind: TOPICS.index(topic) for kind, topic in TOPIC_OF.items()}
    # Stable, so that events of one time and topic stay in the order they happened.
    world.events.sort(key=lambda event: (event.at, rank[type(event)]))
    with writer:
        for start in range(0, len(world.events), EVENTS_A_WRITE):
            writer.write(world.events[start : start + EVENTS_A_WRITE])
    truth = _truth(world)
    truth.save(truth_path(out))
    kinds = Counter(KINDS[type(event)] for event in world.events)
    return WorldSummary(
        log=Path(out),
        truth=truth_path(out),
        events=len(world.events),
        kinds=dict(kinds.most_common()),
        people=parameters.people,
        sessions=len(world.sessions),
        first_at=world.events[0].at,
        last_at=world.events[-1].at,
    )


def run_world(parameters: WorldParameters, progress: Callable[[float], None] | None = None) -> World:
    """Return a world after its days have passed, its events in no particular order of time."""
    seeds = np.random.SeedSequence(parameters.seed).spawn(5)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    people = make_people(parameters, rngs[0])
    world = World(parameters, people, rngs[1])
    begin(world, rngs[2])
    sessions = _Sessions(world, rngs[3], rngs[4])
    end = parameters.start_ms + int(parameters.days * DAY_MS)
    told = 0.0
    while (at := sessions.next_at()) is not None:
        world.publish_until(at)
        sessions.step()
        share = (at - parameters.start_ms) / (end - parameters.start_ms)
        if progress is not None and share - told >= 0.01:
            told = share
            progress(min(share, 1.0))
    world.publish_until(end)
    if progress is not None:
        progress(1.0)
    return world


class _Sessions:
    """The people's sessions in order of time, one request a step."""

    def __init__(self, world: World, when: np.random.Generator, acts: np.random.Generator) -> None:
        self._world = world
        self._rng = acts
        self._policy = Policy(world, acts)
        self._acting = Acting(world, acts)
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

    def step(self) -> None:
        """Let the next person open a session or ask for more."""
        if self._later and (not self._starts or self._later[0][0] <= self._starts[-1][0]):
            at, _, person, session, earlier = heapq.heappop(self._later)
        else:
            at, person = self._starts.pop()
            if at < self._busy_until.get(person, 0):
                return
            session, earlier = self._open(at, person), 0
        last_at = self._request(at, person, session, earlier)
        again_at = last_at + int(self._rng.integers(*BETWEEN_REQUESTS_MS))
        self._busy_until[person] = again_at + 1
        self._world.sessions[session][2] = last_at
        if earlier + 1 < self._world.parameters.requests_per_session and self._rng.random() < GOES_ON:
            heapq.heappush(self._later, (again_at, self._requests, person, session, earlier + 1))

    def _open(self, at: int, person: int) -> int:
        """Begin a session and return its number; its focus is drawn by the time of day where the person lives."""
        people = self._world.people
        part = (at // HOUR_MS + int(people.time_zone_h[person])) % 24 // (24 // PARTS)
        focus = int(self._rng.choice(TOPIC_COUNT, p=people.part_focus[person, part]))
        self._world.sessions.append([person, at, at, focus])
        return len(self._world.sessions) - 1

    def _request(self, at: int, person: int, session: int, earlier: int) -> int:
        """Serve one slate, let the person act on it, and return the time of the last act."""
        world, rng = self._world, self._rng
        parameters = world.parameters
        in_network_only, exclude_videos, explain = rng.random(3) < (IN_NETWORK_ONLY, EXCLUDE_VIDEOS, EXPLAIN)
        seen = world.shown[person]
        seen_ids = tuple(world.posts.ids[row] for row in list(seen)[-SEEN_IDS:])
        rows = self._policy.choose(person, at, bool(in_network_only), bool(exclude_videos))
        if not rows:
            return at
        self._requests += 1
        request = FeedRequest(
            at=at,
            request=self._requests,
            viewer=world.people_ids[person],
            seen_ids=seen_ids,
            bottom=earlier > 0,
            in_network_only=bool(in_network_only),
            exclude_videos=bool(exclude_videos),
            explain=bool(explain),
        )
        if at >= parameters.start_ms + parameters.requests_from_day * DAY_MS:
            world.events.append(request)
        posts = tuple(world.posts.ids[row] for row in rows)
        world.events.append(Served(at, request.request, request.viewer, posts, model="simulated"))
        seen.update(dict.fromkeys(rows))
        return self._acting.act(person, at, rows, focus=world.sessions[session][3], is_first=earlier == 0)


def _truth(world: World) -> Truth:
    people = world.people
    sessions = np.array(sorted(world.sessions), np.int64).reshape(-1, 4)
    return Truth(
        parameters=world.parameters,
        people_ids=world.people_ids,
        post_ids=world.posts.ids,
        posts=world.posts.rows,
        tastes=people.tastes,
        part_focus=people.part_focus,
        time_zone_h=people.time_zone_h.astype(np.int64),
        writes=people.writes,
        quality=people.quality,
        sessions=sessions,
        follow_changes=np.array(world.follow_changes, np.int64).reshape(-1, 4),
    )
