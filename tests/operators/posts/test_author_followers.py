"""Followers and followings: the newest profile's count and one for each later follow, the same however cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.posts.author_followers import UNKNOWN, AuthorFollowers
from schemas.events import Follow, Profile
from schemas.ids import key_of

NOW = 1_770_000_000_000


def of(followers: AuthorFollowers, *authors: int | str) -> list[int]:
    found: list[int] = followers.of(np.array([key_of(one) for one in authors], np.uint64)).tolist()
    return found


def told(*events: Follow | Profile, capacity: int = 64) -> AuthorFollowers:
    followers = AuthorFollowers(capacity)
    followers.take(events)
    return followers


def test_a_profile_tells_and_later_follows_change_it() -> None:
    events = [Profile(NOW, "ann", followers=100), Follow(NOW + 1, 1, "ann"), Follow(NOW + 2, 2, "ann"),
              Follow(NOW + 3, 1, "ann", undo=True)]  # fmt: skip
    assert of(told(*events), "ann") == [100 + 1 + 1 - 1]
    # The next profile has counted them.
    assert of(told(*events, Profile(NOW + 4, "ann", followers=90)), "ann") == [90]


def test_follows_alone_tell_nothing_and_none_falls_below_nobody() -> None:
    assert of(told(Follow(NOW, 1, "ann")), "ann", "bob") == [UNKNOWN, UNKNOWN]
    assert of(told(Profile(NOW, 7, followers=0), Follow(NOW + 1, 1, 7, undo=True)), 7) == [0]


def test_what_is_older_than_the_profile_is_in_it_already() -> None:
    assert of(told(Profile(NOW, 7, followers=5), Follow(NOW, 1, 7), Follow(NOW - 9, 2, 7)), 7) == [5]
    assert of(told(Profile(NOW, 7, followers=5), Profile(NOW - 1, 7, followers=3)), 7) == [5]


def test_a_second_delivery_does_not_count() -> None:
    follow = Follow(NOW + 1, 1, 7)
    assert of(told(Profile(NOW, 7, followers=5), follow, follow), 7) == [6]


def test_the_first_accounts_are_unknown_again_where_there_are_too_many() -> None:
    profiles = [Profile(NOW, number, followers=number) for number in range(1, 6)]
    followers = told(*profiles, capacity=4)
    assert of(followers, 1, 2, 3, 4, 5) == [UNKNOWN, 2, 3, 4, 5]
    assert len(followers) == 4
    with pytest.raises(ValueError, match="power of two"):
        AuthorFollowers(3)


def test_a_deleted_account_is_forgotten_and_its_place_is_used_again() -> None:
    followers = told(*(Profile(NOW, number, followers=number) for number in range(1, 5)), capacity=4)
    followers.forget(key_of(1))
    followers.forget(key_of(99))
    assert of(followers, 1, 2) == [UNKNOWN, 2]
    followers.take([Profile(NOW, 8, followers=80), Profile(NOW, 9, followers=90)])
    assert of(followers, 1, 2, 3, 8, 9) == [UNKNOWN, UNKNOWN, 3, 80, 90]


def follows(followers: AuthorFollowers, *authors: int | str) -> list[int]:
    found: list[int] = followers.followings_of(np.array([key_of(one) for one in authors], np.uint64)).tolist()
    return found


def test_whom_an_account_follows_is_told_or_counted() -> None:
    events = [Profile(NOW, "ann", followings=700), Profile(NOW, "bob"), Follow(NOW + 1, "ann", "bob"),
              Follow(NOW + 2, "bob", "ann"), Follow(NOW + 3, "bob", 3), Follow(NOW + 4, "ann", "bob", undo=True),
              Follow(NOW + 5, "cleo", "ann")]  # fmt: skip
    assert follows(told(*events), "ann", "bob", "cleo") == [700 + 1 - 1, 2, UNKNOWN]
    assert of(told(*events), "ann", "bob") == [2, 0]
    # A second delivery counts once, for both sides.
    assert follows(told(*events, events[3]), "bob") == [2]
    # A profile without the number leaves the count, one with it has counted.
    assert follows(told(*events, Profile(NOW + 9, "bob")), "bob") == [2]
    assert follows(told(*events, Profile(NOW + 9, "bob", followings=5)), "bob") == [5]


def test_a_new_account_in_the_place_of_an_old_one_begins_at_none() -> None:
    events = [Profile(NOW, 1, followings=9), *(Profile(NOW, number) for number in range(2, 6))]
    assert follows(told(*events, capacity=4), 1, 5) == [UNKNOWN, 0]


Changes = st.lists(
    st.one_of(
        st.builds(
            Profile,
            st.just(NOW),
            st.integers(1, 9),
            followers=st.integers(0, 5),
            followings=st.none() | st.integers(0, 5),
        ),
        st.builds(Follow, st.integers(NOW + 1, NOW + 99), st.integers(1, 9), st.integers(1, 9), st.booleans()),
    ),
    max_size=60,
)


@given(Changes, st.integers(1, 7))
def test_it_makes_no_difference_how_changes_are_cut(changes: list[Follow | Profile], at_once: int) -> None:
    whole, cut = told(*changes), AuthorFollowers(64)
    for start in range(0, len(changes), at_once):
        cut.take(changes[start : start + at_once])
    authors = np.arange(1, 10, dtype=np.uint64)
    assert cut.of(authors).tolist() == whole.of(authors).tolist()
    assert cut.followings_of(authors).tolist() == whole.followings_of(authors).tolist()


def test_many_accounts_grow_the_columns() -> None:
    followers = told(*(Profile(NOW, number, followers=number % 7) for number in range(1, 3001)), capacity=4096)
    assert len(followers) == 3000
    assert of(followers, 1, 2999, 3000, 3001) == [1, 2999 % 7, 3000 % 7, UNKNOWN]
    assert followers.memory_bytes() > 3000 * 16
