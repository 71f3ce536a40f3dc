"""Tallies of viewers: what counts, what does not count twice, and that they come back from the store."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inputs import Context
from operators.parameters import DEFAULTS
from operators.viewers.facts import NO_FACTS, decode_viewer, encode_viewer
from operators.viewers.query import Origin, Request
from operators.viewers.sequences import Actions, ActionSequences, Groups
from operators.viewers.tallies import FEEDS, NO_TALLY
from operators.viewers.viewers import Viewers
from schemas.actions import ACTION_INDEX, COUNT_NAMES, COUNTS, VIEWER_COUNTS
from schemas.events import FeedRequest, Served
from tests.operators.viewers.test_sequences import actions

LIKE, REPLY = ACTION_INDEX["favorite"], ACTION_INDEX["reply"]
SHOWN, FAVORITE, REPLIED, CLICK = (COUNT_NAMES.index(name) for name in ("shown", "favorite", "reply", "click"))
PASSED = VIEWER_COUNTS - 1
GROUPS_MAX, WINDOW_S = DEFAULTS.history.groups_max, DEFAULTS.history.window_s


def request(at: int, number: int = 1) -> Request:
    return Request(FeedRequest(at, number, 1), 1, DEFAULTS, Origin("feed-requests", 0, number), 0.0)


def at_s(some: Actions, second: int) -> Actions:
    return some._replace(at_ms=np.full(len(some.slot), second * 1000))


def counts(viewers: Viewers, at: int = 10**6) -> list[int]:
    """Return the counts that a query of viewer 1 carries."""
    (query,) = viewers.apply(None, np.empty(0, np.int64), [], [request(at)])
    context: Context = query.context
    return context.counts.tolist()


acts = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([LIKE, REPLY]), st.integers(0, 400), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(acts, st.integers(2, 40))
def test_however_actions_are_cut_the_tally_is_that_of_the_groups(
    made: list[tuple[int, int, int, int, bool]], cut: int
) -> None:
    whole, cut_up = ActionSequences(GROUPS_MAX, WINDOW_S), ActionSequences(GROUPS_MAX, WINDOW_S)
    rows = [actions((slot, post, action, second), undo=undo) for slot, post, action, second, undo in made]
    for sequences, step in ((whole, cut), (cut_up, 1)):
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            sequences.append(Actions(*(np.concatenate(column) for column in zip(*some, strict=True))))
    for slot in (1, 2, 3):
        # No group has left: each of its actions was counted, and each undone one taken back.
        words = whole.of(slot).actions
        expected = [int((words >> action & 1).sum()) for action in (LIKE, REPLY)]
        for sequences in (whole, cut_up):
            assert sequences.tallies.of(slot, -1)[[FAVORITE, REPLIED]].tolist() == expected


def test_feeds_count_as_shown_once_and_those_after_the_last_action_as_passed() -> None:
    viewers = Viewers(DEFAULTS)

    def show(at: int, number: int, posts: int) -> None:
        viewers.apply(None, np.empty(0, np.int64), [], [], [(Served(at, number, 1, tuple(range(posts))), 3)])

    show(1000, 1, 10)
    show(1000, 1, 10)
    show(2000, 2, 5)
    assert [counts(viewers)[one] for one in (SHOWN, PASSED)] == [15, 15]
    liked = at_s(actions((1, 4, LIKE, 0)), 1)
    viewers.apply(liked, np.array([3]), [], [])
    assert [counts(viewers)[one] for one in (SHOWN, FAVORITE, PASSED)] == [15, 1, 5], "the second feed came after it"
    looked = at_s(actions((1, 5, ACTION_INDEX["dwell_time"], 0), (1, 5, ACTION_INDEX["dwell"], 0)), 3)
    viewers.apply(looked, np.array([3, 3]), [], [])
    assert counts(viewers)[PASSED] == 5, "who only looked, however long, has passed it over"
    for number in range(FEEDS + 2):
        show(9000 + number * 1000, 10 + number, 20)
    assert [counts(viewers)[one] for one in (SHOWN, PASSED)] == [135, 20 * FEEDS]


def test_what_was_passed_over_is_forgotten_with_its_session() -> None:
    viewers = Viewers(DEFAULTS)
    viewers.apply(None, np.empty(0, np.int64), [], [], [(Served(60_000, 1, 1, tuple(range(20))), 3)])
    # The feed of second 60 is within half an hour of second 1859 (1859 - 1800 = 59), and no more of second 1860.
    assert [counts(viewers, at)[PASSED] for at in (1_859_000, 1_860_000)] == [20, 0]
    assert counts(viewers, 1_860_000)[SHOWN] == 20


def test_own_feeds_count_where_no_log_says_what_was_shown() -> None:
    for own, expected in ((True, 3), (False, 0)):
        viewers = Viewers(DEFAULTS, own_feeds_count=own)
        for _ in range(2):  # after a restart a feed may be read again
            viewers.remember_served(request(5000, 7), np.array([1, 2, 3], np.uint64))
        assert counts(viewers)[SHOWN] == counts(viewers)[PASSED] == expected


def test_tallies_go_with_their_viewers_through_the_store_and_back() -> None:
    kept = ActionSequences(GROUPS_MAX, WINDOW_S)
    kept.append(actions((2, 4, ACTION_INDEX["click"], 0)))
    kept.tallies.show(2, 9, 77, 12)
    (before,) = kept.groups(np.array([2]))
    groups, _ = decode_viewer(encode_viewer(before, NO_FACTS))
    assert groups.tally == before.tally != NO_TALLY
    other = ActionSequences(GROUPS_MAX, WINDOW_S)
    other.put(np.array([5]), [groups.chosen(np.zeros(1, np.bool_))])
    assert other.tallies.of(5, 3)[[SHOWN, CLICK, PASSED]].tolist() == [12, 0, 12], "acts go with their groups"
    other.put(np.array([5]), [groups])
    assert other.tallies.of(5, 3)[[SHOWN, CLICK, PASSED]].tolist() == [12, 1, 12]
    other.clear(np.array([5]))
    assert other.tallies.of(5, -1).tolist() == [0] * VIEWER_COUNTS
    old = Groups(before.count, before.groups_max, before.rows)
    other.put(np.array([5]), [old])
    assert other.tallies.of(5, -1)[:COUNTS].tolist() == [0] * COUNTS, "records from before there were tallies"
