"""Action sequences: what is grouped, what is kept, and that batches make no difference (x-algorithm.md 1.5)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inputs import History
from operators.viewers.sequences import NO_TERMS, Actions, ActionSequences
from schemas.actions import ACTION_INDEX

FAVORITE, REPLY, DWELL_TIME = ACTION_INDEX["favorite"], ACTION_INDEX["reply"], ACTION_INDEX["dwell_time"]
START_S = 1_770_000_000


def actions(*rows: tuple[int, int, int, int], undo: bool = False, dwell_s: float = 0.0) -> Actions:
    """Return actions of (slot, post, action, second)."""
    slot, post, action, second = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    return Actions(
        slot=slot.astype(np.int64),
        post=post.astype(np.uint64),
        author=(post + 1000).astype(np.uint64),
        terms=np.repeat(post.astype(np.uint16)[:, None], NO_TERMS, axis=1),
        action=action.astype(np.uint8),
        undo=np.full(count, undo),
        dwell_s=np.full(count, dwell_s, np.float32),
        surface=np.full(count, 3, np.uint8),
        at_ms=(START_S + second).astype(np.int64) * 1000,
    )


def sequences(groups_max: int = 8) -> ActionSequences:
    return ActionSequences(groups_max, 300)


def told(history: History) -> list[tuple[int, int, int]]:
    """Return (post, actions, second) of each group."""
    seconds = history.at_ms // 1000 - START_S
    return list(zip(history.post.tolist(), history.actions.tolist(), seconds.tolist(), strict=True))


def test_actions_on_a_post_within_five_minutes_form_one_group() -> None:
    store = sequences()
    store.append(actions((1, 50, FAVORITE, 0), (1, 50, REPLY, 300), (1, 51, FAVORITE, 301), (1, 50, REPLY, 601)))
    both = 1 << FAVORITE | 1 << REPLY
    assert told(store.of(1)) == [(50, both, 300), (51, 1 << FAVORITE, 301), (50, 1 << REPLY, 601)]


def test_a_group_is_joined_across_batches() -> None:
    store = sequences()
    store.append(actions((1, 50, FAVORITE, 0)))
    store.append(actions((1, 51, FAVORITE, 10)))
    store.append(actions((1, 50, DWELL_TIME, 200), dwell_s=42.0))
    history = store.of(1)
    assert told(history) == [(50, 1 << FAVORITE | 1 << DWELL_TIME, 200), (51, 1 << FAVORITE, 10)]
    assert history.dwell_s.tolist() == [42.0, 0.0]
    assert history.author.tolist() == [1050, 1051]
    assert history.surface.tolist() == [3, 3]
    assert history.terms.tolist() == [[50] * 4, [51] * 4]


def test_the_last_groups_are_kept() -> None:
    store = sequences(groups_max=3)
    store.append(actions(*[(1, post, FAVORITE, post) for post in range(10)]))
    assert [post for post, _, _ in told(store.of(1))] == [7, 8, 9]
    store.append(actions((1, 10, FAVORITE, 10)))
    assert [post for post, _, _ in told(store.of(1))] == [8, 9, 10]


def test_undo_takes_the_action_back_and_an_empty_group_goes() -> None:
    store = sequences()
    store.append(actions((1, 50, FAVORITE, 0), (1, 50, REPLY, 1), (1, 51, FAVORITE, 2)))
    store.append(actions((1, 50, FAVORITE, 500), (1, 51, FAVORITE, 501), undo=True))
    assert told(store.of(1)) == [(50, 1 << REPLY, 1)]


def test_viewers_do_not_mix_and_unknown_ones_are_empty() -> None:
    store = sequences()
    store.append(actions((1, 50, FAVORITE, 0), (200, 60, FAVORITE, 0)))
    assert told(store.of(1)) == [(50, 1, 0)]
    assert told(store.of(200)) == [(60, 1, 0)]
    assert told(store.of(0)) == []


rows = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([FAVORITE, REPLY]), st.integers(0, 400)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200)
@given(rows, st.integers(1, 40), st.integers(40, 64))
def test_batches_make_no_difference_to_events_in_time_order(
    made: list[tuple[int, int, int, int]], cut: int, groups_max: int
) -> None:
    second, in_order = 0, []
    for slot, post, action, gap in made:
        second += gap
        in_order.append((slot, post, action, second))
    whole, cut_up = sequences(groups_max), sequences(groups_max)
    for start in range(0, len(in_order), cut):
        whole.append(actions(*in_order[start : start + cut]))
    for row in in_order:
        cut_up.append(actions(row))
    for slot in (1, 2, 3):
        assert told(whole.of(slot)) == told(cut_up.of(slot))


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 2), st.sampled_from([FAVORITE, REPLY]), st.integers(0, 1500)),
        min_size=9,
        max_size=40,
    ),
    st.integers(9, 40),
)
def test_nor_to_events_in_any_other_order(made: list[tuple[int, int, int, int]], cut: int) -> None:
    whole, cut_up = sequences(64), sequences(64)
    for start in range(0, len(made), cut):
        whole.append(actions(*made[start : start + cut]))
    for row in made:
        cut_up.append(actions(row))
    for slot in (1, 2):
        assert told(whole.of(slot)) == told(cut_up.of(slot))


def test_a_viewer_with_a_full_sequence_takes_less_than_4_kb() -> None:
    store = sequences(groups_max=128)
    store.append(actions(*[(slot, 1, FAVORITE, 0) for slot in range(1, 1001)]))
    assert store.memory_bytes() / len(store._count) < 4096
