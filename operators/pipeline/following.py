"""The filters of the following feed: conversations as they may be shown (x-algorithm.md 1.5, "Other surfaces")."""

import numpy as np

from operators.keys import Mask, contains, first_of_each
from operators.pipeline.candidates import CandidateTable
from operators.viewers.query import Query


def native_retweet_deduplication(_query: Query, table: CandidateTable) -> Mask:
    """Drop a repost whose original is there, before it or after, and of several reposts of a post all but the first."""
    keep = ~table.is_repost
    native = np.sort(table.post[keep])
    reposts = np.flatnonzero(table.is_repost)
    repeated = table.repost_of[reposts]
    keep[reposts] = first_of_each(repeated) & ~contains(native, repeated)
    return keep


def self_reply_chain(query: Query, table: CandidateTable) -> Mask:
    """Drop a reply unless the nearest ancestor by somebody else is by somebody followed or the viewer, or is none."""
    answered = table.answered_author
    keep: Mask = ~table.is_reply | (answered == 0) | (answered == np.uint64(query.request.viewer))
    return keep | contains(query.relations.followed, answered)


def conversation_module(query: Query, table: CandidateTable) -> Mask:
    """Drop a reply that can't be shown with what it answers: gone, or by somebody muted, blocked or blocking.

    Up to the nearest ancestor by somebody else. What else makes such a module valid is not published.
    """
    relations, answered = query.relations, table.answered_author
    hidden = contains(relations.muted, answered) | contains(relations.blocked, answered)
    hidden |= contains(relations.blocked_by, answered)
    return ~(table.is_reply & (hidden | table.chain_is_lost))
