"""What co-likers said of posts when a training example opened, asked for when it closes half an hour later."""

from collections.abc import Iterable

import numpy as np

from models.inputs import U32, untouched
from operators.keys import Keys
from operators.posts.live import LivePosts
from operators.viewers.query import Query


class CoLikedThen:
    """What co-likers say now, to a query's viewer, of some posts and of the originals of reposts among them."""

    def __init__(self, live: LivePosts, query: Query, posts: Iterable[int]) -> None:
        self._keys: Keys = np.empty(0, np.uint64)
        self._columns = untouched(0)
        if live.co_likers is not None:
            keys = np.fromiter(posts, np.uint64)
            rows = live.table.rows_of(keys)
            originals = live.table.gather(rows[rows >= 0]).repost_of
            self._keys = np.unique(np.concatenate([keys, originals]))
            circle = live.co_likers.circle(query.context.key, query.at_ms)
            self._columns = live.co_likers.columns(circle, self._keys, query.at_ms)

    def columns(self, keys: Keys) -> U32:
        """Return what was said of some of those posts, u32[n, CO_LIKED]; of others, as if nobody had touched them."""
        out = untouched(len(keys))
        if len(self._keys):
            places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            known = self._keys[places] == keys
            out[known] = self._columns[places[known]]
        return out
