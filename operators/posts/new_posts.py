"""A batch of created posts, read into columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import xxhash
from msgspec.structs import astuple

from operators.keys import Keys, Mask, keys_of
from operators.posts.columns import (
    QUOTE,
    REPLY,
    REPOST,
    SUBSCRIBERS_ONLY,
    TERMS,
    VIDEO,
    Flags,
    Rows,
    Terms,
)
from operators.text import hash_words
from schemas.codec import encode
from schemas.events import PostCreated
from schemas.ids import Id, key_of

TermsOf = Callable[[str, tuple[str, ...], str], Sequence[int] | npt.NDArray[np.uint16]]


def fingerprint(event: PostCreated) -> int:
    """Return a 32-bit hash of all that an event says: equal for the same event delivered again."""
    return xxhash.xxh32_intdigest(encode(event))


@dataclass(slots=True)
class NewPosts:
    """Columns of n posts as they go into the table; `arena` holds the words of all, ids that are text behind them."""

    key: Keys
    author: Keys
    author_ids: Sequence[Id]
    created_ms: Rows
    flags: Flags
    reply_to: Keys
    reply_to_author: Keys
    conversation: Keys
    repost_of: Keys
    repost_of_author: Keys
    quote_of: Keys
    quote_of_author: Keys
    video_ms: npt.NDArray[np.int32]
    terms: Terms
    topics: npt.NDArray[np.uint8]
    fingerprint: npt.NDArray[np.uint32]
    words_at: Rows  # counted from the first of `arena`
    words: npt.NDArray[np.uint16]
    id_bytes: npt.NDArray[np.uint8]
    arena: list[int]

    # Columns that go into the table's columns of the same names as they are.
    PLAIN: ClassVar = (
        "key", "created_ms", "flags", "reply_to", "reply_to_author", "conversation", "repost_of", "repost_of_author",
        "quote_of", "quote_of_author", "video_ms", "terms", "topics", "fingerprint", "words", "id_bytes",
    )  # fmt: skip

    @classmethod
    def read(cls, keys: Keys, events: list[PostCreated], terms: TermsOf) -> "NewPosts":
        """Return the columns of events with these keys; raises ValueError for an id longer than 64 bytes."""
        fields = dict(zip(PostCreated.__struct_fields__, zip(*map(astuple, events), strict=True), strict=True))
        references = {name: _keys(fields[name]) for name in _REFERENCES}
        video_ms = np.array(fields["video_ms"], np.int32)
        flags = _flags(references, video_ms, np.array(fields["subscribers_only"], np.bool_))
        words, words_at, words_of, id_bytes = _words(fields["text"], fields["post"])
        return cls(
            key=keys,
            author=keys_of(fields["author"]),
            author_ids=fields["author"],
            created_ms=np.array(fields["at"], np.int64),
            flags=flags,
            video_ms=video_ms,
            terms=_terms(terms, fields["text"], fields["topics"], fields["language"]),
            topics=np.array([min(len(topics), TERMS) for topics in fields["topics"]], np.uint8),
            fingerprint=np.fromiter(map(fingerprint, events), np.uint32, len(events)),
            words_at=words_at,
            words=words_of,
            id_bytes=id_bytes,
            arena=words,
            **references,
        )


def first_bad_id(event: PostCreated) -> tuple[str, str] | None:
    """Return why an event's ids can't all be keys and the path of the first that can't; None where all can."""
    for name in ("author", *_REFERENCES):
        identity: Id | None = getattr(event, name)
        try:
            key_of(identity or 0)
        except ValueError as error:
            return str(error), f"$.{name}"
    return None


def _keys(ids: Sequence[Id | None]) -> Keys:
    """Return the keys of ids, 0 for those left out."""
    return keys_of([one or 0 for one in ids]) if any(ids) else np.zeros(len(ids), np.uint64)


def _flags(references: dict[str, Keys], video_ms: npt.NDArray[np.int32], subscribers_only: Mask) -> Flags:
    flags = np.zeros(len(video_ms), np.uint8)
    for flag, holds in (
        (REPLY, references["reply_to"] != 0),
        (REPOST, references["repost_of"] != 0),
        (QUOTE, references["quote_of"] != 0),
        (VIDEO, video_ms > 0),
        (SUBSCRIBERS_ONLY, subscribers_only),
    ):
        flags[holds] |= flag
    return flags


def _words(
    texts: Sequence[str], ids: Sequence[Id]
) -> tuple[list[int], Rows, npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Return all words, where each post's begin, how many they are, and the bytes of ids that are text."""
    words: list[int] = []
    begins, counts, id_bytes = [], [], []
    for text, identity in zip(texts, ids, strict=True):
        hashes = hash_words(text) if text else []
        begins.append(len(words))
        counts.append(len(hashes))
        words += hashes
        if isinstance(identity, str):
            raw = identity.encode()
            id_bytes.append(len(raw))
            words += np.frombuffer(raw + bytes(-len(raw) % 4), np.uint32).tolist()
        else:
            id_bytes.append(0)
    return words, np.array(begins, np.int64), np.array(counts, np.uint16), np.array(id_bytes, np.uint8)


def _terms(terms: TermsOf, texts: Sequence[str], topics: Sequence[tuple[str, ...]], languages: Sequence[str]) -> Terms:
    """Return the content terms of posts, uint16[n,4], 0 where there are fewer; none for posts that say nothing."""
    found: Terms = np.zeros((len(texts), TERMS), np.uint16)
    for place, (text, about, language) in enumerate(zip(texts, topics, languages, strict=True)):
        if text or about:
            some = terms(text, about, language)[:TERMS]
            found[place, : len(some)] = some
    return found


_REFERENCES: Final = (
    "reply_to", "reply_to_author", "conversation", "repost_of", "repost_of_author", "quote_of", "quote_of_author"
)  # fmt: skip
