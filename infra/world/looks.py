"""What everybody's looks at a post say of how good it is, weighed as well as can be: quality itself nobody is told."""

from typing import Final

import numpy as np

from infra.world.rates import DWELL_QUALITY, DWELL_SIGMA, QUALITY, Floats
from infra.world.tastes import Ints

_STEPS: Final = 6  # of Newton's method, from the author's mean


class Looks:
    """Sums over the looks at each post, by row.

    A look of s seconds tells of quality by ln s, whose mean is DWELL_QUALITY x quality above what it would be at
    quality 0; n actions where `expected` would come at quality 0 are taken as Poisson, of rate expected x
    exp(QUALITY x quality).
    """

    def __init__(self) -> None:
        self._sums = np.zeros((0, 4))  # looks, ln seconds above those at quality 0, actions, actions expected

    def take(self, rows: Ints, above: Floats, actions: Ints, expected: Floats) -> None:
        """Take looks [n] at posts, each at most once."""
        missing = int(rows.max(initial=-1)) + 1 - len(self._sums)
        if missing > 0:
            self._sums = np.concatenate([self._sums, np.zeros((missing + len(self._sums), 4))])
        self._sums[rows] += np.stack([np.ones(len(rows)), above, actions, expected], axis=1)

    def quality(self, rows: Ints, mean: Floats, deviation: float) -> Floats:
        """Return the likeliest quality of posts [n], drawn from a normal distribution around `mean` [n]."""
        sums = np.zeros((len(rows), 4))
        there = rows < len(self._sums)
        sums[there] = self._sums[rows[there]]
        looks, above, actions, expected = sums.T
        weight = DWELL_QUALITY / DWELL_SIGMA**2
        found = mean
        for _ in range(_STEPS):
            coming = expected * np.exp(QUALITY * found)
            slope = (mean - found) / deviation**2 + weight * (above - DWELL_QUALITY * looks * found)
            slope += QUALITY * (actions - coming)
            bend = 1.0 / deviation**2 + weight * DWELL_QUALITY * looks + QUALITY**2 * coming
            found = found + slope / bend
        return found
