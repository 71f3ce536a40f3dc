"""Simple recommenders of the next post, kept up along a log: what any model has to beat.

Candidates are the posts acted on within the last day. `popularity` counts those actions; `co_engagement` weighs them by
how many posts their authors have in common with the viewer; `both` adds the two on a logarithmic scale.
"""

from collections import Counter, defaultdict, deque
from typing import Final

import numpy as np
import numpy.typing as npt

WINDOW_MS: Final = 24 * 3600 * 1000
# The newest of a viewer's posts, and of a post's viewers, that say who is alike: bounds the work for one request.
HISTORY: Final = 200
SHARERS: Final = 1000

NAMES: Final = ("popularity", "co_engagement", "both")


class Baselines:
    """Follows actions in time order; answers with the rank of a post among its candidates."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self._window_ms = window_ms
        self._recent: deque[tuple[int, int, int]] = deque()
        self._counts: Counter[int] = Counter()
        self._posts_of: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))
        self._viewers_of: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=SHARERS))
        self._recent_of: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def take(self, at_ms: int, viewer: int, post: int) -> None:
        """Take one action."""
        self._recent.append((at_ms, viewer, post))
        self._counts[post] += 1
        self._posts_of[viewer].append(post)
        self._viewers_of[post].append(viewer)
        self._recent_of[viewer][post] += 1

    def forget(self, before_ms: int) -> None:
        """Drop the actions before a time from what is popular."""
        while self._recent and self._recent[0][0] < before_ms:
            _, viewer, post = self._recent.popleft()
            for counts, key in ((self._counts, post), (self._recent_of[viewer], post)):
                counts[key] -= 1
                if not counts[key]:
                    del counts[key]

    def scores(self, at_ms: int, viewer: int) -> tuple[npt.NDArray[np.uint64], dict[str, npt.NDArray[np.float64]]]:
        """Return a viewer's candidates and their scores by each method; posts the viewer acted on are left out."""
        self.forget(at_ms - self._window_ms)
        mine = set(self._posts_of[viewer])
        posts = [post for post in self._counts if post not in mine]
        alike: Counter[int] = Counter()
        for post in mine:
            alike.update(self._viewers_of[post])
        del alike[viewer]
        affinity: Counter[int] = Counter()
        for other, common in alike.items():
            for post in self._recent_of.get(other, ()):
                affinity[post] += common
        popularity = np.log1p([self._counts[post] for post in posts])
        co_engagement = np.log1p([affinity[post] for post in posts])
        # Popularity breaks ties among posts that nobody alike has touched.
        scores = {
            "popularity": popularity,
            "co_engagement": co_engagement + 1e-6 * popularity,
            "both": co_engagement + popularity,
        }
        return np.array(posts, np.uint64), scores


def rank_of(post: int, posts: npt.NDArray[np.uint64], scores: npt.NDArray[np.float64]) -> int | None:
    """Return the rank, from 1, of a post by score, or None where it is no candidate; ties count against it."""
    found = np.flatnonzero(posts == np.uint64(post))
    if not len(found):
        return None
    return int((scores >= scores[found[0]]).sum())
