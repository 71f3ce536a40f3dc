"""What is known of a viewer beside the action sequence, and a viewer as one record of a durable store."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from operators.deleted_users import DeletedUsers
from operators.keys import Keys, contains, no_keys
from operators.text import token_hashes
from operators.viewers.relations import NO_RELATIONS, Relations
from operators.viewers.sequences import Groups
from operators.viewers.sessions import NO_SESSIONS, Sessions

Times = npt.NDArray[np.int64]
NO_MODULES_MS: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """Relations, seen posts (as they came), and served posts with the times of their requests, oldest first.

    `sessions` are those whose next page may still be asked for, `modules_ms` the times when whom to follow and a survey
    were last shown, 0 for never.
    """

    relations: Relations = NO_RELATIONS
    seen: Keys = field(default_factory=no_keys)
    served_ms: Times = field(default_factory=lambda: np.empty(0, np.int64))
    served: Keys = field(default_factory=no_keys)
    sessions: Sessions = NO_SESSIONS
    modules_ms: tuple[int, ...] = NO_MODULES_MS

    def with_relations(self, relations: Relations) -> "Facts":
        """Return the facts with other relations."""
        return replace(self, relations=relations)

    def after_seen(self, posts: Keys, seen_max: int) -> "Facts":
        """Return the facts with posts added to the seen ones, the newest `seen_max` of them."""
        # Thousands were seen and a few are new: those are sorted, not the thousands.
        known = np.sort(self.seen[contains(np.sort(posts), self.seen)])
        everything = np.concatenate([self.seen, posts[~contains(known, posts)]])
        return replace(self, seen=everything[max(0, len(everything) - seen_max) :])

    def after_served(self, at_ms: int, posts: Keys, window_s: int, served_max: int) -> "Facts":
        """Return the facts with posts added to the served ones; what left the window is forgotten.

        To add the same twice changes nothing: after a restart a feed may be read again.
        """
        new = posts[~contains(np.sort(self.served[self.served_ms == at_ms]), posts)]
        times, served = (
            np.concatenate([self.served_ms, np.full(len(new), at_ms, np.int64)]),
            np.concatenate([self.served, new]),
        )
        if len(times):
            kept = times >= times.max() - window_s * 1000
            times, served = times[kept], served[kept]
        start = max(0, len(served) - served_max)
        return replace(self, served_ms=times[start:], served=served[start:])


NO_FACTS: Final = Facts()
_SETS: Final = ("followed", "followed_by", "blocked", "blocked_by", "muted", "subscribed")


def without_users(groups: Groups, facts: Facts, deleted: DeletedUsers) -> tuple[Groups, Facts] | None:
    """Return what is left of a viewer without relations to deleted users and groups of their posts; None for all."""
    relations = facts.relations
    gone = {name: deleted.hold(getattr(relations, name)) for name in _SETS}
    gone_groups = deleted.hold(np.ascontiguousarray(groups.rows["author"]))
    if not gone_groups.any() and not any(mask.any() for mask in gone.values()):
        return None
    sets: dict[str, Any] = {name: getattr(relations, name)[~mask] for name, mask in gone.items() if mask.any()}
    if sets:
        facts = facts.with_relations(replace(relations, **sets))
    return groups.chosen(~gone_groups) if gone_groups.any() else groups, facts


class ViewerRecord(msgspec.Struct, array_like=True, frozen=True):
    """A viewer as it is stored: groups as `sequences.GROUP`, little-endian, and facts apart, as bytes of their own.

    Most who come into memory act and are not asked about: their facts are neither read nor written anew.
    """

    count: int  # groups ever
    groups_max: int
    groups: bytes
    facts: bytes  # a FactsRecord, or nothing where there are none
    tally: bytes = b""  # of operators.viewers.tallies.TALLY; nothing in records from before there were tallies


class FactsRecord(msgspec.Struct, array_like=True, frozen=True):
    """Facts as they are stored. Columns are bytes, little-endian."""

    relations: tuple[bytes, ...]  # followed, followed_by, blocked, blocked_by, muted, subscribed
    keywords: tuple[str, ...]
    account_created_ms: int | None
    followers: int
    seen: bytes
    served_ms: bytes
    served: bytes
    country: str = ""  # in records from before there were any, as for who never told
    settings: tuple[str, ...] = ()
    sessions: Sessions = NO_SESSIONS
    modules_ms: tuple[int, ...] = NO_MODULES_MS


_encoder: Final = msgspec.msgpack.Encoder()
_viewers: Final = msgspec.msgpack.Decoder(ViewerRecord)
_facts: Final = msgspec.msgpack.Decoder(FactsRecord)


def encode_viewer(groups: Groups, facts: Facts | bytes) -> bytes:
    """Return a viewer's record; facts may be as a record has them."""
    stored = facts if isinstance(facts, bytes) else encode_facts(facts)
    return _encoder.encode(ViewerRecord(groups.count, groups.groups_max, groups.rows.tobytes(), stored, groups.tally))


def split_viewer(raw: bytes) -> tuple[Groups, bytes]:
    """Return the groups of a record, and its facts as they are stored."""
    record = _viewers.decode(raw)
    return Groups.of_bytes(record.count, record.groups_max, record.groups, record.tally), record.facts


def decode_viewer(raw: bytes) -> tuple[Groups, Facts]:
    """Return the groups and facts of a record."""
    groups, stored = split_viewer(raw)
    return groups, decode_facts(stored)


def encode_facts(facts: Facts) -> bytes:
    """Return facts as a record has them."""
    if facts is NO_FACTS:
        return b""
    relations = facts.relations
    return _encoder.encode(
        FactsRecord(
            tuple(getattr(relations, name).tobytes() for name in _SETS) if relations is not NO_RELATIONS else (),
            tuple(relations.keywords),
            relations.account_created_ms,
            relations.followers,
            facts.seen.tobytes(),
            facts.served_ms.tobytes(),
            facts.served.tobytes(),
            relations.country,
            relations.settings,
            facts.sessions,
            facts.modules_ms,
        )
    )


def decode_facts(raw: bytes) -> Facts:
    """Return what `encode_facts` was given."""
    if not raw:
        return NO_FACTS
    record = _facts.decode(raw)
    relations = NO_RELATIONS
    if record.relations:
        sets = (np.frombuffer(one, np.uint64) for one in record.relations)
        relations = Relations(
            **dict(zip(_SETS, sets, strict=True)),
            keywords={word: token_hashes(word) for word in record.keywords},
            account_created_ms=record.account_created_ms,
            followers=record.followers,
            country=record.country,
            settings=record.settings,
        )
    return Facts(
        relations,
        np.frombuffer(record.seen, np.uint64),
        np.frombuffer(record.served_ms, np.int64),
        np.frombuffer(record.served, np.uint64),
        record.sessions,
        record.modules_ms,
    )
