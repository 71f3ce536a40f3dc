"""Who was deleted is in no store any more, and all the rest is as if the user had never been."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.serving.deleting import DELETED_USERS, chunk_without, viewers_without
from flows.serving.durable import posts_folder, viewers_folder
from flows.serving.inspecting import RELATIONS, ViewerExport, export_all, reading
from models.phoenix import Phoenix
from operators.deleted_users import DeletedUsers
from schemas import events
from schemas.codec import encode
from schemas.ids import Id, key_of
from tests.flows.serving.states import PARTITIONS, T0, Process, live

# Ids whose bytes and digits are found by chance nowhere.
GONE: tuple[Id, ...] = ("mallory-of-the-tests", 7_318_364_021_998_877_665)
OTHERS: tuple[Id, ...] = ("ada", "bob", 7, 8)
people = st.sampled_from((*OTHERS, *GONE))
SECRET = "unspeakable"


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


# Enough events for the job's clock to stand at a time after all posts: a deleted one can't come back.
CLOCK: list[events.Event] = [events.Profile(T0 + 10**6, 7)] * 9


def author_of(post: int) -> Id:
    return (*OTHERS, *GONE)[post % 6]


def event_at(at: int) -> st.SearchStrategy[events.Event]:
    """Return a strategy of events of all people, the deleted ones too; posts are 1 to 59, by `author_of`."""
    when, posts = st.just(at), st.integers(1, 59)
    about = st.tuples(people, people)
    return st.one_of(
        posts.map(lambda post: events.PostCreated(T0 + post, post, author_of(post), f"{SECRET} words {post}")),
        st.tuples(st.integers(60, 99), posts).map(
            lambda pair: events.PostCreated(
                T0 + pair[0],
                pair[0],
                author_of(pair[0]),
                "a reply",
                reply_to=pair[1],
                reply_to_author=author_of(pair[1]),
            )
        ),
        posts.map(lambda post: events.PostDeleted(at, post, author_of(post))),
        people.map(lambda author: events.AuthorLabelled(at, author, ("protected",))),
        st.builds(lambda viewer, post: events.Engagement(at, viewer, post, "favorite", author_of(post)), people, posts),
        about.map(lambda pair: events.Follow(at, *pair)),
        about.map(lambda pair: events.Block(at, *pair)),
        about.map(lambda pair: events.Mute(at, *pair)),
        about.map(lambda pair: events.Subscribe(at, *pair)),
        st.builds(events.Profile, when, people, followers=st.integers(0, 9)),
        st.builds(events.MuteKeyword, when, people, st.just("tea time")),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[list[events.Event] | str]:
    """Return polls, commits and kills in any order; the users are deleted somewhere among them, maybe twice."""
    count = draw(st.integers(2, 12))
    steps: list[list[events.Event] | str] = [
        draw(st.lists(event_at(T0 + 1000 * number), min_size=1, max_size=6)) for number in range(count)
    ]
    for user in (*GONE, *draw(st.lists(st.sampled_from(GONE), max_size=1))):
        steps.insert(draw(st.integers(0, len(steps))), [events.UserDeleted(T0, user)])
    for _ in range(draw(st.integers(0, 4))):
        steps.insert(draw(st.integers(0, len(steps))), draw(st.sampled_from(["commit", "kill"])))
    return steps


def names_gone(event: events.Event) -> bool:
    own = {getattr(event, name, None) for name in ("viewer", "author")}
    return not own.isdisjoint(GONE)


def without_gone(event: events.Event) -> events.Event:
    """Return an event of others that does not name the deleted users."""
    if isinstance(event, events.PostCreated) and event.reply_to_author in GONE:
        return events.PostCreated(event.at, event.post, event.author, event.text, reply_to=event.reply_to)
    return event


def run(
    folder: Path, phoenix: Phoenix, steps: list[list[events.Event] | str], keep: Callable[[events.Event], bool]
) -> Process:
    """Take steps in; a process that is killed takes in again what came after its last commit."""
    process, since = Process(folder, phoenix), [CLOCK]
    process.take(*CLOCK)
    for step in steps:
        if step == "commit":
            process.commit()
            since.clear()
        elif step == "kill":
            process.close()
            process = Process(folder, phoenix)
            for poll in since:
                process.take(*poll)
        else:
            since.append([one for one in step if not isinstance(one, str) and keep(one)])
            process.take(*since[-1])
    process.commit()
    process.commit()  # deleted posts may leave their chunk one commit later
    return process


def raw_records(folder: Path) -> bytes:
    """Return all records of all stores but those that say who was deleted."""
    found = []
    for path in (*(viewers_folder(folder, one) for one in range(PARTITIONS)), posts_folder(folder, 0)):
        with reading(path) as store:
            found += [key.to_bytes(8, "little") + raw for key, raw in store.items() if key != DELETED_USERS]
    return b"".join(found)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=histories())
def test_nothing_of_a_deleted_user_is_left_and_nothing_else_is_lost(
    steps: list[list[events.Event] | str], phoenix: Phoenix, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, other = tmp_path_factory.mktemp("with"), tmp_path_factory.mktemp("without")
    process = run(folder, phoenix, steps, lambda _: True)
    never = run(
        other,
        phoenix,
        [step if isinstance(step, str) else [without_gone(one) for one in step] for step in steps],
        lambda event: not names_gone(event),
    )
    shown, expected = shown_posts(process), shown_posts(never)
    process.close()
    never.close()
    assert shown == expected
    assert said(folder) == said(other)
    raw = raw_records(folder)
    for user in GONE:
        assert key_of(user).to_bytes(8, "little") not in raw
        assert encode(events.UserDeleted(0, user)).rpartition(b":")[2].strip(b'"}') not in raw

    again = Process(folder, phoenix)
    assert shown_posts(again) == expected
    assert again.state.deleted.hold(np.array([key_of(user) for user in GONE], np.uint64)).all()
    again.close()


def said(folder: Path) -> list[ViewerExport]:
    """Return the viewers of whom anything is known: some were met only through a user who is gone."""
    nothing = dict.fromkeys(RELATIONS, ())
    return [
        one
        for one in export_all(folder)
        if one != ViewerExport(one.viewer, one.partition, (), 0, nothing, (), None, 0, (), ())
    ]


def shown_posts(process: Process) -> list[tuple[object, ...]]:
    """Return the posts that may be shown, as the table and the index have them, by key."""
    table = process.state.posts.table
    rows = np.arange(table.base, table.end)
    posts = table.gather(rows[table.visible(rows, T0 + 10**6)])
    columns = (posts.key, posts.author, posts.created_ms, posts.flags, posts.reply_to, posts.reply_to_author)
    searched = set(live(process.state)[2])  # type: ignore[call-overload]
    in_index = [int(row) - table.base in searched for row in posts.row.tolist()]
    return sorted(zip(*(column.tolist() for column in columns), in_index, strict=True))


def test_words_of_deleted_posts_leave_the_store_and_the_rest_of_them_stays(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(*CLOCK)
    process.take(
        events.PostCreated(T0, 1, "ada", f"{SECRET} one", "en", ("tea",)),
        events.PostCreated(T0 + 1, 2, "ada", "kept"),
        events.PostCreated(T0 + 2, 3, "bob", "an answer", reply_to=1),
    )
    process.commit()
    process.take(events.PostDeleted(T0 + 3, 1, "ada"))
    before = live(process.state)
    process.commit()
    process.close()
    raw = raw_records(tmp_path)
    assert SECRET.encode() not in raw
    assert b'"tea"' not in raw
    assert b"kept" in raw
    again = Process(tmp_path, phoenix)
    assert live(again.state)[2:] == before[2:]
    # What an action on it is about is known as before, and to whom an answer was.
    authors, terms = again.state.posts.table.resolve(np.array([1, 3], np.uint64))
    known = process.state.posts.table.resolve(np.array([1, 3], np.uint64))
    assert (authors.tolist(), terms.tolist()) == (known[0].tolist(), known[1].tolist())
    assert terms[0].any()
    # A copy of it that comes late leaves no words either.
    again.take(events.PostCreated(T0, 1, "ada", f"{SECRET} one", "en", ("tea",)))
    again.commit()
    again.close()
    assert SECRET.encode() not in raw_records(tmp_path)


def test_a_post_that_came_back_keeps_its_words(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(events.PostCreated(T0, 1, "ada", "first"), events.PostDeleted(T0 + 1, 1, "ada"))
    process.commit()
    process.take(events.PostCreated(T0 + 2, 1, "ada", "second"))
    process.commit()
    process.commit()
    process.close()
    raw = raw_records(tmp_path)
    assert b"second" in raw
    assert b"first" not in raw


def test_what_a_deleted_viewer_asks_is_refused_and_leaves_nothing(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(events.Follow(T0, "ada", 7))
    (query,) = process.take(events.FeedRequest(T0, "r1", "ada", seen_ids=(1, 2)))
    process.commit()
    process.take(events.UserDeleted(T0, "ada"))
    # The first request is still in work.
    assert process.state.viewers.served(query.request).tolist() == []
    process.state.viewers.remember_served(query.request, np.array([5], np.uint64))
    assert process.take(events.FeedRequest(T0, "r2", "ada", seen_ids=(3,))) == []
    assert process.letters == ["the viewer was deleted"]
    process.commit()
    process.close()
    assert [one.viewer for one in export_all(tmp_path)] == [7]


def test_a_store_that_is_behind_the_others_is_told(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(events.PostCreated(T0, 1, "mallory", SECRET), events.Follow(T0, "bob", "mallory"))
    process.take(events.Follow(T0, 7, "mallory"), events.Follow(T0, 8, "mallory"))
    process.commit()
    process.take(events.UserDeleted(T0, "mallory"))
    # Killed after the first of four stores was written.
    process.state.commit_viewers(0, [], process.state.viewer_positions[0])
    process.close()
    again = Process(tmp_path, phoenix)
    assert "mallory" not in str([seen.relations for seen in again.ask("bob", 7, 8)])
    assert not any(len(seen.relations.followed) for seen in again.ask("bob", 7, 8))
    assert shown_posts(again) == []
    assert again.state.untidy
    again.take(events.UserDeleted(T0, "mallory"))
    again.commit()
    assert not again.state.untidy
    again.close()
    raw = raw_records(tmp_path)
    assert SECRET.encode() not in raw
    assert key_of("mallory").to_bytes(8, "little") not in raw
    assert b"mallory" not in raw


def test_what_names_nobody_deleted_is_not_written_anew(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(*(events.Follow(T0, viewer, 99) for viewer in range(100, 120)))
    process.commit()
    store = process.state.stores[0]
    assert viewers_without(store, [], [12345]) == []
    lines = [encode(events.PostCreated(T0, 1, 99, "text"))]
    assert chunk_without([(T0, lines)], DeletedUsers([12345]), lambda _: False) is None
    process.close()
