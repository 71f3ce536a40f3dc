"""The first ten posts of each recommender for the same requests, and what they are worth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.world.likes import Likes
from flows.feed_worth import Floats, weigh, weights_of
from flows.world_moments import Moment, moments
from infra.world import Truth, truth_path
from infra.world.worth import Worth
from models.phoenix import Phoenix
from operators.keys import Mask
from operators.parameters import DEFAULTS, Value
from operators.pipeline.scorers import score

WARM_ACTIONS: Final = 20
NEVER: Final = -1e18  # the score of what a recommender can't choose
# What switches off each thing that stands between a weighted sum and a score.
NEUTRAL: Final[dict[str, Value]] = {
    "scoring.out_of_network": False,
    "scoring.author_diversity": False,
    "scoring.reply_mutual_follow_boost": 0.0,
    "dpp.enabled": False,
}
ALONE: Final[dict[str, tuple[str, ...]]] = {
    "the factor for out-of-network posts and in-network replies (.75)": ("scoring.out_of_network",),
    "author diversity": ("scoring.author_diversity",),
    "the boost of replies to mutual follows (+15)": ("scoring.reply_mutual_follow_boost",),
    "diversity by DPP": ("dpp.enabled",),
}

ORACLE: Final = "oracle: all of the truth"
TASTES: Final = "oracle of tastes: not what a session is about before it showed"
FORYOU: Final = "For You, as served"
PLAIN: Final = "For You by worth alone (factors 1, no boost)"
UNTRAINED: Final = "For You, untrained Phoenix"


@dataclass
class Judged:
    """By recommender, one number a request: what its first ten are worth, and their positive part; with who asked."""

    worth: dict[str, list[float]] = field(default_factory=dict)
    positive: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, list[float]] = field(default_factory=dict)
    viewer: list[int] = field(default_factory=list)
    warm: list[bool] = field(default_factory=list)


def judge(
    log: Path, phoenix: Phoenix, from_ms: int, progress: Callable[[int], None] | None = None, every: int = 1
) -> Judged:
    """Return the worth of all recommenders' feeds for the requests of a log from a time on, every so many-th."""
    judged, likes = Judged(), Likes()
    truth = Worth(Truth.load(truth_path(log)))
    untrained = Phoenix.untrained(phoenix.config)
    rng = np.random.default_rng(0)
    for number, moment in enumerate(moments(log, truth, DEFAULTS, phoenix, from_ms, likes.take, every), 1):
        _take(judged, moment, _choices(moment, phoenix, untrained, likes, rng), likes)
        if progress is not None:
            progress(number * every)
    return judged


def _choices(
    moment: Moment, phoenix: Phoenix, untrained: Phoenix, likes: Likes, rng: np.random.Generator
) -> Iterable[tuple[str, Floats]]:
    """Yield the scores of each recommender, and of each step between the best possible feed and the one served."""
    query, table, beliefs, found = moment.query, moment.table, moment.beliefs, moment.found
    parameters = query.parameters

    vectors = phoenix.embed_posts(table.rank_post, table.rank_author, table.rank_terms)

    def served(probabilities: npt.NDArray[np.floating], among: Mask | bool = True, *without: str) -> Floats:
        """Return the scores of the job's scorers, some of them left out, for the posts among which it chooses."""
        rows = np.flatnonzero(np.broadcast_to(among, len(table)))
        changed = parameters.overridden({name: NEUTRAL[name] for name in without})
        asked = replace(query, request=replace(query.request, parameters=changed), degraded=[])
        chosen = score(asked, table.take(rows), probabilities[rows].astype(np.float32), vectors[rows])
        scores = np.full(len(table), NEVER)
        scores[rows] = chosen.score
        return scores

    outputs = phoenix.rank(query.context, table.rank_columns())
    fresh = untrained.rank(query.context, table.rank_columns())
    yield ORACLE, weigh(beliefs.everything, parameters)
    yield TASTES, weigh(beliefs.tastes, parameters)
    yield FORYOU, served(outputs, found)
    yield PLAIN, np.where(found, weigh(outputs, parameters), NEVER)
    yield UNTRAINED, served(fresh, found)
    yield "co-liker", likes.co_liked(query.context.key, table.original, query.at_ms)
    yield "popular, last 24 h", likes.popular(table.original, query.at_ms)
    newest = table.created_ms.astype(np.float64)
    yield "newest of those followed", np.where(table.in_network, newest, newest - 1e15)
    yield "newest", newest
    yield "random", rng.random(len(table))
    yield "an author's mean in place of a post's quality", weigh(beliefs.authors, parameters)
    yield "neither a post's quality nor the session's topic", weigh(beliefs.tastes_and_authors, parameters)
    yield "the truth, among what the sources bring", np.where(found, weigh(beliefs.everything, parameters), NEVER)
    for name, kept in ALONE.items():
        yield f"the truth, with {name}", served(beliefs.everything, True, *(one for one in NEUTRAL if one not in kept))
    yield "the truth, with all of these", served(beliefs.everything)
    yield "the truth, with all of these, among what the sources bring", served(beliefs.everything, found)
    yield "For You, without diversity by DPP", served(outputs, found, "dpp.enabled")
    yield "Phoenix, among all posts", weigh(outputs, parameters)
    positive = np.maximum(weights_of(parameters), 0.0)
    negative = np.minimum(weights_of(parameters), 0.0)
    yield "Phoenix, negative actions left out", np.asarray(outputs @ positive, np.float64)
    yield "Phoenix, the truth for negative actions", outputs @ positive + beliefs.everything @ negative
    yield "Phoenix, the truth for positive actions", beliefs.everything @ positive + outputs @ negative


def _take(judged: Judged, moment: Moment, choices: Iterable[tuple[str, Floats]], likes: Likes) -> None:
    worth = moment.worth
    positive = moment.beliefs.everything @ np.maximum(weights_of(moment.query.parameters), 0.0)
    best = moment.first(worth)
    for name, scores in choices:
        first = moment.first(scores)
        judged.worth.setdefault(name, []).append(float(worth[first].mean()))
        judged.positive.setdefault(name, []).append(float(positive[first].mean()))
    viewer = moment.query.context.key
    judged.viewer.append(viewer)
    judged.warm.append(likes.actions[viewer] >= WARM_ACTIONS)
    known = moment.beliefs
    facts = {
        "posts a feed may show": float(len(worth)),
        "of them brought by the sources": float(moment.found.sum()),
        "of the ten best among the brought": float(moment.found[best].mean()),
        "in-network among the ten best": float(moment.table.in_network[best].mean()),
        "sessions that have shown their topic": float(np.array_equal(known.everything, known.tastes)),
        "groups in the history": float(len(moment.query.context.history)),
    }
    for name, value in facts.items():
        judged.facts.setdefault(name, []).append(value)
