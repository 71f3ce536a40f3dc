"""Whatever a log holds: a dead letter for what can't be taken, and every other event still counts.

The bad lines are put into a good log, one between any two of its lines; the feeds must be those of the good log alone.
"""

import base64
import json
from pathlib import Path

import msgspec
import pytest
import zstandard

from flows.replay import Replay, replay
from infra.logs import LogReader, LogRefused
from infra.world import WorldSummary
from models.checkpoints import CheckpointRefused
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS, ParameterRefused
from schemas.codec import decode, encode
from schemas.events import Engagement, FeedRequest, Follow, PostCreated, PostDeleted, PostLabelled
from tests.acceptance.playing import HOUR, T0, Played, Player, write_log
from tests.conftest import reconfigured

REQUEST = encode(FeedRequest(T0, "bad", 1))
ASKED: dict[str, object] = json.loads(REQUEST)
YEAR_2100 = 4_102_444_800_000
ENGAGEMENT = {"kind": "engagement", "at": T0, "viewer": 1, "post": 2, "action": "favorite"}
POST = {"kind": "post_created", "at": T0, "post": 1, "author": 2}


def changed(base: dict[str, object], **fields: object) -> bytes:
    return json.dumps(base | fields).encode()


# name: the line, the path of the field at fault, and what the reason says
BAD: dict[str, tuple[bytes, str, str]] = {
    "truncated JSON": (REQUEST[:40], "$", "not JSON: Input data was truncated"),
    "no JSON at all": (b"hello, world", "$", "not JSON: JSON is malformed: invalid character (byte 0)"),
    "two objects": (REQUEST + REQUEST, "$", "not JSON: JSON is malformed: trailing characters (byte"),
    "no UTF-8": (changed(POST, text="~").replace(b"~", b"\xff\xfe"), "$", "not JSON: UnicodeDecodeError"),
    "no object": (b"[1, 2]", "$", "Expected `object`, got `array`"),
    "nested without end": (b'{"kind":"engagement","x":' + b"[" * 100_000, "$", "not JSON: RecursionError"),
    "no kind": (b'{"at": 1}', "$", "Object missing required field `kind`"),
    "unknown kind": (changed(ENGAGEMENT, kind="rumour"), "$.kind", "Invalid value 'rumour'"),
    "unknown action": (changed(ENGAGEMENT, action="adore"), "$.action", "Invalid enum value 'adore'"),
    "wrong type": (changed(ENGAGEMENT, viewer=[1, 2]), "$.viewer", "Expected `int | str`, got `array`"),
    "a float for an id": (changed(ENGAGEMENT, post=1.5), "$.post", "Expected `int | str`, got `float`"),
    "a field missing": (b'{"kind":"follow","at":1,"author":1}', "$", "Object missing required field `viewer`"),
    "a negative time": (changed(ENGAGEMENT, at=-1), "$.at", "Expected `int` >= 0"),
    "a time in the far future": (changed(ENGAGEMENT, at=YEAR_2100), "$.at", "time 4102444800000 lies in the future"),
    "a request from the far future": (changed(ASKED, at=YEAR_2100), "$.at", "lies in the future"),
    "a time beyond all numbers": (changed(ENGAGEMENT, at=10**30), "$.at", "Expected `int` <= 9007199254740992"),
    "an id of 65 bytes": (changed(ENGAGEMENT, viewer="x" * 65), "$.viewer", "Expected `str` of length <= 64"),
    "an id of 65 bytes in 33 characters": (
        encode(Engagement(T0, "é" * 32 + "x", 2, "favorite")), "$.viewer", "id of 65 bytes; at most 64 are allowed"
    ),
    "an id of a seen post of 66 bytes": (
        encode(FeedRequest(T0, "r", 1, seen_ids=("é" * 33,))), "$.seen_ids", "id of 66 bytes; at most 64 are allowed"
    ),
    "an empty id": (changed(ENGAGEMENT, viewer=""), "$.viewer", "Expected `str` of length >= 1"),
    "an id beyond 63 bits": (changed(ENGAGEMENT, viewer=2**63), "$.viewer", "Expected `int` <= 9223372036854775807"),
    "100 KB of text": (changed(POST, text="x" * 100_000), "$.text", "Expected `str` of length <= 25000"),
    "post 0": (changed(POST, post=0), "$.post", "0 stands for no post; ids begin at 1"),
    "viewer 0": (changed(ASKED, viewer=0), "$.viewer", "viewer 0 is nobody"),
    "a feed of 1,000 posts": (changed(ASKED, limit=1000), "$.limit", "Expected `int` <= 200"),
    "a parameter that does not exist": (
        changed(ASKED, parameters={"scoring.luck": 1}), "$.parameters", "no parameter is called scoring.luck",
    ),
    "a line of 2 MB": (changed(POST, text="x" * 2_000_000), "$", "at most 1048576 are allowed"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(world: WorldSummary) -> list[bytes]:
    """The lines of a good log."""
    return [line for batch in LogReader(world.log).batches() for line in batch.raw]


@pytest.fixture(scope="module")
def player(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Player:
    return Player(tmp_path_factory.mktemp("bad"), checkpoint)


@pytest.fixture(scope="module")
def alone(player: Player, good: list[bytes]) -> Played:
    played = player(good)
    assert played.dead_letters == []
    assert played.summary.events == len(good)
    assert sum(len(feed.items) for feed in played.feeds.values()) > 300
    return played


def assert_same_feeds(played: Played, alone: Played) -> None:
    """Assert that a replay answered as the good log alone does."""
    assert {**played.bytes(), "dead-letters.jsonl": b""} == alone.bytes()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_a_dead_letter_that_says_where_and_why(player: Player, name: str) -> None:
    line, path, reason = BAD[name]
    log = [PostCreated(T0, 7, 8), line, FeedRequest(T0, "good", 1)]
    played = player(log)
    (letter,) = played.dead_letters
    assert letter.path == path
    assert reason in letter.reason
    assert (letter.partition, letter.offset) == (0, 2)
    assert letter.topic.endswith(".jsonl"), "a merged log has no topics: the file stands for them"
    assert letter.raw == (line if len(line) <= 1 << 20 else line[:1024])
    assert played.shown("good") == {7}
    assert played.summary.dead_letters == {f"{letter.path}: {letter.reason}": 1}


def test_every_other_event_still_counts(player: Player, good: list[bytes], alone: Played) -> None:
    bad = [line for line, _, _ in BAD.values()]
    lines: list[bytes] = []
    for number, line in enumerate(good):
        lines += [line, bad[number % len(bad)]] if number % 3 == 0 else [line]
    played = player(lines)
    assert len(played.dead_letters) == len(lines) - len(good)
    assert [letter.offset for letter in played.dead_letters] == [
        number for number, line in enumerate(lines, 1) if line in bad
    ]
    assert played.summary.events == len(good)
    assert_same_feeds(played, alone)


def test_dead_letters_carry_the_bytes_in_base64(player: Player) -> None:
    line = b'{"kind": "\xf0\x9f\x90\x88", \xff\x00}'
    played = player([line])
    (raw,) = (json.loads(text) for text in (played.out / "dead-letters.jsonl").read_text().splitlines())
    assert raw["kind"] == "dead_letter"
    assert base64.b64decode(raw["raw"]) == line


def test_dead_letters_of_a_log_in_files_name_the_topic_and_its_line(player: Player, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_log(folder / "posts.jsonl", [PostCreated(T0, 1, 2), b"broken", PostCreated(T0 + 2, 3, 4)])
    write_log(folder / "feed-requests.jsonl", [FeedRequest(T0 + 1, "r", 1), b"broken too"])
    played = player.log(folder)
    assert [(letter.topic, letter.offset) for letter in played.dead_letters] == [("posts", 2), ("feed-requests", 2)]
    assert played.shown("r") == {1}


def test_the_same_post_again_counts_once_and_another_under_its_id_is_refused(player: Player) -> None:
    first, other = PostCreated(T0, 1, 2, text="one"), PostCreated(T0, 1, 2, text="another")
    log = [first, first, other, FeedRequest(T0 + 1, "r", 1), other, first, FeedRequest(T0 + 2, "r2", 9)]
    played = player(log)
    assert [(letter.offset, letter.path, letter.reason) for letter in played.dead_letters] == [
        (offset, "$.post", "a post with this id and other content exists") for offset in (3, 5)
    ]
    assert [letter.raw for letter in played.dead_letters] == [encode(other)] * 2
    assert played.posts("r") == played.posts("r2") == [1]
    assert played.summary.live_posts == 1


def test_strange_but_valid_events_change_nothing_else(player: Player, good: list[bytes], alone: Played) -> None:
    strange: list[bytes] = []
    for number, line in enumerate(good):
        event = decode(line)
        strange.append(line)
        if isinstance(event, PostCreated):
            strange.append(line)  # delivered twice
        if number % 5 == 0:
            strange += [
                encode(PostDeleted(event.at, f"never-{number}", 5)),
                encode(PostLabelled(event.at, f"never-{number}", 5, ("spam",))),
                encode(Engagement(event.at, f"nobody-{number}", f"never-{number}", "favorite")),
                encode(Engagement(event.at, f"nobody-{number}", f"never-{number}", "reply", undo=True)),
                encode(Follow(event.at, f"nobody-{number}", f"nothing-{number}")),
            ]
    played = player(strange)
    assert played.dead_letters == []
    assert_same_feeds(played, alone)


def test_an_engagement_with_an_unknown_post_is_history_all_the_same(player: Player) -> None:
    posts = [PostCreated(T0, number, number) for number in range(10, 20)]
    act, ask = Engagement(T0, 1, "not-here", "favorite"), FeedRequest(T0 + 1, "r", 1)
    without, within = player([*posts, ask]), player([*posts, act, ask])
    assert within.shown("r") == without.shown("r")
    assert [item.score for item in within.feeds["r"].items] != [item.score for item in without.feeds["r"].items]


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.zst"])
def test_an_empty_log_gives_no_feeds_and_no_error(player: Player, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    played = player.log(tmp_path / name)
    assert played.bytes() == {"feeds.jsonl": b"", "served.jsonl": b"", "dead-letters.jsonl": b""}
    assert played.summary.events == 0


def test_blank_lines_and_a_last_line_without_an_end_are_fine(player: Player, tmp_path: Path) -> None:
    lines = [encode(PostCreated(T0, 1, 2)), b"", b"", encode(FeedRequest(T0, "r", 1))]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    played = player.log(tmp_path / "log.jsonl")
    assert played.dead_letters == []
    assert played.shown("r") == {1}


def test_a_log_cut_in_the_middle_of_a_zstd_frame_gives_what_came_before_and_one_dead_letter(
    player: Player, good: list[bytes], alone: Played, tmp_path: Path
) -> None:
    # Many small blocks, as a writer that flushes leaves them: what was flushed can be read.
    compressor = zstandard.ZstdCompressor().compressobj()
    blocks = [
        compressor.compress(b"".join(line + b"\n" for line in good[start : start + 50]))
        + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for start in range(0, len(good), 50)
    ]
    whole = b"".join(blocks) + compressor.flush()
    (tmp_path / "cut.jsonl.zst").write_bytes(whole[: len(whole) * 3 // 4])
    played = player.log(tmp_path / "cut.jsonl.zst")
    (letter,) = played.dead_letters
    assert letter.reason == "log ends inside a compressed frame"
    count = played.summary.events
    assert len(good) // 2 < count < len(good)
    assert_same_feeds(played, player(good[:count]))
    feeds = list(played.feeds.values())
    assert len(feeds) > 10
    assert feeds == list(alone.feeds.values())[: len(feeds)]


def test_a_damaged_gzip_log_is_one_dead_letter(player: Player, tmp_path: Path, world: WorldSummary) -> None:
    import gzip

    text = b"".join(line + b"\n" for batch in LogReader(world.log).batches() for line in batch.raw)
    raw = bytearray(gzip.compress(text))
    raw[len(raw) // 2] ^= 0xFF
    (tmp_path / "damaged.jsonl.gz").write_bytes(raw)
    played = player.log(tmp_path / "damaged.jsonl.gz")
    assert any("log is damaged inside a compressed frame" in letter.reason for letter in played.dead_letters)
    assert played.summary.events > 0


def test_logs_that_are_none_are_refused_in_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"")
    (tmp_path / "text.jsonl.zst").write_bytes(b'{"kind": "feed_request"}\n')
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("missing.jsonl", "doesn't exist"),
        ("log.csv", "its name must end in"),
        ("text.jsonl.zst", "is not compressed as its suffix says"),
        ("folder", "holds no log"),
    ):
        with pytest.raises(LogRefused, match=said):
            replay(Replay(tmp_path / name, tmp_path / "out", checkpoint, DEFAULTS))


def test_a_checkpoint_of_another_shape_is_refused(
    checkpoint: Path, tiny: PhoenixConfig, tmp_path: Path, world: WorldSummary
) -> None:
    raw = checkpoint.read_bytes()
    wider = msgspec.structs.replace(tiny, post_buckets=256)
    Phoenix.untrained(wider).save(tmp_path / "wider.phoenix")
    grafted = reconfigured((tmp_path / "wider.phoenix").read_bytes(), b'"post_buckets":256', b'"post_buckets":128')
    for name, content, said in (
        ("none", None, "there is no such file"),
        ("text", b"hello", "this is not a Phoenix checkpoint"),
        ("cut", raw[:-1000], "it is cut off or damaged"),
        ("flipped", raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:], "it is cut off or damaged"),
        ("shape", grafted, r"has shape \[256, 16\]; its configuration demands \[128, 16\]"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointRefused, match=said):
            replay(Replay(world.log, tmp_path / "out", tmp_path / name, DEFAULTS))


def test_a_parameter_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParameterRefused, match=r"called weights.retwet; did you mean weights.retweet\?"):
        DEFAULTS.overridden({"weights.retwet": 1.0})


def test_a_wrong_clock_within_the_past_does_not_empty_the_feeds(player: Player) -> None:
    # Ten months ahead of the log, yet before today: it can't be told from the future by looking at a clock.
    posts = [PostCreated(T0 + number, number + 1, 100) for number in range(10)]
    wrong = PostCreated(T0 + 300 * 24 * HOUR, 99, 100)
    assert player([*posts, wrong, FeedRequest(T0 + 20, "r", 1)]).shown("r") == set(range(1, 11))
