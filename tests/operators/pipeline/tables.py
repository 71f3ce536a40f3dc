"""Candidate tables and queries for tests, a keyword for each column that matters."""

from dataclasses import fields

import numpy as np

from models.inputs import CO_LIKED, TERMS, Context, History
from operators.parameters import DEFAULTS, Parameters
from operators.pipeline.candidates import CandidateTable
from operators.viewers.query import Origin, Query, Request
from operators.viewers.relations import Relations
from schemas.actions import COUNTS
from schemas.events import FeedRequest

NOW_MS = 1_770_000_000_000
VIEWER = 7

_DTYPES = {
    "row": np.int64, "created_ms": np.int64, "source": np.uint8, "video_ms": np.int32, "rank_terms": np.uint16,
    "rank_topics": np.uint8, "rank_counts": np.uint32, "rank_co_liked": np.uint32, "author_followers": np.int32,
    "author_followings": np.int32, "cluster_interest": np.float64,
    "verdict": np.int16, "ancillary_verdict": np.int16,
}  # fmt: skip
_KEYS = {
    "post", "author", "reply_to", "conversation", "repost_of", "repost_author", "quote_author", "reply_author",
    "rank_post", "rank_author", "answered_author",
}  # fmt: skip


def table(**columns: list[object]) -> CandidateTable:
    """Return a table of the given columns; posts are 1, 2, ... by distinct authors, in-network and new."""
    count = len(next(iter(columns.values())))
    defaults: dict[str, object] = {
        "row": np.arange(count),
        "post": np.arange(1, count + 1),
        "author": np.arange(101, 101 + count),
        "created_ms": np.full(count, NOW_MS - 1000),
        "in_network": np.ones(count),
        "parent_is_live": np.ones(count),
        "cluster_interest": np.full(count, -1.0),
        "rank_terms": np.zeros((count, TERMS)),
        "rank_counts": np.zeros((count, COUNTS)),
        "rank_co_liked": np.zeros((count, CO_LIKED)),
    }
    out = {}
    for one in fields(CandidateTable):
        dtype = np.uint64 if one.name in _KEYS else _DTYPES.get(one.name, np.bool_)
        out[one.name] = np.asarray(columns.get(one.name, defaults.get(one.name, np.zeros(count)))).astype(dtype)
    return CandidateTable(**out)


def query(
    relations: Relations | None = None,
    parameters: Parameters = DEFAULTS,
    event: FeedRequest | None = None,
    **sets: list[int],
) -> Query:
    """Return a query of viewer 7 at NOW_MS; `seen`, `engaged` and `served` as lists of post ids."""
    event = event or FeedRequest(at=NOW_MS, request="r", viewer=VIEWER)
    return Query(
        request=Request(event, VIEWER, parameters, Origin("feed-requests", 0, 1), 0.0),
        context=Context(VIEWER, History.empty(), NOW_MS, 1),
        relations=relations or Relations(),
        **{name: np.array(sorted(sets.get(name, [])), np.uint64) for name in ("seen", "engaged", "served")},
    )
