"""What the post table hands out: columns of some posts, what they refer to, refused events and counts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.columns import Flags, Rows, Terms
from schemas.events import PostEvent


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that the table can't take: why, and which of its fields is at fault."""

    event: PostEvent
    reason: str
    path: str


@dataclass(slots=True)
class Counts:
    """What became of the events so far."""

    added: int = 0
    duplicates: int = 0  # delivered again, with the same content
    expired_at_arrival: int = 0
    deleted_before: int = 0  # created after their deletion had come
    deleted: int = 0
    deleted_again: int = 0
    labelled: int = 0
    dropped: int = 0  # by age


@dataclass(frozen=True, slots=True)
class Posts:
    """Columns of some posts, n rows; all zeros where the row is -1. Key 0 stands for "none"."""

    row: Rows
    key: Keys
    author: Keys
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
    labels: npt.NDArray[np.uint16]
