"""A social world simulated from a seed: who comes when, what a logging policy shows them, and what they do with it.

The policy fills a slate from recent posts of followed authors, from popular posts and at random, in random order; what
happens then is drawn from the stated probabilities of infra.world.rates. Scale and base rates: x-algorithm.md 3.4.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from infra.logs import LogWriter
from infra.logs.validation import KINDS
from infra.world.beginning import begin
from infra.world.parameters import DAY_MS, WorldParameters
from infra.world.people import make_people
from infra.world.policy import Policy
from infra.world.sessions import Sessions
from infra.world.state import World
from infra.world.truth import Truth, truth_path
from schemas.events import TOPIC_OF, TOPICS, Served

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
    truth = truth_of(world)
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
    world, sessions, acts = open_world(parameters)
    policy = Policy(world, acts)
    end = parameters.start_ms + int(parameters.days * DAY_MS)
    told = 0.0
    while (at := sessions.next_at()) is not None:
        world.publish_until(at)
        _serve(world, policy, sessions)
        share = (at - parameters.start_ms) / (end - parameters.start_ms)
        if progress is not None and share - told >= 0.01:
            told = share
            progress(min(share, 1.0))
    world.publish_until(end)
    if progress is not None:
        progress(1.0)
    return world


def open_world(parameters: WorldParameters) -> tuple[World, Sessions, np.random.Generator]:
    """Return a world at its start, the sessions of its people, and the generator of what they do."""
    rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence(parameters.seed).spawn(5)]
    people = make_people(parameters, rngs[0])
    world = World(parameters, people, rngs[1])
    begin(world, rngs[2])
    return world, Sessions(world, rngs[3], rngs[4]), rngs[4]


def _serve(world: World, policy: Policy, sessions: Sessions) -> None:
    """Let the logging policy answer the next request, and log both."""
    asked = sessions.ask()
    if asked is None:
        return
    request, parameters = asked.request, world.parameters
    rows = policy.choose(asked.person, request.at, request.in_network_only, request.exclude_videos)
    if not rows:
        sessions.pass_over(asked)
        return
    if request.at >= parameters.start_ms + parameters.requests_from_day * DAY_MS:
        world.events.append(request)
    posts = tuple(world.posts.ids[row] for row in rows)
    world.events.append(Served(request.at, request.request, request.viewer, posts, model="simulated"))
    sessions.show(asked, rows)


def truth_of(world: World) -> Truth:
    """Return what is true of a world so far."""
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
