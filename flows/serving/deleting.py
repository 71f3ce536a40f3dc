"""Deletion in the stores: a deleted user leaves every record in the commit that says so.

A store's record 0 (no viewer, no chunk) holds the keys of deleted users: what comes of them later is passed over.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from flows.intake import TakenIn
from infra.stores import PartitionStore
from operators.deleted_users import DeletedUsers
from operators.posts.husks import husk_of, stored
from operators.viewers.facts import decode_viewer, encode_viewer, without_users
from schemas.codec import Refused, decode_batch, encode
from schemas.events import POST_EVENTS, PostCreated
from schemas.ids import key_of

DELETED_USERS: Final = 0
# A process that reads what it has written has checked each event's time before.
ANY_TIME: Final = 2**53

Record = tuple[int, bytes]


def read_deleted(store: PartitionStore) -> DeletedUsers:
    """Return the deleted users that a store knows of, and says nothing of."""
    return DeletedUsers(np.frombuffer(store.get(DELETED_USERS) or b"", "<u8").tolist())


def deleted_record(deleted: DeletedUsers) -> Record:
    """Return the record of deleted users."""
    return DELETED_USERS, np.array(list(deleted), "<u8").tobytes()


def viewers_without(store: PartitionStore, changed: Iterable[Record], gone: list[int]) -> list[Record]:
    """Return the changed records, and those of the store that name a deleted user, all without these users.

    The records of the users themselves are left out. Reads the whole store.
    """
    deleted, needles = DeletedUsers(gone), [key.to_bytes(8, "little") for key in gone]
    records = {key: raw for key, raw in changed if key not in deleted}
    left = {key: _without(raw, deleted, needles) or raw for key, raw in records.items()}
    for key, raw in store.items():
        if key == DELETED_USERS or key in left or key in deleted:
            continue
        rewritten = _without(raw, deleted, needles)
        if rewritten is not None:
            left[key] = rewritten
    return list(left.items())


def _without(raw: bytes, deleted: DeletedUsers, needles: list[bytes]) -> bytes | None:
    """Return a viewer's record without deleted users, None where it names none."""
    # Eight bytes that are no key by chance cost a look; most records are passed over without one.
    if not any(needle in raw for needle in needles):
        return None
    rest = without_users(*decode_viewer(raw), deleted)
    return encode_viewer(*rest) if rest is not None else None


def chunk_without(
    chunk: list[TakenIn], deleted: DeletedUsers, was_deleted: Callable[[int], bool]
) -> list[TakenIn] | None:
    """Return post events without the words of deleted posts and without deleted users, None where nothing changes."""
    rewritten: list[TakenIn] = []
    changed = False
    for clock_ms, lines in chunk:
        kept: list[bytes] = []
        for line, event in zip(lines, decode_batch(lines, ANY_TIME), strict=True):
            if isinstance(event, Refused) or not isinstance(event, POST_EVENTS):
                kept.append(line)
                continue
            left = stored(event, deleted) if len(deleted) else [event]
            if left and isinstance(left[0], PostCreated) and was_deleted(key_of(left[0].post)):
                left[0] = husk_of(left[0])
            same = len(left) == 1 and left[0] is event
            kept += [line] if same else map(encode, left)
            changed |= not same
        rewritten.append((clock_ms, kept))
    return rewritten if changed else None
