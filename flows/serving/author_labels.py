"""Labels of authors outlive the posts they came with: what is still in force moves on to the newest chunk."""

from collections.abc import Iterable
from typing import Final

from flows.intake import TakenIn
from flows.serving.deleting import ANY_TIME
from operators.posts.table import PostTable
from schemas.codec import decode_batch
from schemas.events import AuthorLabelled
from schemas.ids import key_of

# What a stored line of such an event holds, and few others do: chunks without it need not be decoded.
MARK: Final = AuthorLabelled.__struct_config__.tag.encode()  # type: ignore[union-attr]


def in_force(chunk: Iterable[TakenIn], table: PostTable) -> list[bytes]:
    """Return the lines of a chunk that say which labels an author has now, in their order.

    Any thread may ask. Where labels have changed since, another line says so: stored already, or read again.
    """
    lines = [line for _, some in chunk for line in some if MARK in line]
    return [
        line
        for line, event in zip(lines, decode_batch(lines, ANY_TIME), strict=True)
        if isinstance(event, AuthorLabelled) and event.labels and _has(table, event)
    ]


def _has(table: PostTable, event: AuthorLabelled) -> bool:
    return table.labels_of(table.author_labels.of(key_of(event.author))) == tuple(sorted(set(event.labels)))
