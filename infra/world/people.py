"""The people of a simulated world: what they like, when they come, what they write about and whom they follow."""

from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from infra.world.parameters import WorldParameters
from infra.world.phrases import TOPICS
from infra.world.rates import Bools, Floats

TOPIC_COUNT: Final = len(TOPICS)
PARTS: Final = 4  # of the day: night, morning, afternoon, evening, six hours each
LIKED_MIN, LIKED_MAX = 2, 4  # topics a person likes
DISLIKED_MAX: Final = 2
DISLIKE: Final = -0.15  # the taste for a disliked topic; liked ones sum to 1
PART_WEIGHT: Final = 5.0  # how much likelier a liked topic is in its own part of the day
# Whole hours from UTC where people live, and their shares.
TIME_ZONES: Final = ((-8, 0.10), (-5, 0.20), (0, 0.20), (1, 0.30), (5, 0.10), (9, 0.10))
# Authors considered when somebody chooses whom to follow: a person knows some hundreds of accounts, not millions.
ACQUAINTED_MAX: Final = 400
MUTUAL_SHARE: Final = 0.25  # of follows that are returned whatever the tastes


class People(Struct, frozen=True):
    """P people; T = 16 topics, 4 parts of the day."""

    tastes: Floats  # [P, T] liked topics sum to 1, disliked ones are negative
    part_focus: Floats  # [P, 4, T] the chance of each topic to be what a session in that part of the day is about
    time_zone_h: npt.NDArray[np.int64]  # [P]
    writes: Floats  # [P, T] the chance of each topic for a post
    quality: Floats  # [P]
    post_rate: Floats  # [P] relative, mean 1
    session_rate: Floats  # [P] relative, mean 1
    spam: Bools  # [P]
    nsfw: Bools  # [P]
    has_subscribers: Bools  # [P]
    new_reader: Bools  # [P] opens no feed before parameters.new_readers_from_day
    follows: list[npt.NDArray[np.int64]]  # [P] arrays of people, ascending


def make_people(parameters: WorldParameters, rng: np.random.Generator) -> People:
    """Return the people of a world."""
    count = parameters.people
    tastes = _tastes(count, rng)
    liked = np.maximum(tastes, 0.0)
    own_part = rng.integers(1, PARTS, (count, TOPIC_COUNT))
    weight = np.where(own_part[:, None, :] == np.arange(PARTS)[None, :, None], PART_WEIGHT, 1.0)
    part_focus = liked[:, None, :] * weight
    part_focus /= part_focus.sum(2, keepdims=True)
    zones, shares = (np.array(column) for column in zip(*TIME_ZONES, strict=True))
    writes = 0.75 * liked**2 / (liked**2).sum(1, keepdims=True) + 0.15 * liked + 0.10 / TOPIC_COUNT
    writes /= writes.sum(1, keepdims=True)
    post_rate = rng.lognormal(0.0, 0.9, count)
    session_rate = rng.lognormal(0.0, 0.5, count)
    spam = rng.random(count) < parameters.spam_people_share
    return People(
        tastes=tastes,
        part_focus=part_focus,
        time_zone_h=rng.choice(zones, count, p=shares),
        writes=writes,
        quality=rng.normal(0.0, 0.45, count),
        post_rate=post_rate / post_rate.mean(),
        session_rate=session_rate / session_rate.mean(),
        spam=spam,
        nsfw=~spam & (rng.random(count) < parameters.nsfw_people_share),
        has_subscribers=~spam & (rng.random(count) < parameters.subscriber_people_share),
        follows=_follows(parameters, tastes, writes, post_rate, spam, rng),
        # Drawn last, so that the people are the same however many of them are new.
        new_reader=rng.random(count) < parameters.new_readers_share,
    )


def _tastes(count: int, rng: np.random.Generator) -> Floats:
    """Return [count, T]: two to four liked topics with shares that sum to 1, up to two disliked ones."""
    order = rng.permuted(np.tile(np.arange(TOPIC_COUNT), (count, 1)), axis=1)
    liked = rng.integers(LIKED_MIN, LIKED_MAX + 1, count)
    disliked = rng.integers(0, DISLIKED_MAX + 1, count)
    shares = rng.gamma(2.0, 1.0, (count, LIKED_MAX)) * (np.arange(LIKED_MAX) < liked[:, None])
    shares /= shares.sum(1, keepdims=True)
    tastes = np.zeros((count, TOPIC_COUNT))
    np.put_along_axis(tastes, order[:, :LIKED_MAX], shares, axis=1)
    dislikes = DISLIKE * (np.arange(DISLIKED_MAX) < disliked[:, None])
    np.put_along_axis(tastes, order[:, LIKED_MAX : LIKED_MAX + DISLIKED_MAX], dislikes, axis=1)
    return tastes


def _follows(
    parameters: WorldParameters,
    tastes: Floats,
    writes: Floats,
    post_rate: Floats,
    spam: Bools,
    rng: np.random.Generator,
) -> list[npt.NDArray[np.int64]]:
    """Return whom each person follows: mostly by taste and how much an author writes, with noise; some follow back."""
    count = parameters.people
    wanted = np.clip(rng.lognormal(np.log(parameters.follows_per_person) - 0.25, 0.7, count), 1, count - 1).astype(int)
    everybody = np.arange(count)
    chosen: list[set[int]] = []
    for person in range(count):
        known = everybody
        if count > 2 * ACQUAINTED_MAX:
            known = np.unique(rng.integers(0, count, ACQUAINTED_MAX + 3 * int(wanted[person])))
        attraction = 4.0 * (writes[known] @ tastes[person]) + 0.7 * np.log(post_rate[known]) - 3.0 * spam[known]
        attraction = attraction + rng.gumbel(0.0, 1.0, known.size)
        attraction[known == person] = -np.inf
        take = min(int(wanted[person]), known.size - 1)
        chosen.append(set(known[np.argpartition(-attraction, take)[:take]].tolist()))
    for person in range(count):
        for author in sorted(chosen[person]):
            if person not in chosen[author] and rng.random() < MUTUAL_SHARE and not spam[person]:
                chosen[author].add(person)
    return [np.array(sorted(authors), np.int64) for authors in chosen]
