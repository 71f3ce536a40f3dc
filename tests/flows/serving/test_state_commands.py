"""What is stored can be looked at, checked and taken out, beside a job that holds it as well."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.post_counts import COUNTS
from flows.post_counts import FORMAT_VERSION as COUNTS_FORMAT_VERSION
from flows.serving.durable import FORMAT_VERSION, posts_folder, viewers_folder
from flows.serving.inspecting import spelled
from flows.serving.positions import Positions
from infra.stores import PartitionStore
from models.phoenix import Phoenix
from run_flow import app
from schemas import events
from schemas.actions import ACTIONS
from schemas.ids import key_of
from schemas.message_keys import partition_of_id
from tests.flows.serving.states import PARTITIONS, T0, Process, live
from tests.operators.viewers.test_slots import seen_in

RUN_FLOW = Path(__file__).parents[3] / "run_flow.py"
MALLORY = "mallory-of-the-tests"
CLOCK: list[events.Event] = [events.Profile(T0 + 10**6, 7)] * 9


def run(*arguments: object) -> Result:
    """Run a command of `state`; anything but an orderly end is raised."""
    result = CliRunner().invoke(app, ["state", *map(str, arguments)], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


@pytest.fixture
def process(tmp_path: Path, phoenix: Phoenix) -> Iterator[Process]:
    """A process that has committed a little, and holds its stores."""
    process = Process(tmp_path / "state", phoenix)
    process.take(*CLOCK)
    process.take(
        events.PostCreated(T0, 1, MALLORY, "hello world", "en", ("tea",)),
        events.PostCreated(T0 + 1, 2, "ada", "an answer", reply_to=1, reply_to_author=MALLORY),
        events.Follow(T0, "ada", MALLORY),
        events.Mute(T0, 7, MALLORY),
        events.MuteKeyword(T0, "ada", "spoiler [alert]"),
        events.Profile(T0, "ada", T0 - 10**9, 41),
        events.Engagement(T0 + 2000, "ada", 1, "favorite"),
        events.Engagement(T0 + 2000, MALLORY, 2, "dwell_time", dwell_s=2.5),
        events.FeedRequest(T0 + 3000, "r1", "ada", seen_ids=(5, "six")),
    )
    process.commit()
    yield process
    process.close()


@pytest.fixture
def state(process: Process, tmp_path: Path) -> Path:
    """The folder of a process that has ended."""
    process.close()
    return tmp_path / "state"


def edited(folder: Path, puts: list[tuple[int, bytes]], meta: bytes | None = None) -> None:
    """Put records into a store, and what it says of itself."""
    store = PartitionStore.open(folder, FORMAT_VERSION)
    store.commit(puts, [], store.meta if meta is None else meta)
    store.close()


def test_inspect_beside_a_process_that_holds_the_stores(process: Process, tmp_path: Path) -> None:
    command = [sys.executable, RUN_FLOW, "state", "inspect", "--state", tmp_path / "state"]
    first, second = (
        subprocess.run(
            [*command, *more],
            env={**os.environ, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        for more in (("--json",), ())
    )
    stores = json.loads(first.stdout)
    assert [(one["store"], one["number"]) for one in stores] == [
        *(("viewers", partition) for partition in range(PARTITIONS)),
        ("posts", 0),
    ]
    assert sum(one["records"] for one in stores[:PARTITIONS]) == 3, "ada, mallory and 7"
    assert stores[-1] | {"bytes": 0} == {
        "store": "posts", "number": 0, "records": 1, "bytes": 0, "format": FORMAT_VERSION, "clock_ms": T0 + 10**6,
        "positions": {"posts": {"0": process.taken}}, "outputs": {},
    }  # fmt: skip
    assert all(one["bytes"] > 0 for one in stores)
    for words in ("4 stores in", f"graph {process.taken}", "2026-01-05 00:16:40"):
        assert words in second.stdout


def test_a_whole_state_is_verified(state: Path) -> None:
    store = PartitionStore.open(state / COUNTS, COUNTS_FORMAT_VERSION)
    store.commit([(7, msgspec.msgpack.encode((7, T0, [0] * len(ACTIONS))))], [], Positions({}).encoded())
    store.close()
    result = run("verify", "--state", state)
    assert (result.exit_code, result.stdout.strip()) == (
        0,
        "all records of all stores can be read and are as they should be",
    )
    assert json.loads(run("verify", "--state", state, "--json").stdout) == {"wrong": []}


def test_each_thing_that_is_broken_is_named(state: Path) -> None:
    store = PartitionStore.open(viewers_folder(state, 0), FORMAT_VERSION)
    records = dict(store.items())
    store.close()
    key, raw = next(iter(records.items()))
    plausible = msgspec.msgpack.decode(raw)
    plausible[1] = 0
    edited(viewers_folder(state, 0), [(key, raw[:-3]), (77, msgspec.msgpack.encode(plausible))])
    edited(viewers_folder(state, 1), [], Positions({"served": {0: 1}, "engagements": {2: -5}}, {"posts": 3}).encoded())
    bad = [(T0, [b'{"kind":"post_created","at":1}', b'{"kind":"follow","at":1,"viewer":1,"author":2}']), (T0 - 1, [])]
    edited(posts_folder(state, 0), [(8, b"\x00junk"), (9, msgspec.msgpack.encode(bad)), (0, b"odd")], b"\xc1")
    store = PartitionStore.open(state / COUNTS, COUNTS_FORMAT_VERSION)
    store.commit([(7, msgspec.msgpack.encode((8, T0, [1])))], [], Positions({}).encoded())
    store.close()
    result = run("verify", "--state", state)
    assert result.exit_code == 1
    said = result.stdout.splitlines()
    for begin, middle in (
        ("viewers of partition 0", f"the record of {spelled(key)} can't be read"),
        ("viewers of partition 0", "the record of 77 holds"),
        ("viewers of partition 1", "positions in served, which it does not take in"),
        ("viewers of partition 1", "position -5 in engagements[2]"),
        ("viewers of partition 1", "a position in engagements[2], another partition"),
        ("viewers of partition 1", "position 3 in our own topic posts"),
        ("posts of instance 0", "how far it is can't be read"),
        ("posts of instance 0", "the record of deleted users is cut"),
        ("posts of instance 0", "chunk 8 can't be read"),
        ("posts of instance 0", "chunk 9 holds an event that can't be read"),
        ("posts of instance 0", "chunk 9 holds a Follow"),
        ("posts of instance 0", f"chunk 9 was taken in at {T0 - 1}"),
        ("post-counts of instance 0", "the counts of 7 are those of 8"),
    ):
        assert [line for line in said if line.startswith(begin) and middle in line], (middle, said)
    assert not [line for line in said if "partition 2" in line]
    refused = run("inspect", "--state", state)
    assert (refused.exit_code, "does not say how far it is" in refused.stderr) == (2, True)
    refused = run("export", "--state", state, "--all", "--out", state / "all.jsonl")
    assert (refused.exit_code, "can't be read" in refused.stderr) == (2, True)


def test_all_that_is_stored_of_a_user_is_shown(state: Path) -> None:
    told = json.loads(run("export", "ada", "--state", state, "--json").stdout)
    (record,) = told["records"]
    assert (told["user"], told["deleted"], record["partition"]) == ("ada", False, partition_of_id("ada", PARTITIONS))
    (group,) = record["groups"]
    assert (group["post"], group["actions"], group["at_ms"]) == (1, ["favorite"], T0 + 2000)
    assert group["author"] == spelled(key_of(MALLORY)) == f"text-{key_of(MALLORY):x}"
    assert record["relations"]["followed"] == [spelled(key_of(MALLORY))]
    assert (record["muted_keywords"], record["followers"]) == (["spoiler [alert]"], 41)
    assert record["seen"] == [5, spelled(key_of("six"))]
    assert [(post["kind"], post["post"], post["text"]) for post in told["posts"]] == [("post_created", 2, "an answer")]

    shown = run("export", "ada", "--state", state).stdout
    for words in ("groups of actions, of 1 ever", "favorite", "spoiler [alert]", spelled(key_of(MALLORY)), "an answer"):
        assert str(words) in shown
    assert "dwell_time" in run("export", MALLORY, "--state", state).stdout
    nobody = run("export", "17", "--state", state)
    assert (nobody.exit_code, nobody.stdout.strip()) == (0, "nothing is stored of 17")


def test_all_viewers_go_to_a_file_the_same_each_time(state: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = run("export", "--all", "--out", tmp_path / name, "--state", state)
        assert (result.exit_code, "3 viewers in" in result.stdout) == (0, True)
    lines = (tmp_path / "one").read_bytes().splitlines()
    assert (tmp_path / "two").read_bytes().splitlines() == lines
    viewers = [json.loads(line) for line in lines]
    assert {one["viewer"] for one in viewers} == {7, spelled(key_of("ada")), spelled(key_of(MALLORY))}
    assert viewers == sorted(viewers, key=lambda one: (one["partition"], str(one["viewer"])))


def test_a_deleted_user_is_proven_gone(state: Path, phoenix: Phoenix) -> None:
    result = run("verify", "--gone", MALLORY, "--state", state)
    assert result.exit_code == 1
    at = partition_of_id(MALLORY, PARTITIONS)
    ada, seven = partition_of_id("ada", PARTITIONS), partition_of_id(7, PARTITIONS)
    assert set(result.stdout.splitlines()) == {
        f"viewers of partition {at}: holds the record of {MALLORY}",
        f"viewers of partition {ada}: record {spelled(key_of('ada'))} names {MALLORY}",
        f"viewers of partition {seven}: record 7 names {MALLORY}",
        f"posts of instance 0: record 1 names {MALLORY}",
        "0 of 4 stores know that the user was deleted",
    }
    process = Process(state, phoenix)
    process.take(events.UserDeleted(T0 + 10**6, MALLORY))
    process.commit()
    process.close()
    result = run("verify", "--gone", MALLORY, "--state", state)
    assert result.exit_code == 0
    assert f"no store names {MALLORY}: 3 records in 4 stores" in result.stdout
    assert "4 of 4 stores know" in result.stdout
    assert run("verify", "--state", state).exit_code == 0
    shown = run("export", MALLORY, "--state", state).stdout
    assert "was deleted" in shown
    assert "nothing is stored" in shown
    found = json.loads(run("verify", "--gone", MALLORY, "--state", state, "--json").stdout)
    assert (found["named"], found["told"]) == ([], 4)


def test_a_copy_holds_every_record_and_no_trace_of_the_deleted(state: Path, phoenix: Phoenix, tmp_path: Path) -> None:
    process = Process(state, phoenix)
    process.take(events.UserDeleted(T0 + 10**6, MALLORY))
    process.commit()
    refused = run("copy", tmp_path / "copy", "--state", state)
    assert (refused.exit_code, (tmp_path / "copy").exists()) == (2, False), "a job has it"
    process.close()
    assert "files hold such bytes outside of records" in run("verify", "--gone", MALLORY, "--state", state).stdout
    result = run("copy", tmp_path / "copy", "--state", state)
    assert (result.exit_code, "7 records copied" in result.stdout) == (0, True), result.stdout
    gone = run("verify", "--gone", MALLORY, "--state", tmp_path / "copy")
    assert (gone.exit_code, "outside of records" in gone.stdout) == (0, False)
    files = b"".join(file.read_bytes() for file in (tmp_path / "copy").glob("*/data.mdb"))
    assert MALLORY.encode() not in files
    assert b"hello world" not in files
    for name in ("copy", "state"):
        assert run("export", "--all", "--out", tmp_path / f"{name}.jsonl", "--state", tmp_path / name).exit_code == 0
    assert (tmp_path / "copy.jsonl").read_bytes() == (tmp_path / "state.jsonl").read_bytes()
    process, again = Process(state, phoenix), Process(tmp_path / "copy", phoenix)
    assert [seen_in(query) for query in again.ask("ada", 7)] == [seen_in(query) for query in process.ask("ada", 7)]
    assert live(again.state) == live(process.state)
    assert again.state.posts_positions == process.state.posts_positions
    assert again.state.viewer_positions == process.state.viewer_positions
    process.close()
    again.close()
    refused = run("copy", tmp_path / "copy", "--state", state)
    assert (refused.exit_code, "exists: name a folder that does not" in " ".join(refused.stderr.split())) == (2, True)


def test_a_number_that_is_a_posts_id_is_no_user(state: Path) -> None:
    result = run("verify", "--gone", "1", "--state", state)
    assert result.exit_code == 0
    assert "2 records hold the same bytes as something else" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "--state", "NOWHERE"), "holds no state: name the folder that `serve --state` was given"),
        (("verify", "--state", "NOWHERE"), "holds no state"),
        (("export", "7", "--state", "NOWHERE"), "holds no state"),
        (("export", "--state", "STATE"), "give the id of a user, or --all --out FILE"),
        (("export", "7", "--all", "--out", "NOWHERE", "--state", "STATE"), "give the id of a user, or --all"),
        (("export", "--all", "--state", "STATE"), "--all --out FILE"),
        (("export", "--all", "--out", "NOWHERE/x", "--state", "STATE"), "No such file"),
        (("verify", "--gone", "x" * 65, "--state", "STATE"), "is nobody: ids are numbers"),
        (("export", "0", "--state", "STATE"), "0 is nobody"),
    ],
)
def test_refusals_are_one_sentence(arguments: tuple[str, ...], said: str, state: Path, tmp_path: Path) -> None:
    places = {"STATE": str(state), "NOWHERE": str(tmp_path / "nowhere"), "NOWHERE/x": str(tmp_path / "nowhere/x")}
    result = run(*(places.get(one, one) for one in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize("command", [("inspect",), ("verify",), ("verify", "--gone", "7"), ("export", "7")])
def test_another_format_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    PartitionStore.open(viewers_folder(tmp_path, 3), FORMAT_VERSION + 1).close()
    result = run(*command, "--state", tmp_path)
    assert result.exit_code == 2
    assert f"has format {FORMAT_VERSION + 1} and this version reads format {FORMAT_VERSION}: open it" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "verify", "export", "copy"])
def test_every_command_has_an_example_of_itself(command: str) -> None:
    assert f"run_flow.py state {command} " in " ".join(run(command, "--help").stdout.split())
