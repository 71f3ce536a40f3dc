"""Exploration: posts on the topics met least come up to their places, and what ranks higher by itself stays there."""

from dataclasses import replace

import numpy as np

from models.inputs import TERMS, History
from operators.parameters import DEFAULTS
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.explanation import why
from operators.pipeline.scorers import HEADS, SCORERS, score
from operators.pipeline.scorers.exploration import exploration
from operators.pipeline.scorers.steps import Scored
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

# Twenty candidates that score 20, 19, ... 1: the 11th best scores 10, the 13th 8.
SCORES = [float(one) for one in range(20, 0, -1)]
TWO = DEFAULTS.overridden({"exploration.enabled": True, "exploration.posts": 2, "exploration.every": 2})


def on(topics: dict[int, int]) -> CandidateTable:
    """Return twenty candidates on topic 1, but for those at some rows."""
    terms = np.zeros((20, TERMS), np.uint16)
    terms[:, 0] = 1
    for row, topic in topics.items():
        terms[row, 0] = topic
    return table(rank_terms=terms.tolist())


def met(*topics: int) -> History:
    terms = np.zeros((len(topics), TERMS), np.uint16)
    terms[:, 0] = topics
    none = np.zeros(len(topics), np.int64)
    return History(
        none.astype(np.uint64), none.astype(np.uint64), terms, none.astype(np.uint32), none.astype(np.float32),
        none.astype(np.uint8), none,
    )  # fmt: skip


def raised(
    rows: CandidateTable, history: History, scores: list[float] = SCORES, request: str = "r", parameters=TWO
) -> dict[int, float]:
    """Return which candidates come up, and to which score."""
    asked = query(parameters=parameters, event=FeedRequest(at=NOW_MS, request=request, viewer=VIEWER))
    asked.context = replace(asked.context, history=history)
    after, before = np.array(scores), np.array(SCORES)
    found = Scored(np.zeros((20, len(HEADS)), np.float32), np.zeros((0, 20)), before, after)
    values = np.maximum(after, exploration(asked, rows, found))
    return {int(row): float(values[row]) for row in np.flatnonzero(values != after)}


def test_the_best_posts_on_the_topics_met_least_come_up_to_their_places() -> None:
    # Topic 1 was met four times, 2 thrice, 3 once and 4 never: 4 comes to the 11th place and 3 to the 13th.
    history = met(1, 2, 1, 3, 1, 2, 1, 2)
    assert raised(on({13: 2, 14: 3, 15: 3, 17: 4, 18: 4}), history) == {17: 10.0, 14: 8.0}


def test_a_post_that_ranks_higher_by_itself_takes_the_chance_and_stays() -> None:
    assert raised(on({3: 4, 14: 3}), met(1, 1, 3)) == {14: 8.0}


def test_those_that_diversity_left_out_may_come_up() -> None:
    left_out = [*SCORES[:15], *[0.0] * 5]
    assert raised(on({16: 3, 17: 4, 18: 4}), met(1, 3), left_out) == {17: 10.0, 16: 8.0}


def test_among_topics_met_equally_often_the_request_draws_and_always_the_same() -> None:
    rows = on({row: row for row in range(10, 20)})
    found = {str(request): raised(rows, History.empty(), request=str(request)) for request in range(40)}
    assert all(raised(rows, History.empty(), request=request) == one for request, one in found.items())
    assert len({row for one in found.values() for row in one}) > 5


def test_no_topics_or_few_candidates_raise_nothing() -> None:
    assert raised(on(dict.fromkeys(range(20), 0)), met(1)) == {}
    late = DEFAULTS.overridden({"exploration.slot": 20})
    assert raised(on({14: 3}), met(1), parameters=late) == {}


def test_it_is_the_last_scorer_and_off_by_default() -> None:
    assert {chain[-1].name for chain in SCORERS.values()} == {"exploration"}
    assert not SCORERS["weighted"][-1].enable(query())


def test_its_posts_say_why_they_are_there() -> None:
    outputs = np.zeros((20, len(HEADS)), np.float32)
    outputs[:, 0] = [one / 100 for one in SCORES]
    rows = on({14: 3})
    asked = query(parameters=TWO.overridden({"dpp.enabled": False, "scoring.author_diversity": False}))
    asked.context = replace(asked.context, history=met(1))
    reasons = why(rows, score(asked, rows, outputs), np.array([0, 14]))
    assert reasons == [
        "from somebody you follow; favorite adds most to its score",
        "from somebody you follow; raised to find out whether its topic is liked",
    ]
