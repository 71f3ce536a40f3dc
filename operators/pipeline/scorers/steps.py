"""What a scorer is: a step that multiplies scores, replaces them or raises them, and can be told of afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from operators.keys import Mask
from operators.pipeline.candidates import CandidateTable
from operators.viewers.query import Query

Scores = npt.NDArray[np.float64]
Operation = Literal["times", "is", "at_least"]

OPERATIONS: Final[dict[Operation, Callable[[Scores, Scores], Scores]]] = {
    "times": np.multiply,
    "is": lambda _before, value: value,
    "at_least": np.maximum,
}


class LikelyVectors:
    """The unit vectors of n posts of which only the likely best have any: float32[n, D] without its rows of zeros.

    It is cut like an array and becomes one by `np.asarray`: 2,800 posts of 1,024 dimensions are 11 MB, 256 are one.
    """

    def __init__(self, places: npt.NDArray[np.int32], vectors: npt.NDArray[np.float32]) -> None:
        """Take the vectors float32[m, D] and where each post's is, int32[n], -1 for those that have none."""
        self._places = places
        self._vectors = vectors

    @classmethod
    def of(cls, count: int, rows: npt.NDArray[np.intp], vectors: npt.NDArray[np.float32]) -> "LikelyVectors":
        """Return the vectors of `count` posts of which those at `rows` have these."""
        places = np.full(count, -1, np.int32)
        places[rows] = np.arange(len(rows))
        return cls(places, vectors)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: Mask | npt.NDArray[np.intp]) -> "LikelyVectors":
        return LikelyVectors(self._places[rows], self._vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.float32]:
        """Return them all, rows of zeros where there is none."""
        out = np.zeros((len(self._places), self._vectors.shape[1]), dtype or np.float32)
        known = np.flatnonzero(self._places >= 0)
        out[known] = self._vectors[self._places[known]]
        return out


Vectors = npt.NDArray[np.float32] | LikelyVectors


@dataclass(frozen=True, slots=True)
class Scored:
    """What scorers read of n candidates: the model's outputs float32[n, 19], and the scores so far.

    `contributions` [heads, n] are weight times output, `weighted` their sum. `vectors` float32[n, D] are the posts'
    unit vectors, rows of zeros where there is none, and None where nobody made any.
    """

    probabilities: npt.NDArray[np.float32]
    contributions: Scores
    weighted: Scores
    score: Scores
    vectors: Vectors | None = None

    @property
    def head_maxima(self) -> npt.NDArray[np.float32]:
        """The largest output of each head over the request's candidates; a scorer that reads them compares rows."""
        return head_maxima(self.probabilities)

    def take(self, rows: npt.NDArray[np.intp]) -> "Scored":
        """Return the candidates at `rows`."""
        vectors = None if self.vectors is None else self.vectors[rows]
        return Scored(
            self.probabilities[rows], self.contributions[:, rows], self.weighted[rows], self.score[rows], vectors
        )


def head_maxima(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the largest output of each head over a request's candidates, float32[19], zeros where there are none.

    In 2023 X attached them to every candidate after the model ("stage 2"), as features of what came next, so that a
    rule could say how near a post is to the best of its request (2023-generation.md 1).
    """
    return np.asarray(probabilities.max(axis=0, initial=0.0))


def always(_query: Query) -> bool:
    """Return True: a scorer that runs for every query."""
    return True


@dataclass(frozen=True, slots=True)
class Scorer:
    """A component of the pipeline: the value it finds for each candidate, float64[n], and what the score does with it.

    `compares_rows` marks a rule that looks at other rows than its own. `switch` is the parameter that says whether it
    runs, none for what always does, `asked` for which queries it does; `origin` is the section of X's publication,
    `reads` the parameters it goes by.
    """

    values: Callable[[Query, CandidateTable, Scored], Scores]
    operation: Operation
    origin: str
    compares_rows: bool = False
    switch: str = ""
    reads: tuple[str, ...] = ()
    asked: Callable[[Query], bool] = always

    @property
    def name(self) -> str:
        """The name in feeds, parameters and metrics."""
        return self.values.__name__

    @property
    def rule(self) -> str:
        """The rule in one sentence, the first line of the docstring."""
        return (self.values.__doc__ or "").partition("\n")[0]

    def enable(self, query: Query) -> bool:
        """Return whether it runs for a query."""
        return query.parameters.says(self.switch) and self.asked(query)


@dataclass(frozen=True, slots=True)
class Step:
    """What a scorer did: after it, a candidate's score is `value`, at least `value`, or so many times as high."""

    name: str
    operation: Operation
    value: Scores


def best_first(
    scores: Scores, table: CandidateTable, count: int | None = None, among: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.intp]:
    """Return the order by score, highest first; ties by newest, then by highest key, so that it is always the same.

    With `count` only so many, for to put all 2,800 in order takes three times as long; `among` tells which rows to
    choose from, in ascending order.
    """
    rows, low = among, -scores if among is None else -scores[among]
    if count is not None and 0 < count < len(low):
        worst = np.partition(low, count - 1)[count - 1]
        near = np.flatnonzero(low <= worst)
        if len(near) >= count:  # not where the worst of them is no number
            rows, low = near if rows is None else rows[near], low[near]
    order = _in_order(low, table, rows)[:count]
    return order if rows is None else rows[order]


def _in_order(low: Scores, table: CandidateTable, rows: npt.NDArray[np.intp] | None) -> npt.NDArray[np.intp]:
    """Return the order of rows by `low`, then newest, then highest key. Few are ties: only these take three keys."""
    order = np.argsort(low)
    ordered = low[order]
    tied = np.flatnonzero(~(ordered[1:] > ordered[:-1]))
    if len(tied):
        places = np.union1d(tied, tied + 1)
        some = order[places]
        which = some if rows is None else rows[some]
        order[places] = some[np.lexsort((~table.post[which], -table.created_ms[which], low[some]))]
    return order


def earlier_of_author(scores: Scores, table: CandidateTable) -> npt.NDArray[np.int64]:
    """Return how many better posts of its author stand before each candidate, int64[n]."""
    order = best_first(scores, table)
    author = table.author[order]
    by_author = np.argsort(author, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], author[by_author][1:] != author[by_author][:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(author)]]))
    earlier = np.empty(len(author), np.int64)
    earlier[order[by_author]] = np.arange(len(author)) - np.repeat(starts, sizes)
    return earlier


def where(mask: Mask, value: float) -> Scores:
    """Return `value` where marked and 1 elsewhere."""
    return np.where(mask, value, 1.0)
