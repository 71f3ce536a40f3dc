"""How soon a like takes effect: a post that a viewer liked is not shown to that viewer again.

A trial asks for a feed, likes its first post and asks again at once, and again as soon as a feed still shows the post:
until one does not, since the previously-seen filter drops what the action sequence holds. Requests let served posts
come again, so that nothing else keeps the post away: every fifth trial sends no like, and its post must still be there.
"""

from typing import Final, NamedTuple

import numpy as np

from benchmarks.kafka.plans import Seconds

CONTROL_EVERY: Final = 5
STEPS_MAX: Final = 90


class Asked(NamedTuple):
    """What a trial wants sent next."""

    like: int | None = None
    again: bool = False


class Trials:
    """All trials of a run, by the place of their first request."""

    def __init__(self) -> None:
        self._post: dict[int, int] = {}
        self._liked_s: dict[int, float] = {}
        self._shown_s: dict[int, float] = {}
        self._tries: dict[int, int] = {}
        self._controls: list[bool] = []

    def take(self, place: int, step: int, posts: list[int], now_s: float) -> Asked:
        """Take a feed of a trial in; return what comes next."""
        control = place % CONTROL_EVERY == 0
        if step == 0:
            if not posts:
                return Asked()
            self._post[place] = posts[0]
            if control:
                return Asked(again=True)
            self._liked_s[place] = now_s
            return Asked(posts[0], again=True)
        if control:
            self._controls.append(self._post[place] in posts)
            return Asked()
        if self._post[place] in posts and step < STEPS_MAX:
            return Asked(again=True)
        self._shown_s[place], self._tries[place] = now_s, step
        return Asked()

    def columns(self, count: int) -> tuple[Seconds, Seconds, Seconds]:
        """Return when each like was sent, when its effect came, and how many feeds that took; NaN for controls."""
        found = []
        for values in (self._liked_s, self._shown_s, self._tries):
            column = np.full(count, np.nan)
            for place, value in values.items():
                column[place] = value
            found.append(column)
        return found[0], found[1], found[2]

    @property
    def unchanged(self) -> float:
        """The share of trials without a like whose feed still showed the post."""
        return sum(self._controls) / max(1, len(self._controls))
