"""What lies in a state folder, read beside a running job or without one: its stores, and all that is kept of a user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from flows.intake import TakenIn
from flows.post_counts import COUNTS
from flows.post_counts import FORMAT_VERSION as COUNTS_FORMAT_VERSION
from flows.serving.deleting import ANY_TIME, DELETED_USERS, read_deleted
from flows.serving.durable import FORMAT_VERSION, posts_folder, viewer_partitions, viewers_folder
from flows.serving.positions import Positions
from flows.terminal import Refusal
from infra.stores import PartitionStore, StoreRefused
from operators.viewers.facts import decode_viewer
from operators.viewers.sequences import SURFACE_SHIFT, Groups
from operators.viewers.tallies import NO_TALLY, TALLY
from schemas.actions import ACTIONS, COUNT_NAMES
from schemas.codec import Refused, decode_batch
from schemas.events import POST_EVENTS, PostEvent
from schemas.ids import STRING_KEY_BIT, Id, key_of

VIEWERS: Final = "viewers"
POSTS: Final = "posts"
FORMATS: Final = {VIEWERS: FORMAT_VERSION, POSTS: FORMAT_VERSION, COUNTS: COUNTS_FORMAT_VERSION}
RELATIONS: Final = ("followed", "followed_by", "blocked", "blocked_by", "muted", "subscribed")
JsonId = int | str
RECORDS_AT_ONCE: Final = 10_000
# What the readers of records raise for bytes that are none.
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError)
chunks: Final = msgspec.msgpack.Decoder(list[TakenIn])


class StoreState(msgspec.Struct, frozen=True):
    """One store: what it keeps (viewers, posts or post-counts), of which partition or instance, and how far it is.

    `positions` are the next offsets by topic and partition, `outputs` where our own topics may hold what it does not
    know of; `clock_ms` is the job's clock, which the stores of viewers do not keep (0).
    """

    store: str
    number: int
    records: int
    bytes: int
    format: int
    clock_ms: int
    positions: dict[str, dict[int, int]]
    outputs: dict[str, int]


class GroupExport(msgspec.Struct, frozen=True):
    """What a viewer did with one post within a few minutes: one group of the action sequence."""

    post: JsonId
    author: JsonId
    at_ms: int
    actions: tuple[str, ...]
    dwell_s: float
    surface: int
    terms: tuple[int, ...]


class ServedExport(msgspec.Struct, frozen=True):
    """A post that was served, and the time of the request."""

    at_ms: int
    post: JsonId


class SessionExport(msgspec.Struct, frozen=True):
    """A session whose next page may be asked for: the time of its latest page, and what it has shown."""

    at_ms: int
    shown: tuple[JsonId, ...]


class FeedExport(msgspec.Struct, frozen=True):
    """One of the last feeds: the time of its request, the last 32 bits of its key, and its number of posts."""

    at_ms: int
    request: int
    posts: int


class ViewerExport(msgspec.Struct, frozen=True):
    """Everything stored of a viewer.

    Ids that are numbers stand as they are, ids that are text as `text-` and a hash: nothing more of them is stored.
    `groups_ever` counts the groups that have left the sequence as well, `counts` all that was shown and done.
    """

    viewer: JsonId
    partition: int
    groups: tuple[GroupExport, ...]
    groups_ever: int
    relations: dict[str, tuple[JsonId, ...]]
    muted_keywords: tuple[str, ...]
    account_created_ms: int | None
    followers: int
    seen: tuple[JsonId, ...]
    served: tuple[ServedExport, ...]
    counts: dict[str, int] = {}
    last_feeds: tuple[FeedExport, ...] = ()
    country: str = ""
    settings: tuple[str, ...] = ()
    sessions: tuple[SessionExport, ...] = ()


class UserExport(msgspec.Struct, frozen=True):
    """Everything stored of a user: whether as deleted, the viewer's record, and the user's posts, oldest first.

    There is one record at most, since a viewer has one partition; more are left by another number of partitions.
    """

    user: Id
    deleted: bool
    records: tuple[ViewerExport, ...]
    posts: tuple[PostEvent, ...]


def copy(folder: Path, to: Path) -> int:
    """Copy a state record by record to a folder that is not there yet; return how many records there are.

    Pages that a store gave up do not come along, and with them what was deleted. Each store is owned meanwhile, so a
    job that holds one is in the way. Raises Refusal and StoreRefused.
    """
    found = store_folders(folder)
    if to.exists():
        raise Refusal(f"{to} exists: name a folder that does not")
    count = 0
    for kind, _, path in found:
        source = PartitionStore.open(path, FORMATS[kind])
        try:
            target = PartitionStore.open(to / path.name, FORMATS[kind])
            try:
                records_of_all = source.items()
                while some := list(islice(records_of_all, RECORDS_AT_ONCE)):
                    target.commit(some, [], b"")
                    count += len(some)
                target.commit([], [], source.meta)  # last: a copy that was cut short says that it holds nothing
            finally:
                target.close()
        finally:
            source.close()
    return count


def posts_instances(folder: Path) -> list[int]:
    """Return the instances whose live posts have a store in a folder."""
    found = (re.fullmatch(r"posts-(\d{3})", path.name) for path in folder.glob("posts-*"))
    return sorted(int(one[1]) for one in found if one)


@contextmanager
def reading(folder: Path, format_version: int = FORMAT_VERSION) -> Iterator[PartitionStore]:
    """Open a store for reading; raises StoreRefused."""
    store = PartitionStore.open(folder, format_version, read_only=True)
    try:
        yield store
    finally:
        store.close()


def store_folders(folder: Path) -> list[tuple[str, int, Path]]:
    """Return kind, number and folder of each store; raises Refusal where there is none."""
    found = [(VIEWERS, one, viewers_folder(folder, one)) for one in viewer_partitions(folder)]
    found += [(POSTS, one, posts_folder(folder, one)) for one in posts_instances(folder)]
    found += [(COUNTS, 0, folder / COUNTS)] if (folder / COUNTS).is_dir() else []
    if not found:
        raise Refusal(f"{folder} holds no state: name the folder that `serve --state` was given")
    return found


def stores(folder: Path, *kinds: str) -> Iterator[tuple[str, int, PartitionStore]]:
    """Yield kind, number and open store of those kinds, or of all, one after the other.

    Raises Refusal and StoreRefused.
    """
    for kind, number, path in store_folders(folder):
        if not kinds or kind in kinds:
            with reading(path, FORMATS[kind]) as store:
                yield kind, number, store


def inspect(folder: Path) -> list[StoreState]:
    """Return the stores of a state folder. Raises Refusal and StoreRefused."""
    states = []
    for kind, number, store in stores(folder):
        try:
            positions = Positions.decoded(store.meta)
        except msgspec.MsgspecError as error:
            raise StoreRefused(
                f"{store.folder} does not say how far it is ({error}): restore it from a copy."
            ) from None
        states.append(
            StoreState(
                kind,
                number,
                len(store) - (store.get(DELETED_USERS) is not None),
                store.size_bytes(),
                FORMATS[kind],
                positions.clock_ms,
                positions.inputs,
                positions.outputs,
            )
        )
    return states


def records(store: PartitionStore) -> Iterator[tuple[int, bytes]]:
    """Yield the records of viewers, or chunks of posts, without the one of deleted users."""
    return ((key, raw) for key, raw in store.items() if key != DELETED_USERS)


def spelled(key: int) -> JsonId:
    """Return the id of a key where it is a number, else `text-` and the hash."""
    return f"text-{key:016x}" if key & STRING_KEY_BIT else key


def exported(key: int, partition: int, raw: bytes) -> ViewerExport:
    """Return a record as people read it."""
    groups, facts = decode_viewer(raw)
    relations, tally = facts.relations, np.frombuffer(groups.tally or NO_TALLY, TALLY)[0]
    return ViewerExport(
        viewer=spelled(key),
        partition=partition,
        groups=tuple(_groups(groups)),
        groups_ever=groups.count,
        relations={name: _spelled(getattr(relations, name)) for name in RELATIONS},
        muted_keywords=tuple(sorted(relations.keywords)),
        account_created_ms=relations.account_created_ms,
        followers=relations.followers,
        seen=_spelled(facts.seen),
        served=tuple(
            ServedExport(at_ms, spelled(post))
            for at_ms, post in zip(facts.served_ms.tolist(), facts.served.tolist(), strict=True)
        ),
        counts={name: count for name, count in zip(COUNT_NAMES, tally["counts"].tolist(), strict=True) if count},
        last_feeds=tuple(
            FeedExport(at_s * 1000, request, posts)
            for at_s, request, posts in zip(*(tally[one].tolist() for one in ("at_s", "request", "posts")), strict=True)
            if posts
        ),
        country=relations.country,
        settings=relations.settings,
        sessions=tuple(SessionExport(one.at_ms, _spelled(one.keys)) for one in facts.sessions),
    )


def _groups(groups: Groups) -> Iterator[GroupExport]:
    """Yield groups oldest first, those whose every action was undone included."""
    for row in groups.rows[groups.order()]:
        word = int(row["actions"])
        yield GroupExport(
            post=spelled(int(row["post"])),
            author=spelled(int(row["author"])),
            at_ms=int(row["at_s"]) * 1000,
            actions=tuple(name for bit, name in enumerate(ACTIONS) if word >> bit & 1),
            dwell_s=float(row["dwell_s"]),
            surface=word >> SURFACE_SHIFT,
            terms=tuple(row["terms"].tolist()),
        )


def _spelled(keys: Any) -> tuple[JsonId, ...]:
    return tuple(spelled(key) for key in keys.tolist())


def export(folder: Path, user: Id) -> UserExport:
    """Return what the stores hold of a user. Raises Refusal and StoreRefused."""
    key, found = key_of(user), []
    posts: dict[bytes, PostEvent] = {}
    deleted = False
    for kind, number, store in stores(folder, VIEWERS, POSTS):
        deleted |= key in read_deleted(store)
        if kind == POSTS:
            # Every instance has all posts: what two stores say alike counts once.
            posts |= {line: event for line, event in post_events(store) if key_of(event.author) == key}
        elif (raw := store.get(key)) is not None and key != DELETED_USERS:
            found.append(_readable(key, number, raw))
    return UserExport(user, deleted, tuple(found), tuple(sorted(posts.values(), key=lambda event: event.at)))


def export_all(folder: Path) -> Iterator[ViewerExport]:
    """Yield all viewers, by partition and key: the same state gives the same. Raises Refusal and StoreRefused."""
    for _, number, store in stores(folder, VIEWERS):
        for key, raw in records(store):
            yield _readable(key, number, raw)


def _readable(key: int, partition: int, raw: bytes) -> ViewerExport:
    try:
        return exported(key, partition, raw)
    except UNREADABLE as error:
        raise Refusal(f"the record of {spelled(key)} can't be read ({error}): `state verify` says what else") from None


def post_events(store: PartitionStore) -> Iterator[tuple[bytes, PostEvent]]:
    """Yield the post events of a store of posts with their bytes, without what can't be read."""
    for _, raw in records(store):
        try:
            chunk = chunks.decode(raw)
        except UNREADABLE:
            continue
        for _, lines in chunk:
            for line, event in zip(lines, decode_batch(lines, ANY_TIME), strict=True):
                if not isinstance(event, Refused) and isinstance(event, POST_EVENTS):
                    yield line, event
