"""What a feed is worth where the truth is known: true chances by the weights that rank, over the first ten places."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.parameters import Parameters
from schemas.actions import ACTIONS

# A feed is judged by its first screenful.
TOP: Final = 10

Floats = npt.NDArray[np.float64]


def weights_of(parameters: Parameters) -> Floats:
    """Return the weight of each action, float64[19]."""
    return np.array([getattr(parameters.weights, name) for name in ACTIONS])


def weigh(probabilities: npt.NDArray[np.floating], parameters: Parameters) -> Floats:
    """Return the weighted sums of probabilities [n, 19], with the published weights (x-algorithm.md 1.5)."""
    return np.asarray(probabilities, np.float64) @ weights_of(parameters)


def worth_of(posts: Floats) -> float:
    """Return what a feed is worth whose posts are worth so much each [n]: the mean of its first places, 0 for empty."""
    return float(posts[:TOP].sum() / TOP)


def best_worth_of(posts: Floats) -> float:
    """Return what a feed of these posts [n] is worth at best: who knows the truth leaves a place empty before harm."""
    return worth_of(np.sort(np.maximum(posts, 0.0))[::-1])
