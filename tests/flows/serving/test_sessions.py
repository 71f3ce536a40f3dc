"""What a session has shown survives commits, kills and leaving memory; a request answered before a kill counts."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from flows.serving.durable import FORMAT_VERSION, viewers_folder
from flows.serving.inspecting import SessionExport, export
from flows.serving.positions import Positions
from flows.serving.verifying import verify
from infra.stores import PartitionStore
from models.phoenix import Phoenix
from operators.cursors import Cursor, issue, session_of
from operators.viewers.facts import Facts, encode_viewer
from operators.viewers.query import Request
from operators.viewers.sequences import ActionSequences
from operators.viewers.sessions import Session
from schemas import events
from schemas.feeds import Feed, FeedItem
from schemas.ids import key_of
from tests.flows.serving.states import T0, Process

REQUEST = events.FeedRequest(T0, "first", "ada")
SESSION = session_of(key_of("ada"), "first", T0)
CURSOR = issue(Cursor(SESSION, 2), key_of("ada"), "for_you")


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


def asked(process: Process, event: events.FeedRequest) -> Request:
    (query,) = process.take(event)
    return query.request


def shown(process: Process) -> list[int] | None:
    """Return what the session has shown, as the slate is told where the next page is asked for."""
    found = process.state.viewers.shown(asked(process, events.FeedRequest(T0 + 1000, "next", "ada", cursor=CURSOR)))
    return None if found is None else found.tolist()


def test_a_session_comes_back_as_of_the_last_commit(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    request = asked(process, REQUEST)
    process.state.viewers.remember_page(request, np.array([3, 1], np.uint64))
    process.commit()
    process.state.viewers.remember_page(request, np.array([9], np.uint64))
    assert shown(process) == [1, 3, 9]
    process.close()
    (record,) = export(tmp_path, "ada").records
    assert record.sessions == (SessionExport(T0, (1, 3)),)
    assert list(verify(tmp_path)) == []
    again = Process(tmp_path, phoenix)
    assert shown(again) == [1, 3], "the rest is read again"
    again.take(events.Follow(T0, "ada", 7), events.UserDeleted(T0, 7))
    again.commit()
    again.state.viewers.forget_unused(0, again.state.viewers.epoch)
    assert len(again.state.viewers) == 0
    assert shown(again) == [1, 3], "it comes from the store, written anew without a deleted user"
    again.take(events.UserDeleted(T0, "ada"))
    assert again.take(events.FeedRequest(T0 + 1000, "next", "ada", cursor=CURSOR)) == []
    again.commit()
    again.close()
    assert export(tmp_path, "ada").records == ()


def test_a_feed_that_was_sent_before_a_kill_counts_as_shown(tmp_path: Path, phoenix: Phoenix) -> None:
    item = FeedItem(5, "bob", 0.0, "thunder", True, "")
    feed = Feed(T0, "first", "ada", "m", (item, replace(item, post=6, repost_of=4)), (), cursor=CURSOR)
    sent: dict[str, Feed] = {"first": feed}
    process = Process(tmp_path, phoenix, answered=lambda request: sent.get(str(request.event.request)))
    assert process.take(REQUEST) == [], "nobody answers it again"
    assert shown(process) == [4, 5]
    sent["second"] = replace(feed, request="second", items=(replace(item, post=8),), cursor=None)
    assert process.take(events.FeedRequest(T0 + 1, "second", "ada", cursor=CURSOR)) == []
    assert shown(process) == [4, 5, 8]
    sent["third"] = replace(feed, request="third", items=(), cursor=None, error="shed")
    assert process.take(events.FeedRequest(T0 + 1, "third", "ada", cursor=CURSOR)) == []
    assert shown(process) == [4, 5, 8]
    process.close()


@pytest.mark.parametrize(
    ("keys", "said"), [(b"\1" * 7, "can't be read"), (b"\2" * 8 + b"\1" * 8, "with posts out of order")]
)
def test_a_broken_session_is_named(tmp_path: Path, phoenix: Phoenix, keys: bytes, said: str) -> None:
    process = Process(tmp_path, phoenix)
    process.take(events.Follow(T0, "ada", 7))
    process.commit()
    process.close()
    (groups,) = ActionSequences(8, 300).groups(np.array([0]))
    raw = encode_viewer(groups, Facts(sessions=(Session(1, T0, keys),)))
    store = PartitionStore.open(viewers_folder(tmp_path, 0), FORMAT_VERSION)
    store.commit([(77, raw)], [], Positions({}).encoded())
    store.close()
    (wrong,) = verify(tmp_path)
    assert wrong.startswith("viewers of partition 0: the record of 77")
    assert said in wrong
