"""Labels of authors outlive their posts, restarts and the chunks they came in; a deleted author has none."""

from pathlib import Path

import pytest

from flows.serving.inspecting import export
from flows.serving.verifying import remains, verify
from models.phoenix import Phoenix
from schemas import events
from schemas.ids import Id, key_of
from tests.flows.serving.states import T0, Process

DAY_MS = 24 * 3_600_000


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


def labels(process: Process, author: Id) -> tuple[str, ...]:
    table = process.state.posts.table
    return table.labels_of(table.author_labels.of(key_of(author)))


def a_day(day: int) -> list[events.Event]:
    """Return posts enough to move the job's clock to a day."""
    at = T0 + day * DAY_MS
    return [events.PostCreated(at + number, 100 * day + number, "ada") for number in range(1, 10)]


def test_labels_outlive_the_chunk_they_came_in(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    process.take(
        *a_day(0),
        events.AuthorLabelled(T0, "bob", ("protected", "cute", "cute")),
        events.AuthorLabelled(T0, 7, ("suspended",)),
        events.AuthorLabelled(T0, 8, ("suspended",)),
        events.AuthorLabelled(T0 + 1, 8, ()),
    )
    process.commit()
    for day in range(1, 10):
        process.take(*a_day(day))
        if day == 4:
            process.take(events.AuthorLabelled(T0, 7, ("deactivated",)))
        process.commit()
        if day in (3, 6):  # killed, with what was not committed
            process.take(events.AuthorLabelled(T0, "bob", ()))
            process.close()
            process = Process(tmp_path, phoenix)
        told = [labels(process, one) for one in ("bob", 7, 8, "ada")]
        assert told == [("cute", "protected"), ("suspended",) if day < 4 else ("deactivated",), (), ()]
        stored = dict(process.state.posts_store.items())
        assert len(stored) <= 4, "the chunks of a day ago are forgotten all the same"
    lines = b"".join(stored.values())
    assert lines.count(b"author_labelled") == 2, "what was replaced or taken back is not carried along"
    process.close()
    assert list(verify(tmp_path)) == []
    assert export(tmp_path, 7).posts[0] == events.AuthorLabelled(T0, 7, ("deactivated",))


def test_labels_go_with_a_deleted_author(tmp_path: Path, phoenix: Phoenix) -> None:
    process = Process(tmp_path, phoenix)
    mallory = "mallory-of-the-tests"
    process.take(*a_day(0), events.AuthorLabelled(T0, mallory, ("suspended",)))
    process.commit()
    process.take(events.UserDeleted(T0 + 2, mallory), events.AuthorLabelled(T0 + 3, mallory, ("suspended",)))
    assert labels(process, mallory) == ()
    process.commit()
    process.close()
    assert remains(tmp_path, mallory).named == ()
    again = Process(tmp_path, phoenix)
    assert labels(again, mallory) == ()
    again.close()


def test_what_is_no_author_is_refused(tmp_path: Path, phoenix: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.posts.author_labels.LABELLED_AUTHORS_MAX", 1)
    process = Process(tmp_path, phoenix)
    process.take(
        events.AuthorLabelled(T0, 0, ("suspended",)),
        events.AuthorLabelled(T0, 7, ("suspended",)),
        events.AuthorLabelled(T0, 8, ("suspended",)),
        events.AuthorLabelled(T0, 8, ()),
        events.AuthorLabelled(T0, 7, ("protected",)),
    )
    assert process.letters == ["author 0 is nobody", "more than 1 authors with labels"]
    assert (labels(process, 7), labels(process, 8)) == (("protected",), ())
    process.close()
