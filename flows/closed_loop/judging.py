"""Feeds of a closed loop against the truth, and against who else could have chosen from the same posts."""

from dataclasses import replace
from typing import Final

import numpy as np

from flows.closed_loop.records import Ints, Judgement
from flows.feed_worth import TOP, Floats, best_worth_of, weigh, worth_of
from flows.world_moments import eligible, first_of
from infra.world import Crowd
from infra.world.sessions import Asked
from infra.world.worth import NOBODY
from models.phoenix import Phoenix
from operators.keys import keys_of
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import score
from operators.posts.live import LivePosts
from operators.ranked import Ranked
from operators.viewers.query import Query
from schemas.feeds import Feed

SERVED: Final = "served"
BEST: Final = "best possible"
FORESEEN: Final = "all that can be foreseen"
TRUTH: Final = "the truth in the model's place"
POPULAR: Final = "popular"
NEWEST: Final = "newest of followed"
RANDOM: Final = "random"


class Judge:
    """Judges every so many-th feed. Choosing at random has a seed of its own: judging changes nothing."""

    def __init__(self, crowd: Crowd, every: int) -> None:
        self._crowd = crowd
        self._every = every
        self._rng = np.random.default_rng(0)

    def wants(self, asked: Asked) -> bool:
        """Return whether a feed is to be judged; those confined to followed authors or to no videos are not."""
        request = asked.request
        number = request.request
        confined = request.in_network_only or request.exclude_videos
        return not confined and isinstance(number, int) and number % self._every == 0

    def judge(self, asked: Asked, ranked: Ranked, feed: Feed, posts: LivePosts, phoenix: Phoenix) -> Judgement | None:
        """Return what a feed is worth, with the state as it was when it was asked for; None where there was no choice.

        Everybody chooses from all live posts that the viewer may see, that is, that pass the filters.
        """
        query = ranked.query
        table = eligible(query, posts)
        rows = self._rows(table)
        table, rows = table.take(rows != NOBODY), rows[rows != NOBODY]
        shown = keys_of([item.post for item in feed.items[:TOP]])
        if len(rows) < TOP or not len(shown) or ranked.probabilities is None:
            return None
        true = self._crowd.probabilities(asked, rows, table.rank_author_followed)
        worth = weigh(true, query.parameters)
        places = (ranked.table.post == shown[:, None]).argmax(axis=1)
        own = ranked.table.take(places)
        of_shown = self._crowd.probabilities(asked, self._rows(own), own.rank_author_followed)
        chosen = self._chosen(query, table, rows)
        foreseen = self._crowd.foreseeable(asked, rows, table.rank_author_followed)
        chosen[FORESEEN] = weigh(foreseen, query.parameters)
        chosen[TRUTH] = _through(query, table, true, phoenix)
        found = {name: worth_of(worth[first_of(table, scores)]) for name, scores in chosen.items()}
        found[BEST] = best_worth_of(worth[first_of(table, worth)])
        found[SERVED] = worth_of(weigh(of_shown, query.parameters))
        return Judgement(found, ranked.probabilities[places].astype(np.float64), of_shown)

    def _rows(self, table: CandidateTable) -> Ints:
        """Return the rows of posts in the world."""
        return self._crowd.worth.posts(table.post)

    def _chosen(self, query: Query, table: CandidateTable, rows: Ints) -> dict[str, Floats]:
        """Return the scores that others go by."""
        newest = table.created_ms.astype(np.float64)
        return {
            POPULAR: self._crowd.popularity(rows, query.at_ms),
            NEWEST: np.where(table.in_network, newest, newest - 1e15),
            RANDOM: self._rng.random(len(table)),
        }


def _through(query: Query, table: CandidateTable, true: Floats, phoenix: Phoenix) -> Floats:
    """Return the scores that the job's own scorers give where the truth stands in the model's place."""
    vectors = phoenix.embed_posts(table.rank_post, table.rank_author, table.rank_terms)
    return score(replace(query, degraded=[]), table, true.astype(np.float32), vectors).score.astype(np.float64)
