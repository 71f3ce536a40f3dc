"""A state that was closed, or whose process was killed, comes back as it was at its last commit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.serving import durable
from flows.serving.durable import FORMAT_VERSION, DurableState, posts_folder, viewers_folder
from flows.serving.positions import Positions, starts
from infra.stores import PartitionStore, StoreRefused
from models.phoenix import Phoenix
from operators.keys import keys_of
from operators.parameters import DEFAULTS
from schemas import events
from tests.flows.serving.states import PARTITIONS, T0, Process, live
from tests.operators.viewers.test_slots import seen_in

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


@pytest.fixture
def process(tmp_path: Path, phoenix: Phoenix) -> Iterator[Process]:
    process = Process(tmp_path, phoenix)
    yield process
    process.close()


def post(number: int, at: int, author: int | str = "ada", **fields: object) -> events.PostCreated:
    return events.PostCreated(at, number, author, f"words of number {number}", "en", ("tea",), **fields)  # type: ignore[arg-type]


def some_events(start: int = 0) -> list[events.Event]:
    """Return events of three viewers and their posts, as of a start in hours."""
    at = T0 + start * HOUR_MS
    made: list[events.Event] = []
    for number in range(1000 * start + 1, 1000 * start + 40):
        at += 60_000
        made.append(post(number, at, ("ada", "bob", 7)[number % 3], reply_to=number - 1 if number % 5 == 0 else None))
        made.append(events.Engagement(at, ("ada", 7, 8)[number % 3], number, "favorite"))
    made.append(events.PostDeleted(at, 1000 * start + 3, "ada"))
    made.append(events.PostLabelled(at, 1000 * start + 4, "bob", ("nsfw",)))
    made.append(events.AuthorLabelled(at, "bob", ("protected", f"since_{start}")))
    made.append(events.Follow(at, "ada", 7))
    made.append(events.Block(at, 8, "bob"))
    made.append(events.MuteKeyword(at, 7, "spoiler alert"))
    return made


def asked(process: Process) -> list[list[object]]:
    """Return what is known of each viewer."""
    return [seen_in(query) for query in process.ask("ada", "bob", 7, 8, 9)]


def test_what_was_committed_comes_back(tmp_path: Path, phoenix: Phoenix, process: Process) -> None:
    for start in (0, 1, 2):
        process.take(*some_events(start))
        process.commit()
    before = (asked(process), live(process.state), process.intake.clock_ms)
    process.close()
    again = Process(tmp_path, phoenix)
    assert (asked(again), live(again.state), again.intake.clock_ms) == before
    again.close()


def test_a_post_with_a_wrong_clock_makes_no_other_post_late_at_loading(
    tmp_path: Path, phoenix: Phoenix, process: Process
) -> None:
    day = 24 * HOUR_MS
    clock: list[events.Event] = [events.Profile(T0 + day, 7)] * 9
    process.take(*clock)
    process.take(post(1, T0 + day + 2 * HOUR_MS))
    old = T0 + day - DEFAULTS.posts.retention_s * 1000 + HOUR_MS // 2
    process.take(post(2, old))
    process.take(*(events.Profile(T0 + day + HOUR_MS, 7) for _ in clock), post(3, T0 + day + HOUR_MS))
    process.commit()
    before = live(process.state)
    assert process.state.posts.table.rows_of(keys_of([1, 2, 3])).min() >= 0
    process.close()
    again = Process(tmp_path, phoenix)
    assert live(again.state) == before
    again.close()


def test_what_was_not_committed_is_gone_as_a_whole(tmp_path: Path, phoenix: Phoenix, process: Process) -> None:
    process.take(*some_events(0))
    process.commit()
    before = (asked(process), live(process.state))
    process.take(*some_events(1))
    process.close()
    again = Process(tmp_path, phoenix)
    assert (asked(again), live(again.state)) == before
    assert again.state.posts_positions.inputs == {"posts": {0: process.taken - len(some_events(1))}}
    again.close()


def test_a_state_goes_on_where_it_was(tmp_path: Path, phoenix: Phoenix, process: Process) -> None:
    straight = Process(tmp_path / "straight", phoenix)
    for start in (0, 1, 2):
        straight.take(*some_events(start))
        process.take(*some_events(start))
        process.commit()
        process.close()
        process = Process(tmp_path, phoenix)
    assert (asked(process), live(process.state)) == (asked(straight), live(straight.state))
    straight.close()
    process.close()


def test_chunks_of_expired_posts_are_forgotten(tmp_path: Path, phoenix: Phoenix, process: Process) -> None:
    for day in range(6):
        process.take(*some_events(24 * day))
        process.commit()
        stored = [key for key, _ in process.state.posts_store.items()]
        assert len(stored) <= 4, "two days are kept, and what began before"
    assert stored[-1] == 6
    before = live(process.state)
    process.close()
    again = Process(tmp_path, phoenix)
    assert live(again.state) == before
    again.take(*some_events(24 * 6))
    again.commit()
    assert [key for key, _ in again.state.posts_store.items()][-1] == 7, "no chunk takes the place of another"
    again.close()


def test_another_format_is_refused(tmp_path: Path, phoenix: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    Process(tmp_path, phoenix).close()
    monkeypatch.setattr(durable, "FORMAT_VERSION", FORMAT_VERSION + 1)
    with pytest.raises(StoreRefused, match="has format 1 and this version reads format 2: open it"):
        DurableState(tmp_path, range(PARTITIONS), 0, DEFAULTS, phoenix)


def test_a_state_in_use_is_refused_and_nothing_stays_open(tmp_path: Path, phoenix: Phoenix) -> None:
    holder = PartitionStore.open(posts_folder(tmp_path, 0), FORMAT_VERSION)
    with pytest.raises(StoreRefused):
        DurableState(tmp_path, range(PARTITIONS), 0, DEFAULTS, phoenix)
    holder.close()
    DurableState(tmp_path, range(PARTITIONS), 0, DEFAULTS, phoenix).close()
    PartitionStore.open(viewers_folder(tmp_path, 2), FORMAT_VERSION).close()


def test_positions_begin_where_the_last_store_is() -> None:
    viewers = {
        0: Positions({"graph": {0: 9, 1: 4}, "engagements": {0: 50}, "feed-requests": {0: 3}}),
        2: Positions({"graph": {0: 7, 1: 5}, "engagements": {2: 20}}),
    }
    posts = Positions({"posts": {0: 11}}, clock_ms=T0)
    counts = {"posts": 2, "graph": 2}
    found = starts(viewers, posts, counts, [0, 2])
    assert found == {
        ("posts", 0): 11,
        ("posts", 1): -2,  # from its beginning
        ("graph", 0): 7,
        ("graph", 1): 4,
        ("engagements", 0): 50,
        ("engagements", 2): 20,
        ("feed-requests", 0): 3,
        ("feed-requests", 2): -2,
    }
    assert Positions.decoded(viewers[0].encoded()) == viewers[0]
    assert Positions.decoded(b"") == Positions()
