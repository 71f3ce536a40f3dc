"""Logs come back as they were written, in order of time, whatever state their files are in."""

import gzip
import io
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.logs import LINE_BYTES_MAX, LogReader, LogRefused, LogReport, LogWriter, validate
from schemas.codec import decode, encode
from schemas.events import TOPIC_OF, TOPICS, Engagement, Event, FeedRequest, Follow, PostCreated, Served

YEAR_MS = 365 * 86_400_000


def _events(count: int, start: int = 1_000_000) -> list[Event]:
    """Return events of all topics in order of time, some at the same time, ties in the order of TOPICS."""
    events: list[Event] = []
    for i in range(count):
        at = start + i * 1000
        events.append(PostCreated(at, i, "author-é", text=f"post {i}"))
        events.append(Engagement(at, 7, i, "favorite"))
        if i % 3 == 0:
            events.append(Follow(at, 7, "author-é"))
        events.append(FeedRequest(at + 1, f"r{i}", 7))
        events.append(Served(at + 1, f"r{i}", 7, (i,)))
    return events


def _read(path: Path, batch_lines: int = 512) -> list[bytes]:
    return [line.raw for batch in LogReader(path, batch_lines).lines() for line in batch]


def _write(path: Path, events: list[Event], compression: str = "zst") -> Path:
    with LogWriter(path, compression) as writer:
        for start in range(0, len(events), 100):
            writer.write(events[start : start + 100])
    return path


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.zst", "log"])
def test_a_log_reads_back_as_written_in_order(tmp_path: Path, name: str) -> None:
    events = _events(700)
    path = _write(tmp_path / name, events)
    assert [decode(raw) for raw in _read(path)] == events
    reader = LogReader(path)
    assert sum(len(batch.raw) for batch in reader.batches()) == len(events)
    assert reader.bytes_read == reader.bytes_total > 0


@pytest.mark.parametrize("compression", ["", "gz", "zst"])
def test_the_same_events_give_the_same_bytes(tmp_path: Path, compression: str) -> None:
    events = _events(50)
    one, two = (_write(tmp_path / name, events, compression) for name in ("one", "two"))
    files = sorted(path.name for path in one.iterdir())
    assert len(files) == 5
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def test_batches_are_cut_by_line_and_lines_know_their_place(tmp_path: Path) -> None:
    path = _write(tmp_path / "log.jsonl", _events(100))
    batches = list(LogReader(path, 64).batches())
    assert [batch.position for batch in batches] == list(range(0, 64 * len(batches), 64))
    assert [len(batch.raw) for batch in batches[:-1]] == [64] * (len(batches) - 1)
    assert [o for batch in batches for o in batch.offsets] == list(range(1, 1 + sum(len(b.raw) for b in batches)))
    folder = _write(tmp_path / "log", _events(100))
    lines = [line for batch in LogReader(folder).lines() for line in batch]
    for line in lines:
        assert line.topic == TOPIC_OF[type(decode(line.raw))]
        assert line.file == f"{line.topic}.jsonl.zst"
    for topic in TOPICS:
        offsets = [line.offset for line in lines if line.topic == topic]
        assert offsets == list(range(1, len(offsets) + 1))


def test_blank_lines_are_passed_over_and_the_last_newline_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n\n{"a":2}\n\n{"a":3}')
    lines = [line for batch in LogReader(path, 2).lines() for line in batch]
    assert [(line.offset, line.raw) for line in lines] == [(1, b'{"a":1}'), (3, b'{"a":2}'), (5, b'{"a":3}')]


def test_standard_input_is_a_plain_log(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"".join(encode(event) + b"\n" for event in _events(3))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    lines = [line for batch in LogReader("-").lines() for line in batch]
    assert [decode(line.raw) for line in lines] == _events(3)
    assert {line.file for line in lines} == {"standard input"}


def _reference_merge(files: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Merge (file, line) pairs the plain way: by the latest time so far, then file, then line."""
    keyed = []
    for order, times in enumerate(files):
        latest = -1
        for line, (at, _) in enumerate(times):
            latest = max(latest, at)
            keyed.append((latest, order, line))
    return [(order, line) for _, order, line in sorted(keyed)]


_times = st.lists(st.integers(0, 30), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.tuples(_times, _times, _times), st.integers(1, 7))
def test_merging_is_stable_and_late_lines_follow_their_predecessors(
    tmp_path_factory: pytest.TempPathFactory, times: tuple[list[int], ...], block_lines: int
) -> None:
    from infra.logs.files import LineBlock
    from infra.logs.merging import TopicFile, merge

    def blocks(ats: list[int]) -> list[LineBlock]:
        lines = [b'{"text":"x","at":%d}' % at for at in ats]
        return [LineBlock(lines[i : i + block_lines]) for i in range(0, len(lines), block_lines)]

    files = [TopicFile(order, iter(blocks(ats))) for order, ats in enumerate(times)]
    merged = [
        (source, offset - 1)
        for columns in merge(files)
        for source, offset in zip(columns.sources, columns.offsets, strict=True)
    ]
    assert merged == _reference_merge([[(at, 0) for at in ats] for ats in times])


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_lines_without_a_time_or_with_a_wrong_clock_hold_nothing_back(tmp_path: Path, lines: int) -> None:
    events = _events(200)
    folder = _write(tmp_path / "log", events, "")
    posts = folder / "posts.jsonl"
    raw = posts.read_bytes().split(b"\n")
    broken = [b'{"kind":"post_created","at":%d}' % (events[0].at + YEAR_MS), b"{broken", b'{"at":1e999}'][:lines]
    raw[100:100] = broken
    posts.write_bytes(b"\n".join(raw))
    merged = _read(folder)
    place = merged.index(broken[0])
    assert merged[place : place + lines] == broken
    good = merged[:place] + merged[place + lines :]
    assert [decode(line) for line in good] == events
    assert decode(merged[place - 1]) == PostCreated(events[0].at + 99_000, 99, "author-é", text="post 99")


def test_a_quiet_year_is_believed(tmp_path: Path) -> None:
    events = [*_events(20), *_events(20, start=1_000_000 + YEAR_MS)]
    assert [decode(raw) for raw in _read(_write(tmp_path / "log", events))] == events


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_log_cut_inside_a_frame_gives_all_before_the_cut_and_one_error(tmp_path: Path, suffix: str) -> None:
    events = _events(4000)
    whole = _write(tmp_path / f"log.jsonl.{suffix}", events).read_bytes()
    path = tmp_path / f"cut.jsonl.{suffix}"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    lines = [line for batch in LogReader(path).lines() for line in batch]
    assert [line.error for line in lines if line.error] == ["log ends inside a compressed frame"]
    assert lines[-1].error
    assert len(lines) > 1000
    assert [decode(line.raw) for line in lines[:-1]] == events[: len(lines) - 1]
    report = LogReport()
    bad = list(validate(path, 2**53, report))
    assert [(b.line, b.reason) for b in bad] == [(len(lines), "log ends inside a compressed frame")]
    assert report.kinds.total() == len(lines) - 1


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_damaged_frame_is_one_error(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"log.jsonl.{suffix}", _events(1000))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\xff" * 40
    path.write_bytes(raw)
    lines = [line for batch in LogReader(path).lines() for line in batch]
    assert [line.error.partition(":")[0] for line in lines if line.error] == [
        "log is damaged inside a compressed frame"
    ]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_several_frames_in_one_file_are_one_log(tmp_path: Path, compress: object) -> None:
    suffix = "gz" if compress is gzip.compress else "zst"
    path = tmp_path / f"log.jsonl.{suffix}"
    path.write_bytes(b"".join(compress(part) for part in (b'{"a":1}\n{"a"', b":2}\n", b"", b'{"a":3}\n')))  # type: ignore[operator]
    assert _read(path) == [b'{"a":1}', b'{"a":2}', b'{"a":3}']


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.zst"])
@pytest.mark.parametrize("size", [LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX + 5])
@pytest.mark.parametrize("last", [False, True])
def test_a_line_too_long_is_one_error_and_the_next_line_counts(
    tmp_path: Path, name: str, size: int, last: bool
) -> None:
    path = tmp_path / name
    good = encode(Follow(5, 1, 2))
    raw = good + b"\n" + b"x" * size + (b"" if last else b"\n" + good + b"\n")
    path.write_bytes(zstandard.compress(raw) if name.endswith("zst") else raw)
    lines = [line for batch in LogReader(path).lines() for line in batch]
    assert lines[0].raw == good
    assert lines[1].error == f"line of {size} bytes; at most {LINE_BYTES_MAX} are allowed"
    assert len(lines[1].raw) == 1024
    assert [line.raw for line in lines[2:]] == ([] if last else [good])
    assert [bad.line for bad in validate(path, 2**53)] == [2]


def test_the_longest_line_allowed_passes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"x" * LINE_BYTES_MAX + b"\nyy\n")
    assert [len(raw) for raw in _read(path)] == [LINE_BYTES_MAX, 2]


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.zst"])
def test_an_empty_log_is_a_log(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert _read(path) == []
    assert _read(_write(path, [])) == []
    assert _read(_write(tmp_path / "folder", [])) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p, "{path} doesn't exist."),
        (lambda p: p.mkdir(), "{path} holds no log: expected files such as posts.jsonl or posts.jsonl.zst."),
        (lambda p: (p.mkdir(), (p / "likes.jsonl").touch()), "{path}/likes.jsonl belongs to no topic"),
        (
            lambda p: (p.mkdir(), (p / "notes.txt").touch()),
            "{path}/notes.txt is not a log: its name must end in .jsonl",
        ),
        (
            lambda p: (p.mkdir(), (p / "posts.jsonl").touch(), (p / "posts.jsonl.gz").touch()),
            "{path} holds two files of one topic: posts.jsonl and posts.jsonl.gz.",
        ),
    ],
)
def test_what_is_no_log_is_refused_with_a_sentence(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "log"
    make(path)  # type: ignore[operator]
    with pytest.raises(LogRefused) as refused:
        LogReader(path)
    assert str(refused.value).startswith(message.format(path=path))


def test_a_wrong_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"x")
    with pytest.raises(LogRefused, match=r"must end in \.jsonl"):
        LogReader(path)
    for suffix in ("gz", "zst"):
        path = tmp_path / f"log.jsonl.{suffix}"
        path.write_bytes(b'{"kind":"follow"}\n')
        with pytest.raises(LogRefused, match="not compressed as its suffix says"):
            list(LogReader(path).batches())


def _refuse_the_ninth(numbered: tuple[int, Event]) -> Event:
    if numbered[0] == 8:
        raise msgspec.ValidationError
    return numbered[1]


def test_an_abandoned_log_leaves_nothing_and_replaces_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "log", _events(5))
    before = _read(path)
    for target in (path, tmp_path / "other.jsonl.gz"):
        with pytest.raises(msgspec.ValidationError), LogWriter(target) as writer:
            writer.write(map(_refuse_the_ninth, enumerate(_events(9))))
    assert [child.name for child in tmp_path.iterdir()] == ["log"]
    assert _read(path) == before
    assert len(_read(_write(path, _events(9)))) > len(before)
    assert [child.name for child in tmp_path.iterdir()] == ["log"]


def test_a_folder_that_is_no_log_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(LogRefused, match="is not a log, so it is left alone"):
        LogWriter(tmp_path / "photos")


def test_validate_names_each_bad_line_its_field_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [
        encode(Follow(10_000, 1, 2)),
        b'{"kind":"engagement","at":11000,"viewer":1,"post":2,"action":"love"}',
        encode(Follow(9_000, 1, 3)),
        b'{"kind":"follow","at":-5,"viewer":1,"author":2}',
        b'{"kind":"follow","at":99000000,"viewer":1,"author":2}',
        b'{"kind":"follow","at":12000',
        encode(Engagement(12_000, 1, 2, "click")),
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    report = LogReport()
    bad = list(validate(path, 1_000_000, report))
    assert [(b.line, b.path) for b in bad] == [(2, "$.action"), (4, "$.at"), (5, "$.at"), (6, "$")]
    assert bad[2].reason == "time 99000000 lies in the future"
    assert (report.lines, report.bad, dict(report.kinds)) == (7, 4, {"follow": 2, "engagement": 1})
    assert (report.first_at, report.last_at) == (9_000, 12_000)
    assert (report.late, report.late_ms_max) == (1, 1_000)


def test_an_event_in_another_topics_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "posts.jsonl").write_bytes(encode(Follow(1, 1, 2)) + b"\n")
    (bad,) = validate(tmp_path / "log", 2**53)
    assert msgspec.structs.astuple(bad) == ("posts.jsonl", 1, "$.kind", "belongs to topic graph, not posts")
