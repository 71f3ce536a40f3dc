"""Whom a reply answers in the end: the way up its conversation, past what its author answered of their own."""

from typing import Final

import numpy as np

from operators.keys import Keys, Mask
from operators.posts.columns import DELETED, REPLY
from operators.posts.live import LivePosts
from operators.posts.records import Posts

# Replies by one author to themselves that are followed up: a longer thread counts as one whose beginning is lost.
CHAIN_MAX: Final = 64


def nearest_others(posts: LivePosts, own: Posts) -> tuple[Keys, Mask]:
    """Return for each post the author of the nearest ancestor by somebody else, and whether the way there is lost.

    Keys uint64[n], 0 where all ancestors are by the post's own author or none of them is to be had; bool[n] marks
    replies one of whose ancestors up to there is not live or was deleted.
    """
    answered: Keys = np.zeros(len(own.key), np.uint64)
    lost: Mask = np.zeros(len(own.key), np.bool_)
    below = np.flatnonzero(own.flags & REPLY != 0)
    parents, told = own.reply_to[below], own.reply_to_author[below]
    for _ in range(CHAIN_MAX):
        if not len(below):
            return answered, lost
        parent = posts.table.gather(posts.table.rows_of(parents))
        there = (parent.key != 0) & (parent.flags & DELETED == 0)
        # The reply says whom it answers, where it does, also when the post itself is gone.
        author = np.where(told != 0, told, parent.author)
        other = (author != 0) & (author != own.author[below])
        answered[below[other]] = author[other]
        lost[below[~there]] = True
        further = there & ~other & (parent.flags & REPLY != 0)
        below, parents, told = below[further], parent.reply_to[further], parent.reply_to_author[further]
    lost[below] = True
    return answered, lost
