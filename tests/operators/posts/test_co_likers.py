"""Co-likers: affinities are those of a plain count, bounded walks and rings forget the oldest first."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from models.inputs import CO_LIKED, IDLE_UNKNOWN_S
from operators.posts.co_likers import HALF_LIVES_MS, HOUR_MS, LIKES, RATE_UNITS, CoLikers, Reach
from operators.viewers.sequences import Actions
from schemas.actions import ACTION_INDEX, ACTIONS
from schemas.events import PostCreated

Action = tuple[int, int, int]  # viewer, post, time in ms
AFFINITY, HOUR, DAY, IDLE = range(CO_LIKED)
# 2^18 actions fit, and no walk is cut short.
FAR = Reach(posts_max=1000, engagers_max=1000, alike_max=1000, recent_max=1000)


def actions_of(count: int, seed: int = 3, viewers: int = 40, posts: int = 120) -> list[Action]:
    rng = np.random.default_rng(seed)
    pairs = zip(rng.integers(1, viewers + 1, count).tolist(), rng.integers(1, posts + 1, count).tolist(), strict=True)
    distinct = list(dict.fromkeys(pairs))
    return [(viewer, 1000 + post, number * 60_000) for number, (viewer, post) in enumerate(distinct, 1)]


def take(co_likers: CoLikers, actions: list[Action], at_once: int = 7) -> CoLikers:
    for start in range(0, len(actions), at_once):
        viewer, post, at_ms = zip(*actions[start : start + at_once], strict=True)
        co_likers.take(np.array(viewer, np.uint64), np.array(post, np.uint64), np.array(at_ms, np.int64))
    return co_likers


def told(co_likers: CoLikers, viewer: int, posts: list[int], at_ms: int) -> npt.NDArray[np.uint32]:
    return co_likers.columns(co_likers.circle(viewer, at_ms), np.array(posts, np.uint64), at_ms)


def plain_affinity(actions: list[Action], viewer: int, at_ms: int, window_ms: int) -> Counter[int]:
    of: dict[int, set[int]] = {}
    for one, post, _ in actions:
        of.setdefault(one, set()).add(post)
    affinity: Counter[int] = Counter()
    for one, post, at in actions:
        if one != viewer and at_ms - window_ms < at <= at_ms:
            affinity[post] += len(of[one] & of[viewer])
    return +affinity


@pytest.mark.parametrize("viewer", [1, 17, 40])
def test_affinity_is_how_many_posts_those_who_acted_on_it_share_with_the_viewer(viewer: int) -> None:
    actions = actions_of(2000)
    co_likers = take(CoLikers(reach=FAR), actions)
    posts, at_ms = list(range(1001, 1130)), actions[-1][2]
    expected = plain_affinity(actions, viewer, at_ms, FAR.window_ms)
    assert expected
    assert told(co_likers, viewer, posts, at_ms)[:, AFFINITY].tolist() == [expected[post] for post in posts]


def test_candidates_are_the_posts_with_the_highest_affinity() -> None:
    actions = actions_of(2000)
    co_likers, at_ms = take(CoLikers(reach=FAR), actions), actions[-1][2]
    expected = plain_affinity(actions, 5, at_ms, FAR.window_ms)
    found = co_likers.candidates(co_likers.circle(5, at_ms), 10).tolist()
    assert len(found) == 10
    assert [expected[post] for post in found] == sorted(expected.values(), reverse=True)[:10]


def test_how_actions_are_cut_into_batches_makes_no_difference() -> None:
    actions, posts = actions_of(3000), list(range(1001, 1130))
    at_ms = actions[-1][2]
    one, other = (take(CoLikers(1024), actions, at_once) for at_once in (1, 500))
    for viewer in (2, 21):
        assert np.array_equal(told(one, viewer, posts, at_ms), told(other, viewer, posts, at_ms))


def test_nothing_later_than_the_question_has_a_say() -> None:
    actions = actions_of(1000)
    co_likers, at_ms = take(CoLikers(reach=FAR), actions), actions[500][2]
    later = [post for _, post, at in actions if at > at_ms]
    before = {post for _, post, at in actions if at <= at_ms}
    unknown_then = [post for post in later if post not in before]
    assert not set(co_likers.candidates(co_likers.circle(3, at_ms), 1000).tolist()) & set(unknown_then)


def test_a_full_ring_knows_the_latest_actions_alone() -> None:
    actions = actions_of(4000, viewers=60, posts=300)
    full = take(CoLikers(256, FAR), actions)
    late = take(CoLikers(256, FAR), actions[-len(full) :])
    posts, at_ms = list(range(1001, 1330)), actions[-1][2]
    assert 240 <= len(full) <= 256
    for viewer in range(1, 61):
        assert np.array_equal(
            told(full, viewer, posts, at_ms)[:, AFFINITY], told(late, viewer, posts, at_ms)[:, AFFINITY]
        )
    untouched = sorted(set(posts) - {post for _, post, _ in actions[-len(full) :]})
    assert untouched
    assert (told(full, 1, untouched, at_ms) == [0, 0, 0, IDLE_UNKNOWN_S]).all()


def test_memory_is_bounded_by_the_ring() -> None:
    co_likers = CoLikers(256)
    take(co_likers, actions_of(2000, viewers=500, posts=500))
    before = co_likers.memory_bytes()
    take(co_likers, actions_of(6000, seed=4, viewers=5000, posts=5000), at_once=200)
    assert co_likers.memory_bytes() == pytest.approx(before, rel=0.01)


def test_like_and_share_of_one_post_count_once() -> None:
    actions = [(1, 100, 10), (2, 100, 20), (2, 100, 21), (2, 200, 30), (2, 200, 30)]
    for at_once in (1, 5):
        co_likers = take(CoLikers(64), actions, at_once)
        assert len(co_likers) == 3
        assert told(co_likers, 1, [200], 40)[0, AFFINITY] == 1


def test_rates_fade_by_half_in_their_half_lives() -> None:
    co_likers = take(CoLikers(64), [(1, 100, HOUR_MS), (2, 100, HOUR_MS), (3, 100, HOUR_MS), (4, 100, HOUR_MS)])
    for column, half_life_ms in zip((HOUR, DAY), HALF_LIVES_MS, strict=True):
        rates = [int(told(co_likers, 9, [100], HOUR_MS + n * half_life_ms)[0, column]) for n in range(4)]
        assert rates == [4 * RATE_UNITS >> n for n in range(4)]
    assert told(co_likers, 9, [100], HOUR_MS + 90_000)[0, IDLE] == 90


def test_a_late_action_counts_as_if_it_had_come_in_time() -> None:
    in_time = [(1, 100, HOUR_MS), (2, 100, 2 * HOUR_MS)]
    one, other = take(CoLikers(64), in_time, 1), take(CoLikers(64), in_time[::-1], 1)
    assert np.array_equal(told(one, 9, [100], 3 * HOUR_MS), told(other, 9, [100], 3 * HOUR_MS))


def test_who_is_forgotten_resembles_nobody() -> None:
    actions = [(1, 100, 10), (2, 100, 20), (2, 200, 30), (3, 100, 35), (3, 200, 36)]
    co_likers = take(CoLikers(64), actions)
    assert told(co_likers, 1, [200], 40)[0, AFFINITY] == 2
    rate = told(co_likers, 1, [200], 40)[0, HOUR]
    co_likers.forget(2)
    co_likers.forget(99)
    assert told(co_likers, 1, [200], 40)[0, AFFINITY] == 1
    assert told(co_likers, 1, [200], 40)[0, HOUR] == rate
    assert not len(co_likers.circle(2, 40).posts)
    # The slot goes to somebody else, who starts from nothing.
    take(co_likers, [(4, 300, 50)])
    assert not len(co_likers.circle(4, 60).posts)


def test_a_viewer_and_posts_that_nobody_knows() -> None:
    co_likers = CoLikers(64)
    assert not len(co_likers.candidates(co_likers.circle(1, 10), 5))
    assert (told(co_likers, 1, [7], 10) == [0, 0, 0, IDLE_UNKNOWN_S]).all()


def test_active_posts_and_a_viewers_latest() -> None:
    co_likers = take(CoLikers(64), [(1, 100, 10), (1, 200, 20), (2, 300, 30), (1, 300, 40)])
    assert set(co_likers.active(20).tolist()) == {200, 300}
    assert co_likers.latest(1, 2).tolist() == [300, 200]
    assert not len(co_likers.latest(7, 2))


@pytest.mark.parametrize("action", ACTIONS)
def test_likes_are_taken_from_events_and_nothing_else(action: str) -> None:
    co_likers = CoLikers(64)
    created = [PostCreated(5, 100, 1), PostCreated(6, 101, 8, repost_of=100)]
    co_likers.take_events(created, actions_columns([(2, 100, 20, action, False), (3, 100, 21, action, True)]))
    assert co_likers.latest(1, 9).tolist() == [100], "who wrote it likes it"
    assert not len(co_likers.latest(8, 9)), "a repost is told by an action"
    assert co_likers.latest(2, 9).tolist() == ([100] if action in LIKES else [])
    assert not len(co_likers.latest(3, 9)), "taken back"


def actions_columns(rows: list[tuple[int, int, int, str, bool]]) -> Actions:
    viewer, post, at_ms, action, undo = zip(*rows, strict=True)
    n = len(rows)
    return Actions(
        slot=np.array(viewer, np.int64),
        post=np.array(post, np.uint64),
        author=np.zeros(n, np.uint64),
        terms=np.zeros((n, 4), np.uint16),
        action=np.array([ACTION_INDEX[one] for one in action], np.uint8),
        undo=np.array(undo, np.bool_),
        dwell_s=np.zeros(n, np.float32),
        surface=np.zeros(n, np.uint8),
        at_ms=np.array(at_ms, np.int64),
    )


def test_a_ring_is_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        CoLikers(1000)
