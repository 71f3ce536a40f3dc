"""How a simulated world begins: accounts, follows, subscriptions and muted words, in the hour before its start."""

from typing import Final

import numpy as np

from infra.world.parameters import DAY_MS, HOUR_MS
from infra.world.phrases import TOPICS
from infra.world.state import World
from schemas.events import MuteKeyword, Profile, Subscribe

ACCOUNT_AGE_DAYS: Final = 700.0  # on average, exponential
SUBSCRIBES: Final = 0.3  # of the followers of an author with subscribers
MUTES_A_WORD: Final = 0.15  # of the people who dislike a topic


def begin(world: World, rng: np.random.Generator) -> None:
    """Log the accounts as they are before the first day, in order, spread over the hour before the start."""
    start = world.parameters.start_ms
    people = world.people
    pairs = [(person, int(author)) for person in range(len(people.follows)) for author in people.follows[person]]
    followers = np.bincount([author for _, author in pairs], minlength=len(people.follows))
    age_ms = (rng.exponential(ACCOUNT_AGE_DAYS, followers.size) * DAY_MS).astype(np.int64) + HOUR_MS
    for person, identity in enumerate(world.people_ids):
        world.events.append(Profile(start - HOUR_MS, identity, start - int(age_ms[person]), int(followers[person])))
    for place, (person, author) in enumerate(pairs):
        at = start - HOUR_MS + place * HOUR_MS // len(pairs)
        world.follow(person, author, at)
        if people.has_subscribers[author] and rng.random() < SUBSCRIBES:
            world.subscribed[person].add(author)
            world.events.append(Subscribe(at, world.people_ids[person], world.people_ids[author]))
    for person, identity in enumerate(world.people_ids):
        disliked = np.flatnonzero(people.tastes[person] < 0)
        if disliked.size and rng.random() < MUTES_A_WORD:
            thing = TOPICS[int(rng.choice(disliked))].things[int(rng.integers(8))]
            world.events.append(MuteKeyword(start - 1, identity, thing.split()[-1]))
