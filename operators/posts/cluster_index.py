"""Posts near each other by what their likers are interested in: all posts with an embedding, as of one moment."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.posts.sparse_rows import Labels, rank_in_group

Times = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

NO_POSTS: Final = (np.empty(0, np.uint64), np.empty(0, np.float64))


class ClusterIndex:
    """Nothing in it changes: what is found near a post follows from the post alone, and is kept once found.

    `posts` [n] distinct keys; `labels` and `weights` [n, width] their unit vectors, heaviest label first; of those that
    `may_be_found` each label lists the `per_label` with the highest weights, of equals the first.
    """

    def __init__(
        self,
        posts: Keys,
        labels: Labels,
        weights: npt.NDArray[np.float32],
        may_be_found: npt.NDArray[np.bool_],
        per_label: int,
    ) -> None:
        self._posts, self._labels, self._weights = posts, labels, weights
        self._row_of = {key: row for row, key in enumerate(posts.tolist())}
        rows, places = np.nonzero((labels > 0) & may_be_found[:, None])
        listed, heavy = labels[rows, places], weights[rows, places]
        order = np.lexsort((rows, -heavy, listed))
        order = order[rank_in_group(listed[order].astype(np.int64)) < per_label]
        self._rows, self._heavy = rows[order], heavy[order].astype(np.float64)
        names, starts = np.unique(listed[order], return_index=True)
        ends = [*starts[1:].tolist(), len(order)]
        # The last list ends where all end; without any list there is no end either.
        self._lists = dict(zip(names.tolist(), zip(starts.tolist(), ends, strict=False), strict=False))
        self._found: dict[tuple[int, int, int, float], tuple[Keys, Scores]] = {}

    def __len__(self) -> int:
        return len(self._posts)

    def near(self, post: int, count: int, labels_max: int, score_min: float) -> tuple[Keys, Scores]:
        """Return the posts whose vectors have a cosine above `score_min` with a post's, best first, and the cosines.

        At most `count`, of equals the first in the index; none for a post without a vector. Looks through the lists of
        the post's `labels_max` heaviest labels, so a post that is low on all of them may be missed.
        """
        asked = (post, count, labels_max, score_min)
        found = self._found.get(asked)
        if found is None:
            found = self._found[asked] = self._search(*asked)
        return found

    def _search(self, post: int, count: int, labels_max: int, score_min: float) -> tuple[Keys, Scores]:
        row = self._row_of.get(post)
        if row is None:
            return NO_POSTS
        rows, scores = [], []
        for label, weight in zip(self._labels[row, :labels_max].tolist(), self._weights[row].tolist(), strict=False):
            start, end = self._lists.get(label, (0, 0))
            rows.append(self._rows[start:end])
            scores.append(self._heavy[start:end] * weight)
        # Over all posts: a tenth of the time of finding out first which ones are meant.
        cosines = np.bincount(np.concatenate(rows), np.concatenate(scores), len(self._posts)).astype(np.float64)
        cosines[row] = 0.0
        good = np.flatnonzero(cosines > score_min)
        if count < len(good):
            good = good[cosines[good] >= -np.partition(-cosines[good], count)[count]]
        best = good[np.lexsort((good, -cosines[good]))[:count]]
        return self._posts[best], cosines[best]
