"""Measures of a closed loop, by hand on a few feeds."""

import numpy as np
import pytest

from flows.closed_loop.judging import BEST, SERVED
from flows.closed_loop.measures import (
    Suppression,
    calibration,
    concentration,
    gini,
    reach,
    suppression,
    utility,
)
from flows.closed_loop.records import Act, Judgement, ShownFeed
from infra.world.people import TOPIC_COUNT
from infra.world.posts import POST
from schemas.actions import ACTION_INDEX, ACTIONS

DAY = 86_400_000


def posts(topics: list[int], authors: list[int]) -> np.ndarray:
    table = np.zeros(len(topics), POST)
    table["primary"], table["author"], table["original"] = topics, authors, np.arange(len(topics))
    return table


def feed(at_ms: int, person: int, rows: list[int], judgement: Judgement | None = None) -> ShownFeed:
    return ShownFeed(at_ms, person, "m", np.array(rows, np.int64), judgement)


def judged(served: float, best: float, said: float = 0.0, true: float = 0.0) -> Judgement:
    predicted, is_so = np.zeros((2, len(ACTIONS))), np.zeros((2, len(ACTIONS)))
    predicted[:, ACTION_INDEX["favorite"]] = said
    is_so[:, ACTION_INDEX["favorite"]] = [true, true + 0.1]
    return Judgement({SERVED: served, BEST: best}, predicted, is_so)


def test_utility_is_a_share_of_means_by_day() -> None:
    feeds = [
        feed(0, 0, [0], judged(1.0, 2.0)),
        feed(1, 0, [0], judged(0.0, 2.0)),
        feed(2, 0, [0]),
        feed(DAY, 0, [0], judged(1.5, 2.0)),
    ]
    first, second = utility(feeds, 0)
    assert (first.day, first.feeds, first.regret) == (0.0, 2, 1.5)
    assert first.share_of_best == {SERVED: 0.25, BEST: 1.0}
    assert (second.day, second.share_of_best[SERVED], second.regret) == (1.0, 0.75, 0.5)


def test_calibration_compares_means_and_each_post() -> None:
    found = next(one for one in calibration([feed(0, 0, [0], judged(1, 1, said=0.2, true=0.1))], 0))
    assert (found.action, found.predicted) == ("favorite", pytest.approx(0.2))
    assert found.true == pytest.approx(0.15)  # of .1 and .2
    assert found.mean_error == pytest.approx(0.05)


def test_a_feed_of_two_topics_in_equal_parts_is_as_if_of_two() -> None:
    table = posts([3, 5], [0, 0])
    tastes = np.zeros((1, TOPIC_COUNT))
    tastes[0, [3, 5, 6]] = 0.75, 0.25, -0.15
    feeds = [feed(one, 0, [0, 1] * 5) for one in range(2)]
    (found,) = concentration(feeds, table, lambda _: tastes, 0, 7 * DAY)
    assert (found.viewers, found.top_share, found.top_share_of_taste) == (1, 0.5, 0.75)
    assert found.effective_topics == pytest.approx(2.0)
    assert concentration(feeds[:1], table, lambda _: tastes, 0, DAY) == []  # ten posts say too little


def test_a_refused_topic_is_compared_with_those_beside_it() -> None:
    table = posts([1, 2, 2, 2], [7, 8, 8, 7])
    feeds = [feed(0, 0, [0, 1]), feed(10, 0, [1, 2]), feed(20, 0, [3])]
    found = suppression(feeds, [Act(5, 0, "block_author", 0), Act(6, 0, "favorite", 1)], table)
    # Topic 1 was half of the feed and is gone; topic 2 was the other half and is all. One post by author 7 came after.
    assert found == Suppression(1, 0.5, 0.0, 0.5, 1.0, 1)
    assert suppression(feeds, [], table) == Suppression(0, 0.0, 0.0, 0.0, 0.0, 0)


def test_gini_by_hand() -> None:
    assert gini(np.array([1, 1, 1, 1])) == 0.0
    assert gini(np.array([0, 0, 0, 4])) == 0.75  # (n - 1) / n: one has everything
    assert gini(np.array([1, 3])) == 0.25
    assert gini(np.array([], np.int64)) == 0.0


def test_reach_of_small_authors() -> None:
    # Authors 0 and 1 are the smaller half; 1 is never shown. A repost (row 4) counts for nobody: feeds name originals.
    table = posts([0, 0, 0, 0, 0], [0, 1, 2, 3, 3])
    table["original"][4] = 0
    found = reach([feed(0, 0, [0, 2, 3]), feed(1, 0, [2])], table, np.array([1, 2, 5, 9]))
    assert (found.small_share, found.small_reached) == (0.25, 0.5)
    assert found.gini_posts == found.gini_authors == gini(np.array([1, 0, 2, 1]))
