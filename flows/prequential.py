"""What a viewer is about to act on, asked along a log: every answer is tried before it is taken in.

The log holds a feed request before each action that is to be foretold. What is known of viewer and posts then comes
from the same intake and state that serve feeds; candidates are all posts that anybody acted on of late.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flows.intake import Intake
from flows.training_examples import Example
from infra.logs.reader import LogReader
from infra.polls import polls_of
from models.inputs import Candidates, Context
from operators.keys import Keys
from operators.pipeline.candidates import RETRIEVAL
from operators.pipeline.hydration import hydrate
from operators.posts.co_likers import CoLikers
from operators.posts.live import LivePosts
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX, Action


@dataclass(frozen=True, slots=True)
class Asked:
    """A request by its number, with what the ranker reads, and the row of `posts` that the viewer acts on next."""

    number: int
    context: Context
    posts: Candidates
    goal: int

    def example(self, action: Action) -> Example:
        """Return it as an example to train on, now that it is known: one post is acted on, the others aren't."""
        actions = np.zeros(len(self.posts), np.uint32)
        actions[self.goal] = 1 << ACTION_INDEX[action]
        return Example(self.context, self.posts, actions, np.zeros(len(self.posts), np.float32), shown=False)

    def sample(self, count: int, rng: np.random.Generator) -> "Asked":
        """Return it with at most `count` posts, the goal first and the others drawn evenly."""
        others = np.delete(np.arange(len(self.posts)), self.goal)
        rows = np.concatenate([[self.goal], rng.permutation(others)[: count - 1]])
        return Asked(self.number, self.context, self.posts.take(rows), 0)


class Asking:
    """Follows a log and asks; an action on a post that is no candidate is not asked about.

    `goals` are the posts acted on, by number of request; candidates are the posts with an action in `window_ms`, but
    for the viewer's own and those acted on before. Of them `posts_max` of a number are drawn, all where it is None.
    """

    def __init__(
        self,
        intake: Intake,
        goals: Keys,
        window_ms: int,
        posts_max: Callable[[int], int | None] = lambda _: None,
        seed: int = 0,
    ) -> None:
        if intake.state.posts.co_likers is None:
            raise ValueError("nobody keeps co-likers: who acts on what of late isn't known")
        self._intake = intake
        self._live: LivePosts = intake.state.posts
        self._co_likers: CoLikers = intake.state.posts.co_likers
        self._goals = goals
        self._window_ms = window_ms
        self._posts_max = posts_max
        self._rng = np.random.default_rng(seed)
        self.not_asked = 0

    def along(self, reader: LogReader, progress: Callable[[int, int], None] | None = None) -> Iterator[Asked]:
        """Yield what is asked, before the log goes on."""
        for raw in polls_of(reader):
            if progress is not None:
                progress(reader.bytes_read, reader.bytes_total)
            for poll in self._intake.update_posts(self._intake.decode(raw)):
                for query in self._intake.update_viewers(poll):
                    asked = self._ask(query)
                    if asked is not None:
                        yield asked
                    else:
                        self.not_asked += 1

    def _ask(self, query: Query) -> Asked | None:
        number, viewer = int(query.request.event.request), query.request.viewer
        goal, co_likers = self._goals[number], self._co_likers
        keys = np.sort(co_likers.active(query.at_ms - self._window_ms))
        keys = keys[~np.isin(keys, co_likers.latest(viewer, len(co_likers)))]
        if goal not in keys:
            return None
        count = self._posts_max(number)
        if count is not None:
            others = keys[keys != goal]
            keys = np.append(goal, self._rng.choice(others, min(count - 1, len(others)), replace=False))
        rows = self._live.table.rows_of(keys)
        circle = co_likers.circle(viewer, query.at_ms)
        table = hydrate(query, self._live, rows, np.full(len(rows), RETRIEVAL, np.uint8), circle)
        return Asked(number, query.context, table.rank_columns(), int(np.flatnonzero(keys == goal)[0]))
