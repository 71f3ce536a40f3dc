"""From where on a history speaks of what a viewer likes now: by hand, and how often it is right of made-up people."""

import numpy as np
import pytest

from models.inputs import TERMS, History
from operators.viewers.taste_changes import taste_changed_at
from schemas.actions import ACTION_INDEX

FAVORITE, DWELL, MINUS, LOOKED = (
    1 << ACTION_INDEX[name] for name in ("favorite", "dwell", "not_interested", "dwell_time")
)


def history(topics: list[int], likes: list[bool], liked: int = FAVORITE) -> History:
    """Return groups of one post each, the oldest first."""
    count = len(topics)
    terms = np.zeros((count, TERMS), np.uint16)
    terms[:, 0] = topics
    return History(
        post=np.arange(1, count + 1, dtype=np.uint64),
        author=np.ones(count, np.uint64),
        terms=terms,
        actions=np.where(likes, liked, LOOKED).astype(np.uint32),
        dwell_s=np.ones(count, np.float32),
        surface=np.ones(count, np.uint8),
        at_ms=np.arange(count, dtype=np.int64) * 1000,
    )


# Of 32 groups topic 1 is liked in 16 and topic 2 in none of 16; then it is the other way round, four each.
TURNED = ([1, 2] * 20, [True, False] * 16 + [False, True] * 4)


def test_odds_by_hand() -> None:
    # A new taste begins with 4 made-up groups and an old one with 16 more, at the same rates of likes: what divides
    # the two are the numbers of groups, twice 4, 5, 6, 7 against 20, 21, 22, 23.
    odds = (20 * 21 * 22 * 23 / (4 * 5 * 6 * 7)) ** 2
    assert odds == 64_009
    assert taste_changed_at(history(*TURNED), odds - 1) == 32
    assert taste_changed_at(history(*TURNED), odds + 1) == 0
    assert taste_changed_at(history(*TURNED), 0) == 0


@pytest.mark.parametrize(("liked", "changed_at"), [(DWELL, 32), (DWELL | MINUS, 0), (FAVORITE | MINUS, 0)])
def test_a_long_look_is_a_like_and_what_was_refused_is_none(liked: int, changed_at: int) -> None:
    assert taste_changed_at(history(*TURNED, liked), 50) == changed_at


def test_nothing_is_said_of_few_groups_or_of_posts_without_topics() -> None:
    topics, likes = TURNED
    assert taste_changed_at(history(topics[1:], likes[1:]), 50) == 0
    assert taste_changed_at(history([0] * 40, [True] * 32 + [False] * 8), 50) == 0
    assert taste_changed_at(History.empty(), 50) == 0


def test_who_comes_back_to_the_old_taste_has_the_history_back() -> None:
    topics, likes = TURNED
    assert taste_changed_at(history(topics + [1, 2] * 20, likes + [True, False] * 20), 50) == 0


def test_made_up_people_are_seldom_taken_for_changed_and_mostly_found_when_they_are() -> None:
    rng = np.random.default_rng(4)
    people, steady, found, kept = 200, 0, 0, []
    for _ in range(people):
        rates = np.full(12, 0.03)
        rates[:3] = 0.3
        topics = rng.integers(0, 12, 512)
        likes = rng.random(512) < rates[topics]
        steady += taste_changed_at(history((topics + 1).tolist(), likes.tolist()), 50) > 0
        likes[384:] = rng.random(128) < np.roll(rates, 3)[topics[384:]]
        at = taste_changed_at(history((topics + 1).tolist(), likes.tolist()), 50)
        found += at > 0
        kept += [512 - at] if at else []
    assert steady <= people * 0.05
    assert found >= people * 0.8
    assert np.median(kept) == 128
