"""What lies in a state folder, read beside a running job or without one: stores, viewers, and whether all is whole."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.serving.deleting import DELETED_USERS
from flows.serving.durable import FORMAT_VERSION, posts_folder, viewer_partitions, viewers_folder
from flows.serving.positions import OUTPUTS, Positions
from flows.terminal import Refusal
from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS
from infra.polls import latest_accepted_ms
from infra.stores import PartitionStore
from operators.viewers.facts import Facts, decode_viewer
from operators.viewers.sequences import ACTION_BITS, SURFACE_SHIFT, Groups
from schemas.actions import ACTIONS
from schemas.ids import STRING_KEY_BIT, Id, key_of

GRAPH: Final = CONTEXT[1]
RELATIONS: Final = ("followed", "followed_by", "blocked", "blocked_by", "muted", "subscribed")
JsonId = int | str


class StoreState(msgspec.Struct, frozen=True):
    """One store: what it keeps (`viewers` or `posts`), whose, how much, and how far it is.

    `positions` are the next offsets by topic and partition, `outputs` where our own topics may hold what it does not
    know of; `clock_ms` is the job's clock, which the posts' store keeps.
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


class ViewerExport(msgspec.Struct, frozen=True):
    """Everything stored of a viewer.

    Ids that are numbers stand as they are, ids that are text as `text-` and a hash: nothing more of them is stored.
    `groups_ever` counts the groups that have left the sequence as well.
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


def posts_instances(folder: Path) -> list[int]:
    """Return the instances whose live posts have a store in a folder."""
    found = (re.fullmatch(r"posts-(\d{3})", path.name) for path in folder.glob("posts-*"))
    return sorted(int(one[1]) for one in found if one)


@contextmanager
def reading(folder: Path) -> Iterator[PartitionStore]:
    """Open a store for reading; raises StoreRefused."""
    store = PartitionStore.open(folder, FORMAT_VERSION, read_only=True)
    try:
        yield store
    finally:
        store.close()


def store_folders(folder: Path) -> list[tuple[str, int, Path]]:
    """Return kind, number and folder of each store; raises Refusal where there is none."""
    found = [("viewers", one, viewers_folder(folder, one)) for one in viewer_partitions(folder)]
    found += [("posts", one, posts_folder(folder, one)) for one in posts_instances(folder)]
    if not found:
        raise Refusal(f"{folder} holds no state: name the folder that `serve --state` was given")
    return found


def inspect(folder: Path) -> list[StoreState]:
    """Return the stores of a state folder. Raises Refusal and StoreRefused."""
    states = []
    for kind, number, path in store_folders(folder):
        with reading(path) as store:
            positions = Positions.decoded(store.meta)
            states.append(
                StoreState(
                    kind,
                    number,
                    _count(store),
                    store.size_bytes(),
                    FORMAT_VERSION,
                    positions.clock_ms,
                    positions.inputs,
                    positions.outputs,
                )
            )
    return states


def _records(store: PartitionStore) -> Iterator[tuple[int, bytes]]:
    """Yield the records of viewers, or chunks of posts, without the one of deleted users."""
    return ((key, raw) for key, raw in store.items() if key != DELETED_USERS)


def _count(store: PartitionStore) -> int:
    return len(store) - (store.get(DELETED_USERS) is not None)


def spelled(key: int) -> JsonId:
    """Return the id of a key where it is a number, else `text-` and the hash."""
    return f"text-{key:016x}" if key & STRING_KEY_BIT else key


def exported(key: int, partition: int, raw: bytes) -> ViewerExport:
    """Return a record as people read it."""
    groups, facts = decode_viewer(raw)
    relations = facts.relations
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


def export(folder: Path, viewer: Id) -> list[ViewerExport]:
    """Return what each store holds of a viewer: one record at most, since a viewer has one partition.

    Raises Refusal and StoreRefused.
    """
    found = []
    for kind, number, path in store_folders(folder):
        if kind != "viewers":
            continue
        with reading(path) as store:
            raw = store.get(key_of(viewer))
        if raw is not None:
            found.append(exported(key_of(viewer), number, raw))
    return found


def export_all(folder: Path) -> Iterator[ViewerExport]:
    """Yield all viewers, by partition and key: the same state gives the same. Raises Refusal and StoreRefused."""
    for kind, number, path in store_folders(folder):
        if kind == "viewers":
            with reading(path) as store:
                for key, raw in _records(store):
                    yield exported(key, number, raw)


def check_viewers(partition: int, store: PartitionStore) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a partition's viewers."""
    where = f"viewers of partition {partition}"
    last, count = -1, 0
    for key, raw in _records(store):
        count += 1
        if key <= last:
            yield f"{where}: key {key} stands behind {last}"
        last = key
        try:
            groups, facts = decode_viewer(raw)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            yield f"{where}: the record of {spelled(key)} can't be read: {error}"
            continue
        for wrong in (*_wrong_groups(groups), *_wrong_facts(facts)):
            yield f"{where}: the record of {spelled(key)} {wrong}"
    if count != _count(store):
        yield f"{where}: {count} records were read and the store says {_count(store)}"
    yield from _wrong_positions(where, Positions.decoded(store.meta), partition)


def _wrong_groups(groups: Groups) -> Iterator[str]:
    if groups.groups_max < 1 or len(groups.rows) != min(groups.count, groups.groups_max):
        yield f"holds {len(groups.rows)} groups of {groups.count} ever, {groups.groups_max} at most"
    if ((groups.rows["actions"] & ACTION_BITS) >> len(ACTIONS)).any():
        yield "holds actions that there are not"


def _wrong_facts(facts: Facts) -> Iterator[str]:
    for name in RELATIONS:
        keys = getattr(facts.relations, name)
        if (keys[1:] <= keys[:-1]).any():
            yield f"has {name} out of order"
    if len(facts.served) != len(facts.served_ms):
        yield f"has {len(facts.served)} served posts and {len(facts.served_ms)} times"


def _wrong_positions(where: str, positions: Positions, partition: int | None) -> Iterator[str]:
    """Yield what is wrong with positions; those of a viewer partition know engagements and requests of it alone."""
    known = {*CONTEXT, *ENGAGEMENTS, REQUESTS} if partition is not None else {CONTEXT[0]}
    for topic, offsets in positions.inputs.items():
        if topic not in known:
            yield f"{where}: positions in {topic}, which it does not take in"
        for one, offset in offsets.items():
            if offset < 0:
                yield f"{where}: position {offset} in {topic}[{one}]"
            if partition is not None and topic in (*ENGAGEMENTS, REQUESTS) and one != partition:
                yield f"{where}: a position in {topic}[{one}], another partition"
    for topic, offset in positions.outputs.items():
        if topic not in OUTPUTS or offset < 0:
            yield f"{where}: position {offset} in our own topic {topic}"
    if not 0 <= positions.clock_ms <= latest_accepted_ms():
        yield f"{where}: the job's clock stands at {positions.clock_ms}, in the future"
