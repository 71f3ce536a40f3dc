"""Commands about what is stored: look at it, check it, take it out, and delete."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.markup import escape

from flows.options import Json
from flows.serving.commands import LOCAL, Kafka, KafkaSet, Prefix, connection
from flows.terminal import Refusal, console, errors, print_json, refusals, rows_table, time_ms, viewer_id
from schemas.ids import ID_BYTES_MAX

if TYPE_CHECKING:
    from flows.serving.inspecting import UserExport
    from infra.kafka.inbox import Connection
    from schemas.events import Event

state_app = typer.Typer(
    no_args_is_help=True,
    help="Look into a state folder, also beside a job.\n\nExample: `run_flow.py state inspect --state out/state`",
)
State = Annotated[Path, typer.Option("--state", help="the folder of the durable stores")]
STATE = Path("out/state")


def spelled_time(at_ms: int) -> str:
    """Return a time as people read it, "" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_ms / 1000)) if at_ms else ""


def user_id(text: str) -> int | str:
    """Return a user's id; raises Refusal for what can't be one."""
    user = viewer_id(text)
    if user == 0 or len(text.encode()) > ID_BYTES_MAX:
        raise Refusal(f"{text} is nobody: ids are numbers from 1 on, or text of at most {ID_BYTES_MAX} bytes")
    return user


def say(text: str) -> None:
    """Print lines as they are, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@state_app.command()
def inspect(state: State = STATE, as_json: Json = False) -> None:
    """List the stores: what each holds, its size, its next offsets by topic, the job's clock (UTC).

    Example: `run_flow.py state inspect --state out/state`
    """
    from flows.serving.inspecting import StoreState
    from flows.serving.inspecting import inspect as run

    def positions(one: StoreState) -> str:
        inputs = (f"{name} {' '.join(str(at) for _, at in sorted(of.items()))}" for name, of in one.positions.items())
        return "\n".join([*inputs, *(f"({name} {at})" for name, at in one.outputs.items())])

    with refusals():
        found = run(state)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "store": one.store,
            "number": one.number,
            "records": one.records,
            "kB": one.bytes // 1000,
            "clock": spelled_time(one.clock_ms),
            "format": one.format,
            "next offsets": positions(one),
        }
        for one in found
    ]
    console.print(rows_table(f"{len(found)} stores in {state}", rows))
    console.print(
        "in brackets: where messages that the store does not know of may begin in our own topics", style="dim"
    )


@state_app.command()
def verify(
    state: State = STATE,
    gone: Annotated[str, typer.Option("--gone", help="a user's id: look for it in every record instead")] = "",
    as_json: Json = False,
) -> None:
    """Read every record and say what is wrong, or where a user is still named. Status 1 where there is anything.

    Example: `run_flow.py state verify --state out/state --gone 17`
    """
    from flows.serving.verifying import remains
    from flows.serving.verifying import verify as run

    with refusals(), errors.status("reading all records"):
        found = remains(state, user_id(gone)) if gone else None
        wrong = list(found.named if found is not None else run(state))
    if as_json:
        print_json({"wrong": wrong} if found is None else found)
        raise typer.Exit(1 if wrong else 0)
    for sentence in wrong:
        say(sentence)
    if found is not None:
        if not wrong:
            say(f"no store names {gone}: {found.records:,} records in {found.stores} stores looked through")
        if found.others:
            say(f"{found.others:,} records hold the same bytes as something else: a post's id, a word, or by chance")
        if found.outside:
            say(
                f"{len(found.outside)} of {found.stores} files hold such bytes outside of records: in pages not used "
                "again yet, which `state copy` leaves behind, or where the list of the deleted lay"
            )
        say(f"{found.told} of {found.stores} stores know that the user was deleted")
    elif not wrong:
        say("all records of all stores can be read and are as they should be")
    raise typer.Exit(1 if wrong else 0)


@state_app.command()
def export(
    user: Annotated[str, typer.Argument(help="a user's id; left out with --all")] = "",
    state: State = STATE,
    everybody: Annotated[bool, typer.Option("--all", help="all viewers, as JSON Lines, sorted")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the file to write, with --all")] = None,
    as_json: Json = False,
) -> None:
    """Show everything stored about a user, or write all viewers to a file. Ids that are text are stored as hashes.

    Example: `run_flow.py state export 17 --state out/state`
    """
    from flows.serving.inspecting import export as run
    from flows.serving.inspecting import export_all

    with refusals():
        if everybody == bool(user) or everybody == (out is None):
            raise Refusal("give the id of a user, or --all --out FILE")
        if out is not None:
            count = 0
            lines = export_all(state)
            first = next(lines, None)  # a folder without a state is refused before the file is made
            with out.open("wb") as file:
                while first is not None:
                    file.write(msgspec.json.encode(first) + b"\n")
                    count, first = count + 1, next(lines, None)
            say(f"{count:,} viewers in {out}")
            return
        found = run(state, user_id(user))
    if as_json:
        print_json(found)
    else:
        _show_user(user, found)


@state_app.command()
def copy(
    to: Annotated[Path, typer.Argument(help="a folder that is not there yet")],
    state: State = STATE,
) -> None:
    """Copy a state whose job has stopped, record by record: what was deleted leaves no trace in it.

    Example: `run_flow.py state copy out/state-copy --state out/state`
    """
    from flows.serving.inspecting import copy as run

    with refusals(), errors.status("copying all records"):
        count = run(state, to)
    say(f"{count:,} records copied to {to}")


def _show_user(user: str, found: "UserExport") -> None:
    """Print what is stored of a user."""
    if found.deleted:
        say(f"{user} was deleted: what comes of this user is passed over")
    if not found.records and not found.posts:
        say(f"nothing is stored of {user}")
    for one in found.records:
        rows = [
            {
                "at": spelled_time(group.at_ms),
                "post": group.post,
                "author": group.author or "",
                "actions": ", ".join(group.actions) or "(undone)",
                "dwell s": group.dwell_s,
                "surface": group.surface,
                "terms": " ".join(str(term) for term in group.terms if term),
            }
            for group in one.groups
        ]
        title = (
            f"{user} in partition {one.partition}: the last {len(rows)} groups of actions, of {one.groups_ever} ever"
        )
        console.print(rows_table(title, rows) if rows else f"{escape(title)}")
        facts = {name: ", ".join(map(str, ids)) for name, ids in one.relations.items() if ids}
        facts |= {"muted keywords": ", ".join(one.muted_keywords)} if one.muted_keywords else {}
        facts |= {"account created": spelled_time(one.account_created_ms or 0), "followers": str(one.followers)}
        facts |= {"country": one.country} if one.country else {}
        facts |= {"settings": ", ".join(one.settings)} if one.settings else {}
        facts |= {"seen": ", ".join(map(str, one.seen))} if one.seen else {}
        for at_ms in dict.fromkeys(served.at_ms for served in one.served):
            shown = ", ".join(str(served.post) for served in one.served if served.at_ms == at_ms)
            facts[f"served {spelled_time(at_ms)}"] = shown
        for session in one.sessions:
            facts[f"pages until {spelled_time(session.at_ms)}"] = ", ".join(map(str, session.shown))
        console.print(rows_table("", [{"what": name, "value": escape(value)} for name, value in facts.items()]))
    if found.posts:
        say(f"{len(found.posts)} post events:")
        for event in found.posts:
            say(msgspec.json.encode(event).decode())


def delete_post(
    post: Annotated[str, typer.Argument(help="the post's id")],
    author: Annotated[str, typer.Option(help="who wrote it: its messages go by the author")],
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    at: Annotated[str, typer.Option(help="when: milliseconds or ISO 8601; now if left out")] = "",
) -> None:
    """Publish that a post was deleted: it leaves all feeds at once, and its words every store.

    Example: `run_flow.py delete-post 4711 --author 17 --kafka localhost:9092`
    """
    from schemas.events import PostDeleted

    with refusals():
        event = PostDeleted(time_ms(at) if at else _now_ms(), viewer_id(post), viewer_id(author))
        _publish(event, connection(kafka, prefix, kafka_set))


def delete_user(
    user: Annotated[str, typer.Argument(help="the user's id")],
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    at: Annotated[str, typer.Option(help="when: milliseconds or ISO 8601; now if left out")] = "",
) -> None:
    """Publish that a user is gone for good: posts, record and every mention leave all stores. It can't be undone.

    Example: `run_flow.py delete-user 17 --kafka localhost:9092`
    """
    from schemas.events import UserDeleted

    with refusals():
        event = UserDeleted(time_ms(at) if at else _now_ms(), user_id(user))
        _publish(event, connection(kafka, prefix, kafka_set))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _publish(event: "Event", cluster: "Connection") -> None:
    from flows.serving.sending import send_event

    topic, partition = send_event(cluster, event)
    say(f"published on {cluster.naming.of(topic)}[{partition}]; `state verify` says when the stores have it")


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(state_app, name="state")
    app.command()(delete_post)
    app.command()(delete_user)
