"""Author cold start: one post a request of an author with few followers, that few have seen, gets its chance."""

import numpy as np
import numpy.typing as npt

from operators.keys import Mask
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores, best_first
from operators.viewers.query import Query
from schemas.actions import COUNT_NAMES
from schemas.ids import key_of

_SHOWN = COUNT_NAMES.index("shown")
_FAVORITE = COUNT_NAMES.index("favorite")
# The least parameter of a Beta distribution: posts that were liked more often than shown have been miscounted.
_BETA_MIN = 1e-3


def author_cold_start(query: Query, table: CandidateTable, scored: Scored) -> Scores:
    """Raise the best original of an author with few followers, which few have seen, to the 16th best score (1.6).

    One post a request at most. Of the candidates whose score is not 0 those qualify that rank among the first
    `rank_share`, whose author's followers are known and at most `followers_max`, and which are known to have been shown
    less than `views_max` times: a post that nobody was ever shown or acted on is not known. With `thompson` the choice
    is among the `thompson_top` that draw the highest share of likes; see `_drawn`.
    """
    cold_start = query.parameters.cold_start
    values = scored.score.copy()
    if len(values) <= cold_start.slot:
        return values
    chances = np.flatnonzero(eligible(query, table) & _ranks_high(scored.score, table, cold_start.rank_share))
    if cold_start.thompson and len(chances):
        chances = chances[_drawn(query, table, chances)]
    if len(chances):
        chosen = best_first(scored.score, table, 1, chances)[0]
        values[chosen] = -np.partition(-scored.score, cold_start.slot)[cold_start.slot]
    return values


def _ranks_high(scores: Scores, table: CandidateTable, share: float) -> Mask:
    """Return which candidates are among the first share of those whose score is not 0, bool[n]; without sorting all."""
    rows = np.flatnonzero(scores)
    first = int(np.ceil(share * len(rows)))
    high = np.zeros(len(scores), np.bool_)
    if not 0 < first < len(rows):
        high[rows[:first]] = True
        return high
    last = -np.partition(-scores[rows], first - 1)[first - 1]
    better, ties = rows[scores[rows] > last], rows[scores[rows] == last]
    high[better] = True
    high[best_first(scores, table, first - len(better), ties)] = True
    return high


def eligible(query: Query, table: CandidateTable) -> Mask:
    """Return which candidates cold start may raise wherever they rank, bool[n]."""
    cold_start = query.parameters.cold_start
    small = (table.author_followers >= 0) & (table.author_followers <= cold_start.followers_max)
    unseen = table.rank_counts.any(axis=1) & (table.rank_counts[:, _SHOWN] < cold_start.views_max)
    found: Mask = small & unseen & ~table.is_reply & ~table.is_repost
    if cold_start.age_s:
        found &= table.created_ms >= query.at_ms - cold_start.age_s * 1000
    return found


def _drawn(query: Query, table: CandidateTable, chances: npt.NDArray[np.intp]) -> Mask:
    """Return which of the candidates at `chances` draw the highest shares of likes, bool[n] (Thompson sampling).

    Each draws from Beta(likes before + likes, others before + views - likes). The draws follow from the request's id
    and the posts drawn for, in the order of their keys, and so are the same in a replay.
    """
    cold_start = query.parameters.cold_start
    counts = table.rank_counts[chances].astype(np.float64)
    likes = cold_start.thompson_likes + counts[:, _FAVORITE]
    others = np.maximum(cold_start.thompson_others + counts[:, _SHOWN] - counts[:, _FAVORITE], _BETA_MIN)
    by_key = np.argsort(table.post[chances])
    samples = np.empty(len(chances))
    samples[by_key] = np.random.default_rng(key_of(query.request.event.request)).beta(likes[by_key], others[by_key])
    drawn = np.zeros(len(chances), np.bool_)
    drawn[np.lexsort((table.post[chances], -samples))[: cold_start.thompson_top]] = True
    return drawn
