"""KnownFor: likeness by common followers, and one cluster for each producer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts import known_for
from operators.posts.known_for import NEIGHBOURS, clustered, likenesses, named


def follows(*followers: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return follows of producers 0, 1, ... by their followers."""
    pairs = [(fan, producer) for producer, fans in enumerate(followers) for fan in sorted(fans)]
    return np.array([fan for fan, _ in pairs], np.int64), np.array([producer for _, producer in pairs], np.int64)


def alike(*followers: set[int]) -> dict[tuple[int, int], float]:
    found = likenesses(*follows(*followers), len(followers))
    return {(int(a), int(b)): float(c) for a, b, c in zip(found.one, found.other, found.cosine, strict=True)}


def clusters(*followers: set[int]) -> list[int]:
    found: list[int] = clustered(likenesses(*follows(*followers), len(followers))).tolist()
    return found


def test_likeness_is_shared_followers_over_the_root_of_both() -> None:
    # {1,2,3,4} and {3,4,5,6}: 2 / sqrt(4 x 4) = .5; {3,4,5,6} and {6}: 1 / sqrt(4 x 1) = .5; {1,2,3,4} and {6}: none
    found = alike({1, 2, 3, 4}, {3, 4, 5, 6}, {6})
    assert found == {(0, 1): 0.5, (1, 0): 0.5, (1, 2): 0.5, (2, 1): 0.5}


def test_one_follower_of_eleven_in_common_is_chance() -> None:
    # 1 / sqrt(11 x 11) = .0909 is below .1, and 1 / sqrt(10 x 10) is not.
    eleven, ten = set(range(11)), set(range(10))
    assert alike(eleven, {*range(10, 21)}) == {}
    assert alike(ten, {*range(9, 19)}) == {(0, 1): pytest.approx(0.1), (1, 0): pytest.approx(0.1)}


def test_two_circles_and_one_apart_are_three_clusters() -> None:
    left, right = set(range(1, 9)), set(range(11, 19))
    labels = clusters(left, right, left | {11}, right | {1}, {21, 22}, left - {1})
    assert labels[0] == labels[2] == labels[5]
    assert labels[1] == labels[3]
    assert len({labels[0], labels[1], labels[4]}) == 3


def test_a_cluster_is_named_after_the_one_it_shares_most_with() -> None:
    def names(clusters: list[int], before: list[int]) -> list[int]:
        found: list[int] = named(np.array(clusters), np.array(before, np.int32)).tolist()
        return found

    assert names([1, 1, 2, 2], [70, 70, 90, 90]) == [70, 70, 90, 90]
    # Somebody went over, somebody is new; two that were one: the larger part keeps the name, the other has none yet.
    assert names([1, 1, 1, 2, 2], [70, 70, 90, 90, 0]) == [70, 70, 70, 90, 90]
    assert names([1, 1, 2, 2, 2], [70, 70, 70, 70, 70]) == [0, 0, 70, 70, 70]
    assert names([1, 2], [0, 0]) == [0, 0]
    assert names([], []) == []


def test_without_followers_in_common_nobody_moves() -> None:
    assert clusters({1}, {2}, {3}) == [0, 1, 2]
    assert clusters() == []


def test_only_the_strongest_likenesses_are_kept() -> None:
    everybody = {1, 2, 3}
    found = alike(*[everybody] * (NEIGHBOURS + 10))
    assert len(found) == (NEIGHBOURS + 10) * NEIGHBOURS
    assert list(found.values()) == pytest.approx([1.0] * len(found))


def test_a_follower_of_very_many_makes_a_bounded_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    # One who follows 100: the newest 64 make 64 x 63 / 2 = 2,016 pairs. With room for 500, the newest 32 make 496.
    one = (np.ones(100, np.int64), np.arange(100))
    assert len(known_for._pairs(*one)[0]) == 2016
    monkeypatch.setattr(known_for, "PAIRS_MAX", 500)
    pairs = known_for._pairs(*one)
    assert len(pairs[0]) == 496
    assert min(pairs[0].min(), pairs[1].min()) == 68, "the newest follows"


@settings(max_examples=30)
@given(st.lists(st.sets(st.integers(1, 12), max_size=8), min_size=1, max_size=12))
def test_likenesses_are_those_of_the_plain_formula(followers: list[set[int]]) -> None:
    expected = {}
    for a, mine in enumerate(followers):
        for b, theirs in enumerate(followers):
            if a != b and mine & theirs:
                expected[a, b] = len(mine & theirs) / np.sqrt(len(mine) * len(theirs))
    assert alike(*followers) == pytest.approx(expected)


@settings(max_examples=20)
@given(st.integers(2, 5), st.integers(3, 8), st.integers(0, 2**32 - 1))
def test_circles_are_never_mixed(circles: int, size: int, seed: int) -> None:
    # Each producer of a circle is followed by 8 to 12 of the circle's 12 fans, and by one stranger.
    rng = np.random.default_rng(seed)
    followers = []
    for circle in range(circles):
        for _ in range(size):
            fans = rng.choice(12, int(rng.integers(8, 13)), replace=False) + 100 * circle
            followers.append({*fans.tolist(), int(rng.integers(0, 12) + 100 * ((circle + 1) % circles))})
    labels = clusters(*followers)
    found = [set(labels[circle * size : (circle + 1) * size]) for circle in range(circles)]
    assert sum(map(len, found)) == len(set(labels)), "no cluster has producers of two circles"
    # One level of moves leaves one circle in a hundred in two parts: finer is no harm.
    assert all(len(one) <= 2 for one in found)
