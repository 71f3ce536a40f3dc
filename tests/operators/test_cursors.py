"""Cursors: short however deep, good for their viewer and feed alone, refused once anything is changed."""

import base64
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.cursors import KEY_VARIABLE, Cursor, CursorRefused, issue, read, session_of
from schemas.events import CURSOR_CHARACTERS_MAX, FeedName

VIEWER = 7
CURSOR = Cursor(session=2**64 - 3, page=1_000)
keys = st.integers(1, 2**64 - 1)
ids = st.integers(1, 2**63 - 1) | st.text(min_size=1, max_size=64)


@given(keys, keys, st.integers(2, 2**32 - 1))
def test_what_was_issued_is_read(viewer: int, session: int, page: int) -> None:
    text = issue(Cursor(session, page), viewer, "for_you")
    assert read(text, viewer, "for_you") == Cursor(session, page)
    assert len(text.encode()) == 50 < CURSOR_CHARACTERS_MAX


def test_a_cursor_is_as_short_at_any_depth() -> None:
    cursor = CURSOR
    for _ in range(1_000):
        cursor = cursor.next
        assert len(issue(cursor, VIEWER, "for_you")) == 50
    assert cursor.page == 2_000
    assert Cursor(1, 2**32 - 1).next.page == 2**32 - 1, "nobody gets there; nothing breaks"


@given(keys, ids, st.integers(0, 2**53))
def test_a_request_names_its_session(viewer: int, request: int | str, at_ms: int) -> None:
    session = session_of(viewer, request, at_ms)
    assert session == session_of(viewer, request, at_ms) < 2**64
    others = {session_of(viewer, request, at_ms + 1), session_of(viewer ^ 1, request, at_ms)}
    assert session not in others
    assert session_of(viewer, 17, 1) != session_of(viewer, "17", 1)


def test_a_cursor_of_another_viewer_is_refused() -> None:
    with pytest.raises(CursorRefused, match="the cursor is another viewer's"):
        read(issue(CURSOR, VIEWER, "for_you"), VIEWER + 1, "for_you")


@pytest.mark.parametrize("feed", get_args(FeedName))
def test_a_cursor_of_another_feed_is_refused(feed: FeedName) -> None:
    text = issue(CURSOR, VIEWER, feed)
    assert read(text, VIEWER, feed) == CURSOR
    assert len(text) == 50
    for other in get_args(FeedName):
        if other != feed:
            with pytest.raises(CursorRefused, match=f"the cursor is of the feed {feed}, and {other} is asked for"):
                read(text, VIEWER, other)
            with pytest.raises(CursorRefused, match="the cursor is another viewer's"):
                read(text, VIEWER + 1, other)


def test_any_change_is_refused() -> None:
    raw = base64.urlsafe_b64decode(issue(CURSOR, VIEWER, "for_you") + "==")
    for place in range(len(raw)):
        for bit in range(8):
            forged = bytearray(raw)
            forged[place] ^= 1 << bit
            with pytest.raises(CursorRefused, match="was changed, or signed with another key"):
                read(base64.urlsafe_b64encode(forged).rstrip(b"=").decode(), VIEWER, "for_you")


def test_a_cut_cursor_is_refused_wherever_it_was_cut() -> None:
    text = issue(CURSOR, VIEWER, "for_you")
    for length in range(1, len(text)):
        with pytest.raises(CursorRefused, match=r"it was cut or is none|no cursor"):
            read(text[:length], VIEWER, "for_you")
    with pytest.raises(CursorRefused, match="a cursor of 40 bytes, and all have 37"):
        read(text + "AAAA", VIEWER, "for_you")


@given(st.text(min_size=1, max_size=CURSOR_CHARACTERS_MAX))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorRefused):
        read(text, VIEWER, "for_you")


def test_every_job_may_have_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    text = issue(CURSOR, VIEWER, "for_you")
    monkeypatch.setenv(KEY_VARIABLE, "a secret longer than the sixty-four bytes that a key of the hash may have")
    with pytest.raises(CursorRefused, match="signed with another key"):
        read(text, VIEWER, "for_you")
    own = issue(CURSOR, VIEWER, "for_you")
    assert read(own, VIEWER, "for_you") == CURSOR
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(CursorRefused, match="signed with another key"):
        read(own, VIEWER, "for_you")
