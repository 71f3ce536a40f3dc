"""The candidates of one request: a table of columns, not a list of objects."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.inputs import Candidates
from operators.keys import Keys, Mask
from operators.visibility.verdicts import Verdicts

# What a source is called in feeds; the number is the one in the column `source`.
SOURCES: Final[tuple[str, ...]] = (
    "thunder",
    "phoenix_retrieval",
    "simclusters",
    "co_likers",
    "popular",
    "fresh",
    "requested",
    "cached_slate",
    "topics",
)
THUNDER, RETRIEVAL, SIMCLUSTERS, CO_LIKERS, POPULAR, FRESH, REQUESTED, CACHED_SLATE, TOPICS = range(len(SOURCES))


@dataclass(frozen=True, slots=True)
class CandidateTable:
    """Candidates in order, n rows; a key of 0 means "none".

    `rank_*` is what the ranker is asked about: for a repost the original post and its author (x-algorithm.md 1.3);
    `rank_counts` [n, COUNTS] is how often that post, and the repost of it, was shown and acted on so far, and
    `rank_co_liked` [n, CO_LIKED] what co-likers say of it.
    `author_followers` is -1 where nothing tells how many follow the author (operators/posts/author_followers.py).
    `author_followings`, `author_verified` and `cluster_interest` (-1 for not known) are filled in for the scorers that
    ask (operators/pipeline/standing.py).
    `answered_author` and `chain_is_lost` are those of ancestors.py, filled in for the following feed.
    `verdict` is that of the rules of visibility on the post, or on the post it repeats: 0, the number of the rule that
    drops it, or less than 0 that of the rule that puts it behind a notice; `ancillary_verdict` is the number of the
    rule that drops the post replied to, quoted or repeated, or 0. `muted` says that its text matches one of the
    viewer's muted keywords.
    """

    row: npt.NDArray[np.int64]
    post: Keys
    author: Keys
    created_ms: npt.NDArray[np.int64]
    source: npt.NDArray[np.uint8]
    in_network: Mask
    is_reply: Mask
    is_repost: Mask
    has_video: Mask
    video_ms: npt.NDArray[np.int32]
    subscribers_only: Mask
    reply_to: Keys
    parent_is_live: Mask
    reply_author: Keys
    answered_author: Keys
    chain_is_lost: Mask
    conversation: Keys
    repost_of: Keys
    repost_author: Keys
    quote_author: Keys
    mutual_follow: Mask
    author_followers: npt.NDArray[np.int32]
    author_followings: npt.NDArray[np.int32]
    author_verified: Mask
    cluster_interest: npt.NDArray[np.float64]
    rank_post: Keys
    rank_author: Keys
    rank_terms: npt.NDArray[np.uint16]
    rank_topics: npt.NDArray[np.uint8]
    rank_author_followed: Mask
    rank_counts: npt.NDArray[np.uint32]
    rank_co_liked: npt.NDArray[np.uint32]
    verdict: Verdicts
    ancillary_verdict: Verdicts
    muted: Mask

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: Mask | npt.NDArray[np.intp] | slice) -> "CandidateTable":
        """Return the chosen rows, in their order or in that of the index."""
        if isinstance(chosen, slice):
            return CandidateTable(*(getattr(self, name)[chosen] for name in _COLUMNS))
        if chosen.dtype == np.bool_:
            if chosen.all():
                return self
            chosen = np.flatnonzero(chosen)
        return CandidateTable(*(getattr(self, name).take(chosen, axis=0) for name in _COLUMNS))

    def rank_columns(self) -> Candidates:
        """Return the table as the ranker takes it."""
        return Candidates(
            post=self.rank_post,
            author=self.rank_author,
            terms=self.rank_terms,
            created_ms=self.created_ms,
            followed=self.rank_author_followed,
            has_video=self.has_video,
            counts=self.rank_counts,
            co_liked=self.rank_co_liked,
        )

    @property
    def original(self) -> Keys:
        """The post itself, or for a repost the post it repeats."""
        return np.where(self.is_repost, self.repost_of, self.post)


_COLUMNS: Final = tuple(CandidateTable.__dataclass_fields__)
