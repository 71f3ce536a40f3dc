"""Sparse vectors of a bounded number of entries, one a row: the heaviest stay."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
Amounts = npt.NDArray[np.float64]

_LABEL_BITS = 32
_LABEL_MASK = (1 << _LABEL_BITS) - 1


class SparseRows:
    """Rows of up to `width` labels with weights above 0, heaviest first; label 0 stands for "none"."""

    def __init__(self, width: int, room: int = 64) -> None:
        self.labels: Labels = np.zeros((room, width), np.int32)
        self.weights: npt.NDArray[np.float32] = np.zeros((room, width), np.float32)

    @property
    def width(self) -> int:
        """How many entries a row may have."""
        return int(self.labels.shape[1])

    def memory_bytes(self) -> int:
        """Return the bytes of all rows."""
        return self.labels.nbytes + self.weights.nbytes

    def reserve(self, room: int) -> None:
        """Make room for so many rows."""
        while len(self.labels) < room:
            self.labels = np.concatenate([self.labels, np.zeros_like(self.labels)])
            self.weights = np.concatenate([self.weights, np.zeros_like(self.weights)])

    def clear(self, rows: Rows) -> None:
        """Empty rows."""
        self.labels[rows] = 0
        self.weights[rows] = 0.0

    def add(self, rows: Rows, labels: Labels, amounts: Amounts) -> None:
        """Add amounts to labels of rows, n each; what falls to 0 or below is gone, and of too many the lightest are.

        Of equals the lower label stays. Amounts are summed in their order.
        """
        touched = np.unique(rows)
        if not len(touched):
            return
        self.reserve(int(touched[-1]) + 1)
        of_rows = np.concatenate([np.repeat(touched, self.width), rows])
        of_labels = np.concatenate([self.labels[touched].ravel(), labels]).astype(np.int64)
        of_amounts = np.concatenate([self.weights[touched].ravel().astype(np.float64), amounts])
        there = of_labels > 0
        codes, place = np.unique((of_rows[there] << _LABEL_BITS) | of_labels[there], return_inverse=True)
        totals = np.bincount(place, of_amounts[there], len(codes))
        codes, totals = codes[totals > 0], totals[totals > 0]
        order = np.lexsort((codes, -totals, codes >> _LABEL_BITS))
        sorted_rows = codes[order] >> _LABEL_BITS
        ranks = rank_in_group(sorted_rows)
        kept = ranks < self.width
        order, sorted_rows, ranks = order[kept], sorted_rows[kept], ranks[kept]
        self.clear(touched)
        self.labels[sorted_rows, ranks] = codes[order] & _LABEL_MASK
        self.weights[sorted_rows, ranks] = totals[order]

    def normalised(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the weights of rows as unit vectors, float32[n, width]; an empty row stays one of zeros."""
        weights = self.weights[rows]
        lengths = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        return (weights / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def rank_in_group(groups: Rows) -> Rows:
    """Return the place of each entry among those of its group, from 0; entries of a group stand together."""
    first = np.concatenate([[True], groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, np.bool_)
    starts = np.flatnonzero(first)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
