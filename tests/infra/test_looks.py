"""How good a post is, as far as everybody's looks at it say."""

import numpy as np
import pytest

from infra.world import Crowd, WorldParameters
from infra.world.looks import Looks
from schemas.events import PostCreated
from schemas.ids import Id

ROW, OTHER = np.array([3]), np.array([900])
DEVIATION = 0.4


def test_nobody_has_looked_so_the_author_says_it_all() -> None:
    assert Looks().quality(np.array([0, 7]), np.array([0.2, -0.1]), DEVIATION).tolist() == [0.2, -0.1]


def test_long_looks_by_hand() -> None:
    """Ten looks, each e^.3 times as long as usual: every one says quality 1 with a deviation of .9 / .3 = 3."""
    looks = Looks()
    for _ in range(10):
        looks.take(ROW, np.array([0.3]), np.array([0]), np.array([0.0]))
    # 10 / 9 of weight for 1, 1 / .16 = 6.25 for the author's 0.
    assert looks.quality(ROW, np.zeros(1), DEVIATION)[0] == pytest.approx((10 / 9) / (10 / 9 + 6.25))
    assert looks.quality(OTHER, np.full(1, 0.5), DEVIATION)[0] == 0.5


def test_actions_by_hand() -> None:
    """As many actions as quality q brings on top of what the author's mean is pulled by: the slope is 0 there."""
    looks, q = Looks(), 0.5
    expected = 40.0
    actions = expected * np.exp(0.6 * q) + q / DEVIATION**2 / 0.6  # 0.6 (actions - coming) = q / deviation^2
    looks.take(ROW, np.zeros(1), np.array([actions]), np.array([expected]))
    # The one look tells of seconds as well: weight 1 / 9 for quality 0.
    bend = 1 / DEVIATION**2 + 0.36 * expected * np.exp(0.6 * q) + 1 / 9
    assert looks.quality(ROW, np.zeros(1), DEVIATION)[0] == pytest.approx(q - q / 9 / bend, abs=1e-3)


def test_what_a_crowd_does_tells_good_posts_from_bad_ones() -> None:
    """Who weighs people's looks at posts knows more of them than who knows their authors alone."""
    crowd = Crowd(WorldParameters(people=60, days=1.0, sessions_per_person_day=8.0, posts_per_person_day=2.0))
    posts, shown = list[Id](), set[Id]()
    while True:
        events, asked = crowd.next()
        posts += [event.post for event in events if isinstance(event, PostCreated)]
        if asked is None:
            break
        shown.update(posts[-30:])
        crowd.show(posts[-30:])
    originals = np.unique(crowd.posts["original"][crowd.rows_of(sorted(shown, key=str))].astype(np.int64))
    quality, usual = crowd.posts["quality"][originals], crowd.worth.truth.quality[crowd.posts["author"][originals]]
    told = crowd.quality_told(originals)
    assert np.mean((told - quality) ** 2) < 0.8 * np.mean((usual - quality) ** 2)
