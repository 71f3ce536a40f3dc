"""What everybody did with posts so far, and two simple recommenders of it: what is popular, and what co-likers like."""

from collections import Counter, defaultdict, deque
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.decode import Poll
from schemas.actions import ACTION_INDEX

# What says that somebody liked a post; looking at it, however long, does not.
LIKES: Final = frozenset(
    ACTION_INDEX[name]
    for name in ("favorite", "reply", "retweet", "quote", "share", "share_via_dm", "share_via_copy_link")
)
_DWELLING: Final = frozenset({ACTION_INDEX["dwell"], ACTION_INDEX["dwell_time"]})
POPULAR_WITHIN_MS: Final = 24 * 3_600_000
HALF_LIFE_MS: Final = 6 * 3_600_000  # of a co-liker's like
LIKED_MAX: Final = 200  # posts of a viewer that say who is alike

Floats = npt.NDArray[np.float64]


class Likes:
    """Follows the polls of a log; `actions` counts what each viewer did beside looking."""

    def __init__(self) -> None:
        self.actions: Counter[int] = Counter()
        self._recent: deque[tuple[int, int]] = deque()
        self._count: Counter[int] = Counter()
        self._liked: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=LIKED_MAX))
        self._likers: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._total: Counter[int] = Counter()

    def take(self, poll: Poll) -> None:
        """Take a poll's actions."""
        if poll.actions is None:
            return
        actions = poll.actions
        columns = (actions.slot.view(np.uint64), actions.post, actions.action, actions.undo, actions.at_ms)
        for viewer, post, action, undo, at_ms in zip(*(column.tolist() for column in columns), strict=True):
            if undo:
                continue
            self.actions[viewer] += action not in _DWELLING
            if action in LIKES:
                self._recent.append((at_ms, post))
                self._count[post] += 1
                if viewer not in self._likers[post]:
                    self._liked[viewer].append(post)
                    self._total[viewer] += 1
                self._likers[post][viewer] = at_ms

    def popular(self, posts: npt.NDArray[np.uint64], at_ms: int) -> Floats:
        """Return how often each post was liked within the last day."""
        while self._recent and self._recent[0][0] < at_ms - POPULAR_WITHIN_MS:
            self._count[self._recent.popleft()[1]] -= 1
        return np.array([self._count[post] for post in posts.tolist()], np.float64)

    def co_liked(self, viewer: int, posts: npt.NDArray[np.uint64], at_ms: int) -> Floats:
        """Return for each post the sum over its likers of what they have in common with the viewer.

        That is the number of posts both liked, over the root of how many the other liked; a like counts half after
        six hours. Popularity breaks ties among posts that nobody alike has liked.
        """
        common: Counter[int] = Counter()
        for post in self._liked[viewer]:
            common.update(self._likers[post].keys())
        del common[viewer]
        alike = {other: count / self._total[other] ** 0.5 for other, count in common.items()}
        scores = 1e-6 * self.popular(posts, at_ms)
        for place, post in enumerate(posts.tolist()):
            for other, liked_ms in self._likers[post].items() if post in self._likers else ():
                scores[place] += alike.get(other, 0.0) * 0.5 ** ((at_ms - liked_ms) / HALF_LIFE_MS)
        return scores
