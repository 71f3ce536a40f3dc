"""What the simulated world shows before any learned model does: recent, popular and random posts in random order."""

from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.parameters import HOUR_MS
from infra.world.state import World

LATEST_OF_AUTHOR: Final = 6  # posts of one followed author considered
RETENTION_MS: Final = 48 * HOUR_MS  # as Thunder's, x-algorithm.md 2
POPULAR: Final = 100
POPULAR_EVERY_MS: Final = 10 * 60_000
POPULAR_WITHIN_MS: Final = 24 * HOUR_MS
RECENCY_MS: Final = 6 * HOUR_MS  # a followed post's chance halves about every four hours

Rows = npt.NDArray[np.int64]


class Policy:
    """Chooses slates. Posts already shown to a person are not shown again; reposts show their originals."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng
        self._popular: Rows = np.empty(0, np.int64)
        self._popular_weights = np.empty(0)
        self._popular_at = -POPULAR_EVERY_MS

    def choose(self, person: int, at: int, in_network_only: bool, exclude_videos: bool) -> list[int]:
        """Return the rows of at most a slate of posts, in the order shown."""
        parameters = self._world.parameters
        size = parameters.slate
        chosen: dict[int, None] = {}
        followed = eligible(self._world, person, at, self._followed(person, at), exclude_videos)
        age_ms = at - self._world.posts.rows["created"][followed]
        wanted = size if in_network_only else round(size * parameters.followed_share)
        chosen.update(dict.fromkeys(self._draw(followed, -age_ms / RECENCY_MS, wanted)))
        if not in_network_only:
            self._refresh_popular(at)
            popular = eligible(self._world, person, at, self._popular, exclude_videos)
            weights = self._popular_weights[np.isin(self._popular, popular)]
            wanted = round(size * parameters.popular_share)
            chosen.update(dict.fromkeys(self._draw(popular, np.log(weights), wanted)))
            first = self._world.posts.first_since(at - RETENTION_MS)
            draws = self._rng.integers(first, max(self._world.posts.count, first + 1), 3 * size)
            anything = np.unique(draws[draws < self._world.posts.count])
            rest = [
                row for row in eligible(self._world, person, at, anything, exclude_videos).tolist() if row not in chosen
            ]
            self._rng.shuffle(rest)
            chosen.update(dict.fromkeys(rest[: size - len(chosen)]))
        slate = list(chosen)
        self._rng.shuffle(slate)
        return slate

    def _followed(self, person: int, at: int) -> Rows:
        """Return the latest posts of followed authors; a repost stands for its original."""
        world = self._world
        rows = [row for author in world.follows[person] for row in world.posts_of[author][-LATEST_OF_AUTHOR:]]
        found = np.array(rows, np.int64)
        posts = world.posts.rows[found]
        return np.unique(posts["original"][posts["created"] <= at]).astype(np.int64)

    def _draw(self, rows: Rows, log_weights: npt.NDArray[np.float64], count: int) -> list[int]:
        """Return up to `count` of the rows, drawn without replacement by weight (Gumbel's trick)."""
        order = np.argsort(-(log_weights + self._rng.gumbel(0.0, 1.0, rows.size)), kind="stable")
        drawn: list[int] = rows[order[:count]].tolist()
        return drawn

    def _refresh_popular(self, at: int) -> None:
        """Find the posts with the most done to them, fading over a day; every ten minutes."""
        if at - self._popular_at < POPULAR_EVERY_MS:
            return
        self._popular_at = at
        posts = self._world.posts
        first = posts.first_since(at - POPULAR_WITHIN_MS)
        age_ms = np.maximum(at - posts.rows["created"][first:], 0)
        score = (np.array(self._world.heat[first:]) + 0.01) * np.exp(-age_ms / RECENCY_MS)
        top = np.sort(np.argsort(-score, kind="stable")[:POPULAR])
        self._popular = first + top
        self._popular_weights = score[top]


def eligible(world: World, person: int, at: int, rows: Rows, exclude_videos: bool) -> Rows:
    """Return the rows that may be shown to a person: alive, allowed, another's, and not shown before."""
    posts = world.posts.rows[rows]
    fit = (posts["original"] == rows) & (posts["created"] <= at) & (posts["created"] > at - RETENTION_MS)
    fit &= (posts["deleted_at"] > at) & (posts["labelled_at"] > at) & (posts["author"] != person)
    if exclude_videos:
        fit &= posts["video_ms"] == 0
    shown, barred, subscribed = world.shown[person], world.barred[person], world.subscribed[person]
    return np.array(
        [
            row
            for row, author, paid in zip(
                rows[fit].tolist(),
                posts["author"][fit].tolist(),
                posts["subscribers_only"][fit].tolist(),
                strict=True,
            )
            if row not in shown and author not in barred and (not paid or author in subscribed)
        ],
        np.int64,
    )
