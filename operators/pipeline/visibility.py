"""Verdicts of the rules of visibility on candidates and on what they refer to (x-algorithm.md 1.7)."""

from collections.abc import Sequence

import numpy as np

from operators.keys import Keys, Mask
from operators.posts.columns import Rows
from operators.posts.live import LivePosts
from operators.posts.records import Posts
from operators.viewers.query import Query
from operators.visibility.verdicts import Shown, Verdicts, stricter

# What a candidate may refer to, each kind as the rows of the posts (-1 where they are not live) and their authors.
Referred = tuple[Rows, Keys]


def verdicts(
    query: Query, posts: LivePosts, own: Posts, repost: Referred, others: Sequence[Referred], recommended: Mask
) -> tuple[Verdicts, Verdicts]:
    """Return the verdict on each candidate, and the rule that drops what it refers to (0 for none), int16[n] each.

    A repost is judged as itself and as what it repeats. A post that is not live has no labels, its author may have
    some; one that was deleted is passed over: what is shown of it is that it was there.
    """
    table, authors_of = posts.table, posts.table.author_labels.handles
    count, kinds = len(own.key), [repost, *others]
    rows, authors = (np.concatenate(column) for column in zip(*kinds, strict=True))
    which = np.flatnonzero((rows >= 0) | (authors != 0))
    labels, known, deleted = table.judged(rows[which])
    author = np.concatenate([own.author, np.where(rows[which] >= 0, known, authors[which])])
    shown = Shown(
        np.concatenate([own.labels, labels]),
        authors_of(author),
        author,
        np.concatenate([recommended, np.tile(recommended, len(kinds))[which]]),
    )
    judged = query.visibility.judge(table.label_sets, shown, query.relations.followed, query.request.viewer)
    if not judged.any():  # most often
        return judged[:count], judged[:count]
    of_referred = np.zeros((len(kinds), count), np.int16)
    of_referred.reshape(-1)[which] = np.where(deleted, 0, judged[count:])
    dropped = np.maximum(of_referred, 0)
    ancillary = dropped[0]
    for one in dropped[1:]:
        ancillary = stricter(ancillary, one)
    return stricter(judged[:count], of_referred[0]), ancillary
