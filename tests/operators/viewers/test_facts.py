"""A viewer's record says all that is known of the viewer, whatever ring it was written from and is read into."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.keys import keys_of
from operators.text import token_hashes
from operators.viewers.facts import NO_FACTS, Facts, decode_viewer, encode_viewer
from operators.viewers.relations import Relations
from operators.viewers.sequences import Actions, ActionSequences, Groups

START_S = 1_770_000_000
WINDOW_S = 300
ids = st.integers(1, 2**64 - 1)
# Of one viewer: post, author, action, seconds since the last, whether undone, dwell seconds, surface.
acts = st.lists(
    st.tuples(
        st.integers(1, 9),
        ids,
        st.integers(0, 18),
        st.integers(0, 2 * WINDOW_S),
        st.booleans(),
        st.floats(0, 65_504, width=16),
        st.integers(0, 15),
    ),
    max_size=40,
)
sets = st.lists(ids, max_size=8, unique=True).map(lambda keys: np.sort(keys_of(keys)))
relations = st.builds(
    Relations,
    followed=sets,
    followed_by=sets,
    blocked=sets,
    blocked_by=sets,
    muted=sets,
    subscribed=sets,
    keywords=st.lists(st.text(min_size=1, max_size=9), max_size=3).map(
        lambda words: {word: token_hashes(word) for word in words}
    ),
    account_created_ms=st.none() | st.integers(0, 2**53),
    followers=st.integers(0, 2**53),
)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """Return facts with served posts of as many times."""
    served = draw(st.lists(st.tuples(st.integers(0, 2**53), ids), max_size=9))
    return Facts(
        draw(relations),
        keys_of(draw(st.lists(ids, max_size=9, unique=True))),
        np.array([at for at, _ in served], np.int64),
        keys_of([post for _, post in served]),
    )


def act(store: ActionSequences, slot: int, made: tuple[Any, ...], second: int) -> None:
    """Let a viewer do one thing."""
    post, author, action, _, undo, dwell_s, surface = made
    store.append(
        Actions(
            np.array([slot]),
            np.array([post], np.uint64),
            np.array([author], np.uint64),
            np.array([[post, 0, 7, 65_535]], np.uint16),
            np.array([action], np.uint8),
            np.array([undo]),
            np.array([dwell_s], np.float32),
            np.array([surface], np.uint8),
            np.array([second * 1000]),
        )
    )


def sequences(made: list[tuple[Any, ...]], groups_max: int) -> ActionSequences:
    """Return sequences in which viewer 1 has done these things, one after the other."""
    store = ActionSequences(groups_max, WINDOW_S)
    second = START_S
    for one in made:
        second += one[3]
        act(store, 1, one, second)
    return store


def read_again(groups: Groups, groups_max: int) -> ActionSequences:
    """Return sequences of another process whose viewer 5 has the groups of a record."""
    again = ActionSequences(groups_max, WINDOW_S)
    # Other authors came first there: handles are not those of the process that wrote.
    act(again, 1, (1, 99, 0, 0, False, 0.0, 1), START_S)
    again.reserve(6)
    again.put(np.array([5]), [groups])
    return again


def columns(store: ActionSequences, slot: int) -> list[list[Any]]:
    history = store.of(slot)
    return [getattr(history, name).tolist() for name in history.__dataclass_fields__]


@settings(max_examples=150)
@given(acts, facts(), st.integers(1, 12))
def test_a_viewer_comes_back_from_its_record(made: list[tuple[Any, ...]], known: Facts, groups_max: int) -> None:
    written = sequences(made, groups_max)
    (before,) = written.groups(np.array([1]))
    groups, read = decode_viewer(encode_viewer(before, known))
    assert columns(read_again(groups, groups_max), 5) == columns(written, 1)
    assert (groups.count, groups.groups_max, groups.rows.tobytes()) == (
        before.count,
        before.groups_max,
        before.rows.tobytes(),
    )
    for name in ("seen", "served_ms", "served"):
        assert getattr(read, name).tolist() == getattr(known, name).tolist()
    for name in ("followed", "followed_by", "blocked", "blocked_by", "muted", "subscribed"):
        assert getattr(read.relations, name).tolist() == getattr(known.relations, name).tolist()
    assert {word: tokens.tolist() for word, tokens in read.relations.keywords.items()} == {
        word: tokens.tolist() for word, tokens in known.relations.keywords.items()
    }
    assert read.relations.account_created_ms == known.relations.account_created_ms
    assert read.relations.followers == known.relations.followers


@settings(max_examples=150)
@given(acts, acts, st.integers(1, 12), st.integers(1, 12))
def test_a_record_fits_a_ring_of_another_size_and_goes_on_there(
    made: list[tuple[Any, ...]], later: list[tuple[Any, ...]], written_max: int, read_max: int
) -> None:
    written = sequences(made, written_max)
    (before,) = written.groups(np.array([1]))
    groups, _ = decode_viewer(encode_viewer(before, NO_FACTS))
    again = read_again(groups, read_max)
    kept = groups.fitted(read_max)
    assert len(kept.rows) == min(before.count, written_max, read_max)
    everything = columns(written, 1)
    found = columns(again, 5)
    # The newest of what was there, in its order; groups taken back whole count as kept, but are not shown.
    count = len(found[0])
    assert found == [column[len(column) - count :] for column in everything]
    assert read_max < written_max or count == len(everything[0])
    for number, one in enumerate(later):
        for store, slot in ((again, 5), (written, 1)):
            act(store, slot, one, START_S + 100_000 + 100 * number)
    if read_max == written_max:
        assert columns(again, 5) == columns(written, 1)
    assert len(columns(again, 5)[0]) <= read_max


def test_a_viewer_of_whom_nothing_is_known_takes_few_bytes() -> None:
    (groups,) = ActionSequences(128, WINDOW_S).groups(np.array([1]))
    assert len(encode_viewer(groups, NO_FACTS)) < 24
