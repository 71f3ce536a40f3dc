"""Commands about dead letters: list them, show one, send them again."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.options import Json
from flows.serving.commands import LOCAL, Kafka, KafkaSet, Prefix, connection
from flows.serving.state_commands import say, spelled_time
from flows.terminal import Refusal, console, print_json, refusals, rows_table, time_ms

letters_app = typer.Typer(
    no_args_is_help=True,
    help="List refused messages, show one, send them again.\n\nExample: `run_flow.py dead-letters list --summary`",
)


@letters_app.command(name="list")
def list_command(
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="how many, the newest")] = 20,
    since: Annotated[str, typer.Option(help="all since a time instead: milliseconds or ISO 8601")] = "",
    summary: Annotated[bool, typer.Option("--summary", help="count them by topic and reason instead")] = False,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first; --summary counts all of them, or all since a time, by reason.

    Example: `run_flow.py dead-letters list --since 2026-01-11T18:00 --summary`
    """
    from flows.serving import dead_letters

    with refusals():
        cluster, since_ms = connection(kafka, prefix, kafka_set), time_ms(since) if since else 0
        found: list[dead_letters.Letter] = []
        rows: list[dict[str, Any]] = []
        if summary:
            counted = dead_letters.by_reason(dead_letters.since(cluster, since_ms))
            rows = [{"messages": count, "topic": topic, "reason": reason} for topic, reason, count in counted]
        elif since:
            found = dead_letters.newest_first(dead_letters.since(cluster, since_ms))
        else:
            found = dead_letters.newest(cluster, last)
    count = len(found) or sum(row["messages"] for row in rows)
    rows = rows or [
        {
            "partition": one.partition,
            "offset": one.offset,
            "when": spelled_time(one.at_ms),
            "topic": one.letter.topic,
            "reason": f"{one.letter.path}: {one.letter.reason}",
        }
        for one in found
    ]
    if as_json:
        print_json(rows if summary else found)
        return
    if not count:
        say("no dead letters")
        return
    told = [
        {name: escape(dead_letters.printable(one)) if isinstance(one, str) else one for name, one in row.items()}
        for row in rows
    ]
    console.print(rows_table(f"{count} dead letters", told))


@letters_app.command()
def show(
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    as_json: Json = False,
) -> None:
    """Show a dead letter: why, where from, its headers, and the refused bytes (in hex unless they are text).

    Example: `run_flow.py dead-letters show 3 17 --kafka localhost:9092`
    """
    from flows.serving import dead_letters

    with refusals():
        found = dead_letters.one(connection(kafka, prefix, kafka_set), partition, offset)
    if as_json:
        print_json(found)
        return
    was = found.letter
    rows = {
        "reason": was.reason,
        "field": was.path,
        "from": f"{was.topic}[{was.partition}] at {was.offset}",
        "published": spelled_time(was.published_ms),
        "refused": spelled_time(found.at_ms),
        "key": dead_letters.shown(was.key) if was.key is not None else "(none)",
    }
    rows |= {f"header {name}": value for name, value in found.headers}
    for name, value in rows.items():
        say(f"{dead_letters.printable(name):26} {dead_letters.printable(value)}")
    say(f"{len(was.raw):,} bytes:\n{dead_letters.shown(was.raw)}")


@letters_app.command()
def retry(
    partition: Annotated[int | None, typer.Argument(min=0)] = None,
    offset: Annotated[int | None, typer.Argument(min=0)] = None,
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    reason: Annotated[str, typer.Option(help="all whose reason contains this")] = "",
    everything: Annotated[bool, typer.Option("--all", help="all there are")] = False,
    since: Annotated[str, typer.Option(help="with --reason or --all: those since a time only")] = "",
    edit: Annotated[Path | None, typer.Option(help="a file with corrected bytes, for a single one")] = None,
    as_json: Json = False,
) -> None:
    """Send what was refused once more to where it came from, marked by the header `retried-from`.

    Dead letters stay where they are: who retries twice sends twice. Several go oldest first; those that hold nothing to
    send again are passed over. Corrected bytes go where their event belongs.

    Example: `run_flow.py dead-letters retry 3 17 --edit corrected.json`
    """
    from flows.serving import dead_letters

    with refusals():
        cluster = connection(kafka, prefix, kafka_set)
        ways = [partition is not None, bool(reason), everything]
        if sum(ways) != 1 or (partition is None) != (offset is None):
            raise Refusal("say which: PARTITION OFFSET, --reason TEXT or --all")
        letters: list[dead_letters.Letter] = []
        passed_over: list[dead_letters.Letter] = []
        if partition is not None and offset is not None:
            letters = [dead_letters.one(cluster, partition, offset)]
        elif edit is not None:
            raise Refusal("--edit corrects one dead letter: give its PARTITION and OFFSET")
        else:
            for one in dead_letters.since(cluster, time_ms(since) if since else 0):
                if reason in one.letter.reason:
                    (letters if dead_letters.can_be_retried(one) else passed_over).append(one)
        sent = dead_letters.retry(cluster, letters, edit.read_bytes() if edit is not None else None)
    rows = [{"topic": name, "messages": [topic for topic, _ in sent].count(name)} for name in sorted(dict(sent))]
    if as_json:
        print_json(rows)
    else:
        console.print(rows_table(f"sent {len(sent)} again", rows) if rows else "nothing to send again")
        if passed_over:
            found = len(letters) + len(passed_over)
            say(f"{len(passed_over)} of {found} hold nothing that could be sent again: `dead-letters show` says more")
