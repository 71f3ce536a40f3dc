"""Sessions: what was shown, for a while, of a few; to add twice changes nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.viewers.facts import NO_FACTS, Facts, decode_facts, encode_facts
from operators.viewers.sessions import NO_SESSIONS, Limits, Sessions, after_page, find

LIMITS = Limits(ttl_s=60, sessions_max=2)


def page(sessions: Sessions, session: int, at_ms: int, *posts: int) -> Sessions:
    return after_page(sessions, session, at_ms, np.array(posts, np.uint64), LIMITS)


def shown(sessions: Sessions, session: int, at_ms: int) -> list[int] | None:
    found = find(sessions, session, at_ms, LIMITS)
    return None if found is None else found.keys.tolist()


def test_a_session_waits_for_a_page_as_long_as_said_from_the_latest_one() -> None:
    sessions = page(NO_SESSIONS, 1, 1000, 5, 3)
    assert shown(sessions, 1, 61_000) == [3, 5]
    assert shown(sessions, 1, 61_001) is None
    assert shown(sessions, 2, 1000) is None
    sessions = page(sessions, 1, 50_000, 9)
    assert shown(sessions, 1, 110_000) == [3, 5, 9]
    assert shown(sessions, 1, 110_001) is None
    late = page(sessions, 1, 20_000, 4)
    assert shown(late, 1, 110_000) == [3, 4, 5, 9], "a page read late does not shorten it"


def test_few_are_kept_the_latest_and_none_that_is_over() -> None:
    sessions = page(page(page(NO_SESSIONS, 1, 1000, 1), 2, 2000, 2), 1, 3000, 3)
    sessions = page(sessions, 3, 4000, 4)
    assert [one.session for one in sessions] == [1, 3], "2 was used longest ago"
    assert [one.session for one in page(sessions, 4, 63_001, 5)] == [3, 4]
    assert [one.session for one in page(sessions, 4, 64_001, 5)] == [4]


pages = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100_000), st.lists(st.integers(1, 2**64 - 1))), max_size=6)


@given(pages, pages)
def test_to_add_twice_changes_nothing_and_it_is_stored_as_it_is(before: list, twice: list) -> None:  # type: ignore[type-arg]
    sessions = NO_SESSIONS
    for session, at_ms, posts in before:
        sessions = page(sessions, session, at_ms, *posts)
        assert page(sessions, session, at_ms, *posts) == sessions
    facts = Facts(sessions=sessions)
    assert decode_facts(encode_facts(facts)).sessions == sessions
    assert encode_facts(NO_FACTS) == b"", "a viewer of whom nothing is known keeps nothing"


def test_what_a_session_takes() -> None:
    # 35 posts at 8 bytes each; the session's number, its time and MessagePack's own 23 bytes at most.
    sessions = page(NO_SESSIONS, 2**64 - 1, 2**50, *range(1, 36))
    without, with_one = (len(encode_facts(Facts(sessions=some))) for some in (NO_SESSIONS, sessions))
    assert 35 * 8 < with_one - without <= 35 * 8 + 23
