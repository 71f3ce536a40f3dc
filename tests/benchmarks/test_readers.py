"""People who read feeds in benchmarks do as much as those of the simulated world, in order, and as soon as told."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.kafka.readers import Readers

POSTS = 2_000


def readers(pace: float) -> Readers:
    """Return people who read always the same."""
    return Readers(POSTS, pace, np.random.default_rng(1))


def slate(number: int) -> list[int]:
    """Return twenty posts."""
    return [(number * 20 + place) % POSTS + 1 for place in range(20)]


def test_a_feed_is_acted_on_as_often_as_in_the_demo() -> None:
    people = readers(1.0)
    feeds = [people.read(viewer, slate(viewer), 0.0) for viewer in range(2_000)]
    assert np.mean([len(feed) for feed in feeds]) == pytest.approx(125_423 / 6_250, rel=0.05)
    # In 6,250 feeds of the demo's log: 125,423 engagements, 85,701 dwell times, 24,435 dwells and 5,249 favourites.
    done = Counter(act.action for feed in feeds for _, _, act in feed)
    assert done["dwell_time"] / 2_000 == pytest.approx(13.7, rel=0.05)
    assert done["dwell"] / 2_000 == pytest.approx(3.9, rel=0.1)
    assert done["favorite"] / 2_000 == pytest.approx(0.84, rel=0.5)


def test_acts_come_in_order_after_the_feed_and_only_on_its_posts() -> None:
    people = readers(1.0)
    for viewer in range(200):
        done = people.read(viewer, slate(viewer), 50.0)
        times = [at_s for at_s, _, _ in done]
        assert times == sorted(times)
        assert not times or times[0] > 50.0
        assert {post for _, post, _ in done} <= set(slate(viewer))


def test_pace_brings_everything_forward_and_leaves_dwell_times_as_they_are() -> None:
    slow, quick = (readers(pace).read(3, slate(3), 0.0) for pace in (1.0, 5.0))
    assert [one[1:] for one in slow] == [one[1:] for one in quick]
    assert np.allclose([one[0] / 5 for one in slow], [one[0] for one in quick])


def test_people_do_more_with_what_they_like_and_nobody_knows_new_posts() -> None:
    people = readers(1.0)
    known = [act.action for viewer in range(1_000) for _, _, act in people.read(viewer, slate(viewer), 0.0)]
    new = [act.action for viewer in range(1_000) for _, _, act in people.read(viewer, [POSTS + 1] * 20, 0.0)]
    assert known.count("favorite") > 1.1 * new.count("favorite")
