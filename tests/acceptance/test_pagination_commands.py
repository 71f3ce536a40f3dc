"""Pages on the command line."""

import json
from pathlib import Path

from operators.cursors import Cursor, issue
from schemas.events import FeedRequest, Follow, PostCreated
from tests.acceptance.playing import SECOND, T0, write_log
from tests.acceptance.test_command_line import run, run_json


def a_log(path: Path, *requests: FeedRequest) -> Path:
    posts = [PostCreated(T0 + n, n, 10, f"about {n}") for n in range(1, 13)]
    return write_log(path, [Follow(T0, 1, 10), *posts, *requests])


def test_feed_goes_on_from_its_own_cursors(tmp_path: Path, checkpoint: Path) -> None:
    log = a_log(tmp_path / "log.jsonl")
    given = ("feed", log, "1", "-c", checkpoint, "--limit", "5")
    shown, cursor, pages = [], "", 0
    while cursor is not None:
        feed = run_json(*given, *(("--cursor", cursor) if cursor else ()))
        assert len(feed["items"]) == (5, 5, 2)[pages]
        shown += [item["post"] for item in feed["items"]]
        cursor, pages = feed.get("cursor"), pages + 1
    assert sorted(shown) == list(range(1, 13))
    assert "more: --cursor" in run(*given).stdout


def test_feed_goes_on_from_the_feeds_of_a_replay(tmp_path: Path, checkpoint: Path) -> None:
    log, out = a_log(tmp_path / "log.jsonl", FeedRequest(T0 + SECOND, "r", 1, limit=7)), tmp_path / "out"
    assert run("replay", log, "-o", out, "-c", checkpoint, "--json").exit_code == 0
    (first,) = [json.loads(line) for line in (out / "feeds.jsonl").read_bytes().splitlines()]
    feed = run_json("feed", log, "1", "-c", checkpoint, "--at", T0 + SECOND, "--cursor", first["cursor"])
    shown = {item["post"] for item in first["items"]}
    assert {item["post"] for item in feed["items"]} == set(range(1, 13)) - shown


def test_bad_cursors_end_with_a_sentence_and_status_2(tmp_path: Path, checkpoint: Path) -> None:
    log = a_log(tmp_path / "log.jsonl")
    of_nobody = issue(Cursor(17, 2), 1, "for_you")
    for cursor, said in {
        "nonsense!": "--cursor: this is no cursor",
        of_nobody[:-2]: "--cursor: a cursor of 36 bytes",
        issue(Cursor(17, 2), 2, "for_you"): "--cursor: the cursor is another viewer's",
        issue(Cursor(17, 2), 1, "following"): "--cursor: the cursor is of the feed following",
        of_nobody: "expired: the session of this cursor is over",
    }.items():
        result = run("feed", log, "1", "-c", checkpoint, "--cursor", cursor)
        assert result.exit_code == 2
        assert said in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr
