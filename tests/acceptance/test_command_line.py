"""The command line: help with an example everywhere, JSON for machines, and refusals in one sentence with status 2."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from infra.logs import LogReader
from infra.world import WorldSummary
from models.config import PRESETS, PhoenixConfig
from operators.parameters import ENTRIES
from run_flow import app, verified
from schemas.actions import ACTIONS
from schemas.codec import encode
from schemas.events import Engagement, FeedRequest, PostCreated
from tests.acceptance.playing import T0, write_log

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
RUN_FLOW = Path(__file__).parents[2] / "run_flow.py"


def run(*arguments: object) -> Result:
    """Run a command in this process; anything but an orderly end is raised."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with faults, as a person makes it by the command line."""
    log = tmp_path_factory.mktemp("cli") / "log.jsonl.zst"
    # Enough for a batch of training examples.
    settings = ("--set", "sessions_per_person_day=3", "--set", "string_id_share=0.3")
    summary = run_json("simulate", log, "--preset", "small", "--faults", "0.02", *settings)
    assert summary["summary"]["people"] == 40
    assert sum(summary["faults"].values()) > 20
    return log


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"run_flow.py {command} " in " ".join(result.stdout.split())
    assert "Example:" in result.stdout


def test_the_bare_command_line_lists_all_commands() -> None:
    result = CliRunner().invoke(app, [])
    assert all(command in result.output for command in COMMANDS)
    assert set(COMMANDS) == {
        "simulate", "import", "validate", "parameters", "pipeline", "replay", "feed", "examples", "train",
        "evaluate", "experiment", "learn", "models", "join-examples", "collect-examples", "bench",
        "serve", "post-counts", "request", "publish", "topics", "state", "dead-letters", "delete-post", "delete-user",
    }  # fmt: skip


# what is wrong: the command line, and what the sentence says; LOG and MODEL stand for ones that are fine
REFUSED: dict[str, tuple[str, str]] = {
    "unknown parameter": ("replay LOG -c MODEL -s scoring.oon_facter=1", "did you mean scoring.oon_factor?"),
    "value of another type": ("replay LOG -c MODEL -s selection.top_k=many", "got `str` at `selection.top_k`"),
    "value out of range": ("parameters -s scoring.diversity_decay=2", "Expected `float` <= 1.0"),
    "weight of the wrong sign": ("parameters -s weights.report=5", "Expected `float` <= 0.0 at `weights.report`"),
    "weight of the wrong sign in a file": ("parameters -p SIGN", "Expected `float` >= 0.0 at `weights.favorite`"),
    "unknown feed": ("pipeline --feed newest", "no feed is called newest: choose one of for_you, blended, following"),
    "unknown insert": ("feed LOG 17 -c MODEL --feed blended --insert banner=1", "banner=1 is no insert: give kind=id"),
    "nothing to score": ("feed LOG 17 -c MODEL --feed score_posts", "a request to score posts names none"),
    "no assignment": ("parameters -s scoring.oon_factor", "is not of the form name=value"),
    "unknown preset of a world": ("simulate OUT/x.jsonl --preset tiny-world", "choose one of demo, small, large"),
    "unknown parameter of a world": ("simulate OUT/x.jsonl -s persons=5", "unknown field `persons`"),
    "world of another suffix": ("simulate OUT/x.csv", "its name must end in"),
    "world where no folder can be": ("simulate LOG/x.jsonl", "File exists"),
    "unknown preset of a model": ("train LOG --preset gigantic", "no model is called gigantic: choose one of demo"),
    "examples where something is": ("examples LOG OUT", "holds something already: name another folder"),
    "examples of nothing": ("examples LOG OUT/none --until 2020-01-01", "holds no examples"),
    "nothing left to learn from": ("train LOG -o OUT/x --validate 0.2", "take another share, or more"),
    "semantic IDs of no model": ("train LOG -o OUT/x --semantic-ids OUT/none", "there is no such file"),
    "semantic IDs of another model": ("train LOG -o OUT/x --semantic-ids MODEL", "4096 of 64 are needed"),
    "too little to train on": ("train LOG --until 2020-01-01", "nothing to train on"),
    "missing log": ("replay OUT/none.jsonl -c MODEL", "doesn't exist"),
    "missing log to validate": ("validate OUT/none.jsonl", "doesn't exist"),
    "unknown suffix": ("replay MODEL -c MODEL", "its name must end in .jsonl, .jsonl.gz, .jsonl.zst"),
    "missing checkpoint": ("replay LOG -c OUT/none.phoenix", "there is no such file"),
    "no checkpoint": ("replay LOG -c LOG", "this is not a Phoenix checkpoint"),
    "model that is not loaded": ("replay LOG -c MODEL -s models.cluster=other", "no cluster is called other"),
    "model without a name": ("replay LOG -c MODEL --cluster other.phoenix", "give name=checkpoint"),
    "model with a name that is taken": ("replay LOG -c MODEL --cluster prod=other.phoenix", "prod is taken"),
    "missing checkpoint of a model": ("feed LOG 1 -c MODEL --cluster b=none.phoenix", "there is no such file"),
    "outputs where a file is": ("replay LOG -c MODEL -o MODEL", "File exists"),
    "standard input more than once": ("replay - -c MODEL --verify", "can be read once only"),
    "bad time": ("feed LOG 1001 -c MODEL --at yesterday", "give milliseconds or a date such as"),
    "bad time of an evaluation": ("evaluate LOG -c MODEL --after noon", "give milliseconds or a date such as"),
    "time beyond all numbers": ("feed LOG 1001 -c MODEL --at 99999999999999999999", "$.at"),
    "viewer 0": ("feed LOG 0 -c MODEL", "viewer 0 is nobody"),
    "viewer with too long a name": (f"feed LOG {'x' * 65} -c MODEL", "Expected `str` of length <= 64"),
    "nothing to evaluate": ("evaluate LOG", "give --feeds FOLDER, --checkpoint NAME or both"),
    "feeds that are not there": ("evaluate LOG --feeds OUT/none", "No such file"),
    "nothing served by then": ("evaluate LOG -c MODEL --after 2030-01-01", "says of nothing that it was served"),
    "unknown benchmark": ("bench sleep", "no benchmark is called sleep: choose from"),
    "unknown importer": ("import myspace OUT/x.jsonl", "choose one of kuairand, twitter2010, douban, movielens"),
    "unknown option of an importer": ("import douban OUT/x.jsonl -s dayz=3", "unknown field `dayz`"),
    "missing data": ("import douban OUT/x.jsonl --source OUT/none.csv", "doesn't exist"),
    "unknown preset of parameters": ("pipeline --diff january july", "no preset is called july: choose one of august"),
    "missing parameter file": ("parameters -p OUT/none.toml", "No such file"),
    "broken parameter file": ("parameters -p BROKEN", "can't be read"),
    "parameter file of another shape": ("parameters -p FLAT", "no parameter is called colour"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence_and_status_2(name: str, small: Path, checkpoint: Path, tmp_path: Path) -> None:
    line, said = REFUSED[name]
    (tmp_path / "broken.toml").write_text("[scoring\n")
    (tmp_path / "flat.toml").write_text("colour = 3\n")
    (tmp_path / "sign.toml").write_text("[weights]\nfavorite = -0.5\n")
    places = {
        "LOG": small,
        "MODEL": checkpoint,
        "OUT": tmp_path,
        "BROKEN": tmp_path / "broken.toml",
        "FLAT": tmp_path / "flat.toml",
        "SIGN": tmp_path / "sign.toml",
    }
    words = []
    for word in line.split():
        head, slash, tail = word.partition("/")
        words.append(f"{places.get(head, head)}{slash}{tail}")
    command = words[0]
    result = run(*words, *(("-o", tmp_path / "out") if command == "replay" and "-o" not in words else ()))
    assert result.exit_code == 2
    assert said in result.stderr
    sentence = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentence) == 1
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_process_of_its_own_ends_the_same_way(tmp_path: Path) -> None:
    command = [sys.executable, RUN_FLOW, "validate", "none.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: none.jsonl doesn't exist.\n")


def test_validate_names_each_bad_line_and_ends_with_1(tmp_path: Path) -> None:
    good = encode(PostCreated(T0, 1, 2))
    bad = [
        b"{",
        encode(Engagement(T0, 1, 1, "favorite")).replace(b"favorite", b"adore"),
        good.replace(b"%d" % T0, b"-5"),
    ]
    log = write_log(tmp_path / "log.jsonl", [good, *bad, good])
    result = run("validate", log)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:3] == [
        "log.jsonl:2 $: not JSON: Input data was truncated",
        "log.jsonl:3 $.action: Invalid enum value 'adore'",
        "log.jsonl:4 $.at: Expected `int` >= 0",
    ]
    told = json.loads(run("validate", log, "--json").stdout)
    assert [(one["line"], one["path"]) for one in told["bad"]] == [(2, "$"), (3, "$.action"), (4, "$.at")]
    assert (told["report"]["lines"], told["report"]["bad"]) == (5, 3)
    assert run("validate", write_log(tmp_path / "fine.jsonl", [good])).exit_code == 0


def test_parameters_come_from_the_file_and_then_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "parameters.toml"
    file.write_text('[scoring]\noon_factor = 0.5\ndiversity_decay = 0.25\n[filters]\nlisted_authors = ["17"]\n')
    tree = run_json("parameters", "-p", file, "-s", "scoring.oon_factor=0.125")
    assert tree["scoring"]["oon_factor"] == 0.125
    assert tree["scoring"]["diversity_decay"] == 0.25
    assert tree["filters"]["listed_authors"] == ["17"]
    assert {f"{section}.{name}" for section, values in tree.items() for name in values} == set(ENTRIES)
    assert run("parameters").exit_code == 0


def test_simulate_replay_evaluate_train_and_replay_again(
    small: Path, checkpoint: Path, tiny: PhoenixConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("validate", small).exit_code == 1, "it has faults in it"
    out = tmp_path / "out"
    told = run("replay", small, "-o", out, "-c", checkpoint, "--show", "1")
    assert told.exit_code == 0
    assert all(
        title in told.stdout for title in ("what happened", "candidates by stage", "latency by stage", "dead letters")
    )
    assert "for_you of " in told.stdout
    summary = run_json("replay", small, "-o", out, "-c", checkpoint)
    assert summary["feeds"] == len((out / "feeds.jsonl").read_bytes().splitlines()) > 64

    quality = run_json("evaluate", small, "--feeds", out, "-c", checkpoint)
    assert quality["feeds"]["requests"] == summary["feeds"]
    assert 0 < quality["world"]["feeds"] <= summary["feeds"]
    assert quality["ranking"]["rows"] > 1000
    assert run("evaluate", small, "--feeds", out, "-c", checkpoint).exit_code == 0

    monkeypatch.setitem(PRESETS, "tiny", tiny)
    model = tmp_path / "trained.phoenix"
    report = run_json("train", small, "-o", model, "--preset", "tiny", "--epochs", "1", "--seed", "3")
    assert report["examples"] >= 64
    examples = tmp_path / "examples"
    made = run_json("examples", small, examples, "--hourly", "--seed", "3")
    assert len(made["parts"]) > 12
    same = run_json("train", examples, "-o", tmp_path / "same", "--preset", "tiny", "--epochs", "1", "--seed", "3")
    assert same["model"] == report["model"]
    again = run_json("replay", small, "-o", tmp_path / "again", "-c", model)
    assert again["model"] == report["model"] != summary["model"]
    assert again["feeds"] == summary["feeds"]


def test_feed_shows_one_feed_with_reasons(small: Path, checkpoint: Path, world: WorldSummary) -> None:
    at = T0 + 20 * 3_600_000
    made = run_json("feed", small, "1001", "--at", at, "-c", checkpoint, "--limit", "5")
    assert (made["viewer"], made["at"], len(made["items"])) == (1001, at, 5)
    assert all(list(item["explanation"]["probabilities"]) == list(ACTIONS) for item in made["items"])
    same_time = run_json("feed", small, "1001", "--at", "2026-01-05T20:00:00", "-c", checkpoint, "--limit", "5")
    assert same_time == made
    told = run("feed", small, "1001", "--at", at, "-c", checkpoint, "--limit", "5", "--explain")
    assert told.exit_code == 0
    assert "what was dropped, and why" in told.stdout
    assert "negative_offset =" in told.stdout
    plain = run("feed", small, "nobody-knows-me", "-c", checkpoint)
    assert plain.exit_code == 0
    assert "for_you of nobody-knows-me" in plain.stdout
    assert "author_diversity" not in plain.stdout


def test_feed_gives_what_a_request_in_the_log_would_get(checkpoint: Path, tmp_path: Path, world: WorldSummary) -> None:
    lines = [line for batch in LogReader(world.log).batches() for line in batch.raw]
    events = [msgspec.json.decode(line) for line in lines]
    viewer = next(event["viewer"] for event in reversed(events) if event["kind"] == "feed_request")
    before = [
        line
        for line, event in zip(lines, events, strict=True)
        if event["at"] <= T0 + 12 * 3_600_000 and (event["kind"] != "feed_request" or event["viewer"] == viewer)
    ]
    asked = FeedRequest(T0 + 12 * 3_600_000, "run_flow.py feed", viewer, explain=True)
    log = write_log(tmp_path / "log.jsonl", [*before, asked])
    run_json("replay", log, "-o", tmp_path / "out", "-c", checkpoint)
    replayed = json.loads((tmp_path / "out" / "feeds.jsonl").read_bytes().splitlines()[-1])
    made = run_json("feed", world.log, viewer, "--at", asked.at, "-c", checkpoint)
    assert len(made["items"]) > 5
    assert made == replayed


@pytest.mark.parametrize(("second", "status"), [("abc", 0), ("abd", 1)])
def test_verify_ends_with_1_where_feeds_differ(second: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    # What compares them is tried in test_determinism.py.
    with pytest.raises(typer.Exit) as ended:
        verified({1: "abc", 4: second}, as_json=True)
    assert ended.value.exit_code == status
    assert json.loads(capsys.readouterr().out) == {"identical": status == 0, "sha256": {"1": "abc", "4": second}}
