"""Simple recommenders of the next film: each gives a user's scores of all films, as `protocol.judged` takes them."""

from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.movielens.protocol import Films, Scores

# A film's place in a history decays as the table of transitions does that the data's page measures.
DECAY: Final = 0.8
TRANSITIONS_BACK: Final = 20
EASE_L2: Final = 200.0


def popularity(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return the number of ratings a film has."""
    counts = np.bincount(np.concatenate([rows[:-held_out] for rows in films.rows]), minlength=len(films.catalogue.post))
    return lambda _user: counts.astype(np.float64)


def transitions(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return how often films follow those of the user, the latest counting most."""
    count = len(films.catalogue.post)
    follows = np.zeros((count, count), np.float32)
    for rows in films.rows:
        known = rows[:-held_out]
        for back in range(1, TRANSITIONS_BACK + 1):
            np.add.at(follows, (known[:-back], known[back:]), DECAY ** (back - 1))
    follows /= np.maximum(follows.sum(axis=1, keepdims=True), 1.0)

    def scores(user: int) -> Scores:
        known = films.rows[user][:-held_out][::-1][:TRANSITIONS_BACK]
        return DECAY ** np.arange(len(known)) @ follows[known]

    return scores


def ease(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return EASE (Steck 2019): the linear item-to-item model in closed form, over the user's latest films."""
    count = len(films.catalogue.post)
    rated = np.zeros((len(films.rows), count), np.float32)
    for user, rows in enumerate(films.rows):
        rated[user, rows[:-held_out]] = 1
    inverse = np.linalg.inv(rated.T @ rated + EASE_L2 * np.eye(count, dtype=np.float32))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)

    def scores(user: int) -> Scores:
        known = films.rows[user][:-held_out][::-1]
        return DECAY ** (np.arange(len(known)) / 4) @ weights[known]

    return scores
