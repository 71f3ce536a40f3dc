"""Files of rules on the command line."""

from pathlib import Path

import pytest

from schemas.events import Follow, PostCreated, PostLabelled
from tests.acceptance.playing import T0, write_log
from tests.acceptance.test_command_line import run, run_json

RULES = """labels = ["cute"]
[[rules]]
name = "no_cats"
verdict = "drop"
reason = "cats"
post_labels = ["cute"]
[[rules]]
name = "notice"
verdict = "interstitial"
reason = "who knows"
countries = ["DE"]
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def test_pipeline_lists_the_rules_in_order(rules: Path) -> None:
    listed = [row["component"] for row in run_json("pipeline") if row["stage"].startswith("rule")]
    assert listed[:2] == ["gone_author", "forbidden_post"]
    own = [row for row in run_json("pipeline", "--visibility", rules) if row["stage"].startswith("rule")]
    assert [(row["component"], row["rule"]) for row in own] == [
        ("no_cats", "Drop by post labels cute: cats."),
        ("notice", "Interstitial by countries DE: who knows."),
    ]


def test_a_feed_and_a_replay_by_ones_own_rules(rules: Path, tmp_path: Path, checkpoint: Path) -> None:
    events = [Follow(T0, 1, 10), PostCreated(T0, 1, 10, "a cat"), PostCreated(T0, 2, 10, "a dog")]
    log = write_log(tmp_path / "log.jsonl", [*events, PostLabelled(T0 + 1, 1, 10, ("cute",))])
    given = ("feed", log, "1", "-c", checkpoint)
    assert {item["post"] for item in run_json(*given)["items"]} == {1, 2}
    feed = run_json(*given, "--visibility", rules)
    assert {item["post"] for item in feed["items"]} == {2}
    assert "cats (no_cats)" in [one["rule"] for one in feed["dropped"]]
    log.write_bytes(log.read_bytes() + b'{"kind":"feed_request","at":%d,"request":"r","viewer":1}\n' % (T0 + 2))
    out = tmp_path / "out"
    # With two instances the rules go to other processes.
    replayed = run("replay", log, "-o", out, "-c", checkpoint, "--visibility", rules, "-n", "2", "--json")
    assert replayed.exit_code == 0
    assert b'"post":2' in (out / "feeds.jsonl").read_bytes()
    assert b'"post":1,' not in (out / "feeds.jsonl").read_bytes()


@pytest.mark.parametrize("command", [("pipeline",), ("replay", "log"), ("feed", "log", "1"), ("serve",)])
def test_a_bad_file_ends_with_a_sentence_and_status_2(rules: Path, command: tuple[str, ...]) -> None:
    rules.write_text(RULES.replace('["cute"]', '["cuet"]', 1))
    result = run(*command, "--visibility", rules)
    assert result.exit_code == 2
    assert "rule no_cats names a label cute that is not declared; did you mean cuet?" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
