"""Dead letters can be listed, counted, shown and sent again; posts and users deleted, by the command line."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.serving.dead_letters import printable, shown
from infra.kafka.broker import Broker
from infra.kafka.headers import origin_headers, schema_header
from infra.kafka.read_back import read_back
from infra.kafka.topics import Naming, key_and_partition
from infra.polls import latest_accepted_ms
from models.phoenix import Phoenix
from operators.decode import Ownership, Poll, decode
from operators.parameters import DEFAULTS
from run_flow import app
from schemas.codec import encode
from schemas.events import Engagement, PostCreated, PostDeleted, UserDeleted
from schemas.feeds import DeadLetter
from schemas.polls import RawPoll
from tests.flows.serving.states import T0, Process
from tests.kafka.cluster import Cluster

LIKE = Engagement(T0, "ann", 3, "favorite")
BROKEN = encode(LIKE).replace(b'"favorite"', b'"fav\\u001b[31mourite"')
RunCommand = Callable[..., Result]


@pytest.fixture
def cluster(real_broker: Broker, naming: Naming) -> Cluster:
    """Return the topics of this test alone."""
    return Cluster(real_broker.address, naming)


@pytest.fixture
def run(cluster: Cluster) -> RunCommand:
    """Return a function that runs a command on the cluster; anything but an orderly end is raised."""

    def command(*arguments: object) -> Result:
        where = ["--kafka", cluster.connection.address, "--prefix", cluster.connection.naming.prefix]
        result = CliRunner().invoke(app, [*map(str, arguments), *where], env={"COLUMNS": "160"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


def refused(cluster: Cluster, topic: str, partition: int, key: bytes | None, raw: bytes, at_ms: int = 0) -> DeadLetter:
    """Let the job's own decoding refuse a message, and send its dead letter as the job does."""
    poll = polled(cluster, topic, partition, key, raw)
    (letter,) = poll.dead_letters
    headers = origin_headers(topic, partition, letter.offset, letter.published_ms, f"{letter.path}: {letter.reason}")
    cluster._producer.produce(
        cluster.connection.naming.of("dead-letters"), encode(letter), key, partition,
        headers=[*headers, schema_header("dead-letter/1")], timestamp=at_ms,
    )  # fmt: skip
    cluster.flush()
    return letter


def polled(cluster: Cluster, topic: str, partition: int, key: bytes | None, raw: bytes) -> Poll:
    """Return what the job makes of a message."""
    one = RawPoll(
        [raw], [topic], [partition], [5], 0.0, latest_accepted_ms(), {} if raw else {0: "no value"}, [key], [T0]
    )
    return decode(one, DEFAULTS, Ownership(partitions=cluster.partitions))


def held(cluster: Cluster, topic: str) -> list[tuple[int, bytes | None, bytes, dict[str, bytes]]]:
    """Return partition, key, value and headers of all that a topic holds."""
    starts = {(topic, partition): 0 for partition in range(cluster.partitions)}
    return [
        (place[1], message.key(), message.value() or b"", dict(message.headers() or []))  # type: ignore[arg-type]
        for place, message in read_back(cluster.connection, starts, {})
    ]


def test_dead_letters_are_listed_newest_first_and_counted(cluster: Cluster, run: RunCommand) -> None:
    key, partition = key_and_partition(LIKE, cluster.partitions)
    now_ms = time.time_ns() // 10**6
    for minutes_ago in (50, 40, 30, 20, 10):
        refused(cluster, "engagements", partition, key, b"{" * minutes_ago, now_ms - minutes_ago * 60_000)
    refused(cluster, "engagements", partition, key, BROKEN, now_ms)
    other = (partition + 1) % cluster.partitions
    refused(cluster, "posts", other, b"ann", encode(LIKE), now_ms - 15 * 60_000)

    told = json.loads(run("dead-letters", "list", "--json").stdout)
    assert [(now_ms - one["at_ms"]) // 60_000 for one in told] == [0, 10, 15, 20, 30, 40, 50]
    assert [(one["partition"], one["offset"]) for one in told][:3] == [(partition, 5), (partition, 4), (other, 0)]
    two = json.loads(run("dead-letters", "list", "--last", 2, "--json").stdout)
    assert two == told[:2]
    since = json.loads(run("dead-letters", "list", "--since", now_ms - 16 * 60_000, "--json").stdout)
    assert since == told[:3]
    assert json.loads(run("dead-letters", "list", "--since", now_ms + 10**6, "--json").stdout) == []

    table = run("dead-letters", "list").stdout
    assert "7 dead letters" in table
    assert "\\x1b[31m" in table
    assert "\x1b[31m" not in table, "what senders write moves no cursor"
    counts = json.loads(run("dead-letters", "list", "--summary", "--json").stdout)
    assert [(one["messages"], one["topic"], one["reason"].partition(":")[0]) for one in counts] == [
        (5, "engagements", "not JSON"),
        (1, "engagements", "Invalid enum value '...'"),
        (1, "posts", "belongs to topic engagements, not posts"),
    ]
    assert "7 dead letters" in run("dead-letters", "list", "--summary").stdout


def test_where_none_are_it_says_so(run: RunCommand) -> None:
    for more in ((), ("--summary",)):
        assert run("dead-letters", "list", *more).stdout.strip() == "no dead letters"
    assert json.loads(run("dead-letters", "retry", "--all", "--json").stdout) == []


def test_a_dead_letter_is_shown_with_its_bytes(cluster: Cluster, run: RunCommand) -> None:
    key, partition = key_and_partition(LIKE, cluster.partitions)
    refused(cluster, "engagements", partition, key, BROKEN)
    refused(cluster, "engagements", partition, None, b"\xff\x00[red]")
    result = run("dead-letters", "show", partition, 0)
    assert result.exit_code == 0
    for words in ("Invalid enum value", "$.action", f"engagements[{partition}] at 5", "header schema", "dead-letter/1"):
        assert words in result.stdout
    assert result.stdout.endswith(BROKEN.decode() + "\n")
    assert run("dead-letters", "show", partition, 1).stdout.endswith("ff 00 5b 72 65 64 5d\n")
    told = json.loads(run("dead-letters", "show", partition, 0, "--json").stdout)
    assert msgspec.convert(told["letter"], DeadLetter).raw == BROKEN
    for place, said in (((partition, 2), "it holds 0 to 1"), ((99, 0), "has no dead letter at 0")):
        missing = run("dead-letters", "show", *place)
        assert (missing.exit_code, missing.stdout) == (2, "")
        assert said in " ".join(missing.stderr.split())


def test_bytes_are_text_only_where_all_of_it_can_be_printed() -> None:
    assert shown('{\n\t"é": 1}'.encode()) == '{\n\t"é": 1}'
    assert shown(b"a\x1b[2J") == "61 1b 5b 32 4a"
    assert shown(b"") == ""
    assert shown(bytes(40)).splitlines() == ["00 " * 31 + "00", "00 " * 7 + "00"]
    assert printable("a\x1b[2J\u202eé") == "a\\x1b[2J\\u202eé"


def test_a_dead_letter_goes_back_to_where_it_came_from(cluster: Cluster, run: RunCommand) -> None:
    # What a newer job would take, or one whose clock was behind: its bytes as they were.
    key, partition = key_and_partition(LIKE, cluster.partitions)
    refused(cluster, "engagements", partition, key, BROKEN)
    result = run("dead-letters", "retry", partition, 0, "--json")
    assert json.loads(result.stdout) == [{"topic": "engagements", "messages": 1}]
    assert held(cluster, "engagements") == [
        (partition, key, BROKEN, {"schema": b"engagement/1", "retried-from": b"%d/0" % partition})
    ]
    assert len(cluster.read("dead-letters")) == 1, "the letter stays, and no other comes"


def test_a_dead_letter_is_corrected_and_then_taken(cluster: Cluster, run: RunCommand, tmp_path: Path) -> None:
    key, partition = key_and_partition(LIKE, cluster.partitions)
    wrong_partition = (partition + 1) % cluster.partitions
    refused(cluster, "engagements", wrong_partition, b"bob", BROKEN)
    file = tmp_path / "corrected.json"
    file.write_bytes(BROKEN)
    result = run("dead-letters", "retry", wrong_partition, 0, "--edit", file)
    assert result.exit_code == 2
    assert "the corrected bytes would be refused again: $.action" in " ".join(result.stderr.split())
    assert held(cluster, "engagements") == []

    file.write_bytes(encode(LIKE))
    assert run("dead-letters", "retry", wrong_partition, 0, "--edit", file).exit_code == 0
    ((at, sent_key, raw, headers),) = held(cluster, "engagements")
    assert (at, sent_key, raw) == (partition, key, encode(LIKE))
    assert headers["retried-from"] == b"%d/0" % wrong_partition
    poll = polled(cluster, "engagements", at, sent_key, raw)
    assert poll.dead_letters == []
    assert poll.actions is not None
    assert poll.actions.post.tolist() == [3]


def test_many_go_again_by_their_reason_oldest_first(cluster: Cluster, run: RunCommand) -> None:
    key, partition = key_and_partition(LIKE, cluster.partitions)
    now_ms = time.time_ns() // 10**6
    for number in (3, 2, 1):
        refused(cluster, "engagements", partition, key, b"{" * number, now_ms - number * 60_000)
    refused(cluster, "engagements", partition, key, BROKEN, now_ms)
    refused(cluster, "engagements", partition, key, b"", now_ms)
    counts = json.loads(
        run("dead-letters", "retry", "--reason", "not JSON", "--since", now_ms - 150_000, "--json").stdout
    )
    assert counts == [{"topic": "engagements", "messages": 2}]
    assert [value for _, _, value, _ in held(cluster, "engagements")] == [b"{{", b"{"]
    counts = json.loads(run("dead-letters", "retry", "--all", "--json").stdout)
    assert counts == [{"topic": "engagements", "messages": 4}], "the one without a value is passed over"
    told = " ".join(run("dead-letters", "retry", "--all").stdout.split())
    assert "sent 4 again" in told
    assert "1 of 5 hold nothing that could be sent again" in told
    empty = run("dead-letters", "retry", partition, 4)
    assert (empty.exit_code, "nothing that could be sent again" in " ".join(empty.stderr.split())) == (2, True)


@pytest.mark.parametrize(
    "which", [(), (1,), (0, 0, "--all"), ("--all", "--reason", "x"), ("--all", "--edit", os.devnull)]
)
def test_what_to_retry_must_be_said(which: tuple[object, ...], run: RunCommand) -> None:
    result = run("dead-letters", "retry", *which)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "PARTITION" in result.stderr


def test_deletions_are_published_where_they_belong(
    cluster: Cluster, run: RunCommand, checkpoint: Path, tmp_path: Path
) -> None:
    for command in (("delete-post", 4711, "--author", "ann", "--at", T0), ("delete-user", "ann", "--at", "2026-01-05")):
        result = run(*command)
        assert result.exit_code == 0, result.stderr
    for topic, event, schema in (
        ("posts", PostDeleted(T0, 4711, "ann"), b"post/1"),
        ("graph", UserDeleted(T0, "ann"), b"graph/1"),
    ):
        key, partition = key_and_partition(event, cluster.partitions)
        assert held(cluster, topic) == [(partition, key, encode(event), {"schema": schema})]

    # A state that takes the message in does not name the user any more.
    process = Process(tmp_path, Phoenix.load(checkpoint))
    process.take(PostCreated(T0, 1, "ann", "words"), LIKE)
    process.commit()
    ((_, _, raw, _),) = held(cluster, "graph")
    process.take(msgspec.json.decode(raw, type=UserDeleted))
    process.commit()
    process.close()
    verify = ["state", "verify", "--state", str(tmp_path), "--gone", "ann"]
    result = CliRunner().invoke(app, verify)
    assert (result.exit_code, "no store names ann" in result.stdout) == (0, True)

    nobody = run("delete-user", "0")
    assert (nobody.exit_code, "0 is nobody" in nobody.stderr) == (2, True)


def test_topics_that_are_not_there_are_refused(real_broker: Broker, naming: Naming) -> None:
    where = ["--kafka", real_broker.address, "--prefix", naming.prefix]
    for command in (
        ["dead-letters", "list"],
        ["delete-post", "1", "--author", "2"],
        ["dead-letters", "show", "0", "0"],
    ):
        result = CliRunner().invoke(app, [*command, *where])
        assert result.exit_code == 2
        assert "create the topics with `run_flow.py topics create`" in " ".join(result.stderr.split())


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["dead-letters", "list", "--kafka", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert "127.0.0.1:1 does not answer" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["dead-letters list", "dead-letters show", "dead-letters retry", "delete-post"])
def test_every_command_has_an_example_of_itself(command: str) -> None:
    told = CliRunner().invoke(app, [*command.split(), "--help"]).stdout
    assert f"run_flow.py {command} " in " ".join(told.split())
