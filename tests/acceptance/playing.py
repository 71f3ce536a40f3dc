"""Replay a few events through the real dataflow and look at what comes out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from flows.replay import DEAD_LETTERS, FEEDS, SERVED, Replay, Summary, merge, replay
from operators.cursors import Cursor, issue, session_of
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Value
from operators.visibility import DEFAULT, VisibilityRules
from schemas.codec import Refused, decode, encode
from schemas.events import Event, FeedRequest, Served
from schemas.feeds import DeadLetter, Feed
from schemas.ids import Id, key_of

T0 = 1_767_571_200_000  # Monday 5 January 2026, 00:00 UTC
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Played:
    """What a replay wrote, and its summary."""

    out: Path
    summary: Summary

    @property
    def feeds(self) -> dict[Id, Feed]:
        """The feeds by request."""
        return {one.request: one for one in decoded(self.out / FEEDS, Feed)}

    @property
    def served(self) -> dict[Id, Served]:
        """What was served, by request."""
        return {one.request: one for one in decoded(self.out / SERVED, Served)}

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters in their order."""
        return decoded(self.out / DEAD_LETTERS, DeadLetter)

    def posts(self, request: Id) -> list[Id]:
        """Return the posts of a feed in order."""
        return [item.post for item in self.feeds[request].items]

    def shown(self, request: Id) -> set[Id]:
        """Return the posts of a feed."""
        return set(self.posts(request))

    def bytes(self) -> dict[str, bytes]:
        """Return what was written, by file."""
        return outputs(self.out)


@dataclass(slots=True)
class Player:
    """Replays events or raw lines, each call into a folder of its own; parameters by their dotted names."""

    folder: Path
    checkpoint: Path
    count: int = 0

    def __call__(
        self,
        lines: Iterable[Event | bytes],
        parameters: dict[str, Value] | None = None,
        visibility: VisibilityRules = DEFAULT,
    ) -> Played:
        """Write the events as a log and replay it."""
        self.count += 1
        return self.log(write_log(self.folder / f"{self.count}.jsonl", lines), parameters, visibility=visibility)

    def log(
        self,
        log: Path,
        parameters: dict[str, Value] | None = None,
        threads: int = 2,
        visibility: VisibilityRules = DEFAULT,
    ) -> Played:
        """Replay a log."""
        self.count += 1
        what = Replay(
            log,
            self.folder / f"out-{self.count}",
            self.checkpoint,
            DEFAULTS.overridden(parameters or {}),
            threads=threads,
            visibility=visibility,
        )
        return Played(what.out, replay(what))


def by_one_and_by_two(what: Replay, folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return what one instance writes, and what two that share the viewers write."""
    replay(what)
    parts = [replace(what, out=folder / str(instance), ownership=Ownership(instance, 2)) for instance in range(2)]
    for part in parts:
        replay(part)
    merge([part.out for part in parts], folder / "merged")
    return outputs(what.out), outputs(folder / "merged")


def write_log(path: Path, lines: Iterable[Event | bytes]) -> Path:
    """Write events, or lines as they are, as a log."""
    path.write_bytes(b"".join((line if isinstance(line, bytes) else encode(line)) + b"\n" for line in lines))
    return path


def decoded(path: Path, kind: type) -> list:  # type: ignore[type-arg]
    """Return the objects of a file of JSON Lines."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


def outputs(out: Path) -> dict[str, bytes]:
    """Return the bytes of a replay's feeds, served posts and dead letters, by file."""
    return {name: (out / name).read_bytes() for name in (FEEDS, SERVED, DEAD_LETTERS)}


def with_switches(log: Path, out: Path) -> Path:
    """Copy a log so that its requests ask to explain, override parameters and page, by turns.

    Behind one in four comes a request for the next page of its session.
    """
    lines: list[Event | bytes] = []
    for line in log.read_bytes().splitlines():
        try:
            event = decode(line)
        except Refused:
            lines.append(line)
            continue
        if isinstance(event, FeedRequest) and isinstance(event.request, int):
            number = event.request
            overrides: dict[str, bool | int | float | str] = {}
            if number % 3 == 0:
                overrides = {"scoring.oon_factor": 0.5, "weights.reply": 2.5, "selection.result_size": 10}
            elif number % 7 == 0:
                overrides = {"scoring.no_such_thing": 1.0}
            event = replace_request(event, explain=number % 2 == 0, parameters=overrides, bottom=number % 5 == 0)
            if number % 4 == 3:
                viewer = key_of(event.viewer)
                cursor = issue(Cursor(session_of(viewer, number, event.at), 2), viewer, event.feed)
                lines += [event, replace_request(event, request=f"{number}, page 2", cursor=cursor)]
                continue
        lines.append(event)
    return write_log(out, lines)


def replace_request(event: FeedRequest, **changes: object) -> FeedRequest:
    """Return a request with some fields changed."""
    return msgspec.structs.replace(event, **changes)
