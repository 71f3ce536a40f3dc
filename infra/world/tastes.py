"""Tastes that change while a world lives: people trade topics they like for others, a few a day or everybody at once.

A trade swaps two topics of one person, so that what is true of tastes stays true: liked shares sum to 1, and what a
session is about follows. What people write stays what it was.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import DAY_MS, WorldParameters
from infra.world.rates import Floats

Ints = npt.NDArray[np.int64]
_OF_TRADES: Final = 1  # beside the world's seed: trades are drawn apart, and a world without any is as it was


class Tastes:
    """The tastes [P, T] of people over time, and what their sessions are about in each part of the day [P, 4, T].

    `taste_drift_day` is the chance that a person trades one liked topic for one of no interest at the end of a day; at
    `taste_change_day` everybody trades all of theirs.
    """

    def __init__(self, parameters: WorldParameters, tastes: Floats, part_focus: Floats) -> None:
        self._tastes = tastes
        self._part_focus = part_focus
        self._since, self._orders = _trades(parameters, tastes)

    def at(self, people: Ints, at_ms: Ints) -> Floats:
        """Return the tastes of people [n], each at a time [n]: float64[n, T]."""
        return self._tastes[people[:, None], self._order(people, at_ms)]

    def focus_at(self, people: Ints, part: Ints, at_ms: Ints) -> Floats:
        """Return the chances of each topic to be what a session is about in a part of the day [n]: float64[n, T]."""
        return self._part_focus[people[:, None], part[:, None], self._order(people, at_ms)]

    def _order(self, people: Ints, at_ms: Ints) -> Ints:
        """Return for people [n] at times [n] which first topic each topic stands for: int64[n, T]."""
        place = np.maximum(np.searchsorted(self._since, at_ms, "right") - 1, 0)
        return self._orders[place, people]


def _trades(parameters: WorldParameters, tastes: Floats) -> tuple[Ints, Ints]:
    """Return the times [K] from which orders int64[K, P, T] of topics hold."""
    people, topics = tastes.shape
    since = [parameters.start_ms]
    orders = [np.tile(np.arange(topics), (people, 1))]
    drift, change = parameters.taste_drift_day, parameters.taste_change_day
    times = [(float(day), False) for day in range(1, int(np.ceil(parameters.days)))] if drift else []
    times += [(change, True)] if 0 < change < parameters.days else []
    rng = np.random.default_rng([parameters.seed, _OF_TRADES])
    for day, is_change in sorted(times):
        order = orders[-1].copy()
        who = np.arange(people) if is_change else np.flatnonzero(rng.random(people) < drift)
        for person in who.tolist():
            now = tastes[person, order[person]]
            liked, free = np.flatnonzero(now > 0), np.flatnonzero(now == 0)
            given = liked if is_change else rng.choice(liked, 1)
            taken = rng.choice(free, len(given), replace=False)
            both = np.concatenate([given, taken])
            order[person, both] = order[person, np.concatenate([taken, given])]
        since.append(parameters.start_ms + round(day * DAY_MS))
        orders.append(order)
    return np.array(since, np.int64), np.array(orders, np.int64)
