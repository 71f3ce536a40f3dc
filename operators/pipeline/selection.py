"""What comes after scoring: top-K, visibility, conversation dedup, truncation (x-algorithm.md 1.2, 1.5)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import Scores
from operators.viewers.query import Query


def visibility(table: CandidateTable, _scores: Scores) -> npt.NDArray[np.intp]:
    """Drop a post with a safety label that drops it for everybody, or for accounts not followed where it is such."""
    return np.flatnonzero(~table.unsafe & ~(table.unsafe_oon & ~table.in_network))


def conversation_of(table: CandidateTable) -> Keys:
    """Return the key each post's conversation goes by: the root, else the replied-to post, else the post itself.

    X takes the smallest ancestor id, which is the root where ids grow with time; ours need not.
    """
    parent = np.where(table.reply_to != 0, table.reply_to, table.post)
    return np.where(table.conversation != 0, table.conversation, parent)


def dedup_conversation(table: CandidateTable, scores: Scores) -> npt.NDArray[np.intp]:
    """Keep the best-scored post of each conversation, at the place where the conversation came up first."""
    best: dict[int, int] = {}
    for index, conversation in enumerate(conversation_of(table).tolist()):
        kept = best.get(conversation)
        # Assigning to a key that is there keeps its place: a better later branch replaces the earlier one in place.
        if kept is None or scores[index] > scores[kept]:
            best[conversation] = index
    return np.fromiter(best.values(), np.intp, len(best))


@dataclass(frozen=True, slots=True)
class PostSelection:
    """A filter after selection: the rows it keeps, in order; `origin` and `reads` as for other filters."""

    keeps: Callable[[CandidateTable, Scores], npt.NDArray[np.intp]]
    origin: str
    reads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name in feeds, parameters and metrics."""
        return self.keeps.__name__

    @property
    def switch(self) -> str:
        """The parameter that says whether it runs."""
        return f"filters.{self.name}"

    @property
    def rule(self) -> str:
        """The rule in one sentence, the first line of the docstring."""
        return (self.keeps.__doc__ or "").partition("\n")[0]

    def enable(self, query: Query) -> bool:
        """Return whether it runs for a query."""
        return bool(getattr(query.parameters.filters, self.name, True))


POST_SELECTION: Final[tuple[PostSelection, ...]] = (
    PostSelection(visibility, "1.5, 1.7", reads=("visibility.drop_labels", "visibility.drop_labels_oon")),
    PostSelection(dedup_conversation, "1.2"),
)
