"""Whether a state folder is whole, and whether nothing in it names a user; read beside a running job or without one."""

import re
from collections.abc import Callable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

import msgspec

from flows.post_counts import COUNTS
from flows.post_counts import INPUTS as COUNTED
from flows.serving.deleting import ANY_TIME, DELETED_USERS, read_deleted
from flows.serving.inspecting import POSTS, RELATIONS, UNREADABLE, VIEWERS, chunks, records, spelled, stores
from flows.serving.positions import OUTPUTS, Positions
from infra.kafka.inbox import CONTEXT, ENGAGEMENTS, REQUESTS
from infra.polls import latest_accepted_ms
from infra.stores import PartitionStore
from infra.stores.partition import DATA_NAME
from operators.deleted_users import DeletedUsers
from operators.parameters import DEFAULTS
from operators.posts.counts import COLUMNS, SHOWN
from operators.posts.live import LivePosts
from operators.state import live_posts
from operators.viewers.facts import Facts, decode_viewer, without_users
from operators.viewers.sequences import ACTION_BITS, Groups
from operators.viewers.tallies import TALLY
from schemas.actions import ACTIONS
from schemas.codec import Refused, decode_batch
from schemas.events import POST_EVENTS, PostEvent
from schemas.ids import Id, key_of

KEY_BYTES: Final = 8
# Yields what is wrong with a record, by its key and bytes; raises one of UNREADABLE for bytes that are none.
Wrong = Callable[[int, bytes], Iterator[str]]
NAMES: Final = ("author", "reply_to_author", "repost_of_author", "quote_of_author")
# What each kind of store takes in.
INPUTS: Final = {VIEWERS: {*CONTEXT, *ENGAGEMENTS, REQUESTS}, POSTS: {CONTEXT[0]}, COUNTS: set(COUNTED)}


def verify(folder: Path) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a state. Raises Refusal and StoreRefused."""
    for kind, number, store in stores(folder):
        where = _where(kind, number)
        yield from _wrong_positions(kind, where, store, number)
        if len(store.get(DELETED_USERS) or b"") % KEY_BYTES:
            yield f"{where}: the record of deleted users is cut"
        named, wrong = CHECKS[kind]
        yield from _wrong_records(where, named, store, wrong())


def _where(kind: str, number: int) -> str:
    return f"{kind} of partition {number}" if kind == VIEWERS else f"{kind} of instance {number}"


def _wrong_records(where: str, named: str, store: PartitionStore, wrong: Wrong) -> Iterator[str]:
    """Yield a sentence for each record that does not come in order, can't be read, or of which `wrong` tells."""
    last = -1
    for key, raw in records(store):
        if key <= last:
            yield f"{where}: key {key} stands behind {last}"
        last = key
        name = f"{where}: {named} {spelled(key)}"
        try:
            yield from (f"{name} {one}" for one in wrong(key, raw))
        except UNREADABLE as error:
            yield f"{name} can't be read: {error}"


def _wrong_viewer(_key: int, raw: bytes) -> Iterator[str]:
    groups, facts = decode_viewer(raw)
    if len(groups.tally) not in (0, TALLY.itemsize):
        yield f"has a tally of {len(groups.tally)} bytes"
    yield from _wrong_groups(groups)
    yield from _wrong_facts(facts)


def _wrong_chunks() -> Wrong:
    """Return what reads chunks one after the other, and takes their events in as a job does at its start."""
    posts, clock_ms = live_posts(DEFAULTS), 0

    def wrong(_key: int, raw: bytes) -> Iterator[str]:
        nonlocal clock_ms
        for taken_in_ms, lines in chunks.decode(raw):
            if not clock_ms <= taken_in_ms <= latest_accepted_ms():
                yield f"was taken in at {taken_in_ms}, after {clock_ms}"
            clock_ms = max(clock_ms, taken_in_ms)
            yield from _load(posts, lines, taken_in_ms)

    return wrong


def _load(posts: LivePosts, lines: list[bytes], clock_ms: int) -> Iterator[str]:
    events: list[PostEvent] = []
    for event in decode_batch(lines, ANY_TIME):
        if isinstance(event, Refused):
            yield f"holds an event that can't be read: {event}"
        elif isinstance(event, POST_EVENTS):
            events.append(event)
        else:
            yield f"holds a {type(event).__name__}, which is no event of a post"
    # What is refused here was refused when it first came: it is kept beside what was taken with it.
    posts.apply(events, clock_ms)


def _wrong_counts(key: int, raw: bytes) -> Iterator[str]:
    post, _, counts = msgspec.msgpack.decode(raw, type=tuple[Id, int, list[int]])
    # Older totals do not say how often a post was shown.
    if key_of(post) != key or len(counts) not in (SHOWN, COLUMNS) or min(counts) < 0:
        yield f"are those of {post}: {counts}"


# By kind of store: what a record is called, and what makes a reader of records.
CHECKS: Final[dict[str, tuple[str, Callable[[], Wrong]]]] = {
    VIEWERS: ("the record of", lambda: _wrong_viewer),
    POSTS: ("chunk", _wrong_chunks),
    COUNTS: ("the counts of", lambda: _wrong_counts),
}


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
    for session in facts.sessions:
        if (session.keys[1:] <= session.keys[:-1]).any():
            yield f"has a session, last asked for at {session.at_ms}, with posts out of order"
    if len(facts.served) != len(facts.served_ms):
        yield f"has {len(facts.served)} served posts and {len(facts.served_ms)} times"


def _wrong_positions(kind: str, where: str, store: PartitionStore, number: int) -> Iterator[str]:
    """Yield what is wrong with positions; those of a viewer partition know engagements and requests of it alone."""
    try:
        positions = Positions.decoded(store.meta)
    except msgspec.MsgspecError as error:
        yield f"{where}: how far it is can't be read: {error}"
        return
    for topic, offsets in positions.inputs.items():
        if topic not in INPUTS[kind]:
            yield f"{where}: positions in {topic}, which it does not take in"
        for one, offset in offsets.items():
            if offset < 0:
                yield f"{where}: position {offset} in {topic}[{one}]"
            if kind == VIEWERS and topic in (*ENGAGEMENTS, REQUESTS) and one != number:
                yield f"{where}: a position in {topic}[{one}], another partition"
    for topic, offset in positions.outputs.items():
        if topic not in OUTPUTS or offset < 0:
            yield f"{where}: position {offset} in our own topic {topic}"
    if not 0 <= positions.clock_ms <= latest_accepted_ms():
        yield f"{where}: the job's clock stands at {positions.clock_ms}, in the future"


class Remains(msgspec.Struct, frozen=True):
    """What is left of a user: a sentence for each record that names it, and how much was looked through.

    `others` are records that hold the same bytes as something else: a post's id that is the same number, a word, or
    eight bytes by chance. `outside` are the files that hold them outside of every record: in pages that were given up
    and not used again, or where the list of deleted users once lay. `told` are the stores that know that the user was
    deleted, of `stores`.
    """

    named: tuple[str, ...]
    others: int
    outside: tuple[str, ...]
    records: int
    stores: int
    told: int


def remains(folder: Path, user: Id) -> Remains:
    """Look for a user through the bytes of every record of viewers and posts. Raises Refusal and StoreRefused.

    The lists of deleted users are left out: their keys stay, so that what comes later is passed over.
    """
    key = key_of(user)
    named: list[str] = []
    outside: list[str] = []
    others = count = number_of_stores = told = 0
    # Viewers are spelled by their key's eight bytes, in posts by JSON, where 17 is not in 170.
    spelling = re.escape(msgspec.json.encode(user))
    patterns = {
        VIEWERS: re.compile(re.escape(key.to_bytes(KEY_BYTES, "little"))),
        POSTS: re.compile(rb"(?<![0-9])" + spelling + rb"(?![0-9])"),
    }
    for kind, number, store in stores(folder, VIEWERS, POSTS):
        where = _where(kind, number)
        number_of_stores += 1
        told += key in read_deleted(store)
        # The list of deleted users holds the key as well.
        left = _count(patterns[kind], store.get(DELETED_USERS) or b"")
        for one, raw in records(store):
            count += 1
            left += _count(patterns[kind], raw)
            try:
                names = NAMING[kind](raw, key)
            except UNREADABLE as error:
                named.append(f"{where}: record {spelled(one)} can't be read: {error}")
                continue
            if kind == VIEWERS and one == key:
                named.append(f"{where}: holds the record of {user}")
            elif names:
                named.append(f"{where}: record {spelled(one)} names {user}")
            else:
                others += bool(patterns[kind].search(raw))
        with (store.folder / DATA_NAME).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as everything:
            if _count(patterns[kind], everything) > left:
                outside.append(where)
    return Remains(tuple(named), others, tuple(outside), count, number_of_stores, told)


def _count(pattern: re.Pattern[bytes], raw: bytes | mmap) -> int:
    return sum(1 for _ in pattern.finditer(raw))


def _viewer_names(raw: bytes, key: int) -> bool:
    # No record can name a key without its bytes, so most need not be decoded.
    if key.to_bytes(KEY_BYTES, "little") not in raw:
        return False
    return without_users(*decode_viewer(raw), DeletedUsers([key])) is not None


def _chunk_names(raw: bytes, key: int) -> bool:
    events = (event for _, lines in chunks.decode(raw) for event in decode_batch(lines, ANY_TIME))
    ids = (getattr(event, name, None) for event in events for name in NAMES)
    return any(one is not None and key_of(one) == key for one in ids)


NAMING: Final = {VIEWERS: _viewer_names, POSTS: _chunk_names}
