"""What comes after scoring: top-K, visibility, conversation dedup, truncation (x-algorithm.md 1.2, 1.5)."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import Scores
from operators.viewers.query import Query
from operators.visibility.verdicts import Verdicts


def visibility(_query: Query, table: CandidateTable, _scores: Scores) -> npt.NDArray[np.intp]:
    """Drop a post that a rule of visibility drops, or a rule for recommendations from accounts not followed."""
    return np.flatnonzero(table.verdict <= 0)


def ancillary_visibility(_query: Query, table: CandidateTable, _scores: Scores) -> npt.NDArray[np.intp]:
    """Drop a post that answers, quotes or repeats one that such a rule drops; what was deleted is passed over."""
    return np.flatnonzero(table.ancillary_verdict == 0)


def conversation_of(table: CandidateTable) -> Keys:
    """Return the key each post's conversation goes by: the root, else the replied-to post, else the post itself.

    X takes the smallest ancestor id, which is the root where ids grow with time; ours need not.
    """
    parent = np.where(table.reply_to != 0, table.reply_to, table.post)
    return np.where(table.conversation != 0, table.conversation, parent)


def dedup_conversation(_query: Query, table: CandidateTable, scores: Scores) -> npt.NDArray[np.intp]:
    """Keep the best-scored post of each conversation, at the place where the conversation came up first."""
    best: dict[int, int] = {}
    for index, conversation in enumerate(conversation_of(table).tolist()):
        kept = best.get(conversation)
        # Assigning to a key that is there keeps its place: a better later branch replaces the earlier one in place.
        if kept is None or scores[index] > scores[kept]:
            best[conversation] = index
    return np.fromiter(best.values(), np.intp, len(best))


def slate_diversity(query: Query, table: CandidateTable, _scores: Scores) -> npt.NDArray[np.intp]:
    """Let at the top nobody have more than `per_author` posts, and no two posts on one topic follow each other (1.6).

    In each place of the first `top` the best post of the next `look_ahead` that does; where none does, the topic counts
    no more, then the author. A repost counts for both its authors. The first content term stands for X's semantic ID.
    """
    caps = query.parameters.slate_diversity
    authors = [set(pair) for pair in zip(table.author.tolist(), table.rank_author.tolist(), strict=True)]
    topics = table.rank_terms[:, 0].tolist()
    waiting, order = list(range(len(table))), list[int]()
    had: Counter[int] = Counter()
    while waiting and len(order) < caps.top:
        near = waiting[: caps.look_ahead]
        fit = [row for row in near if all(had[author] < caps.per_author for author in authors[row])]
        unlike = [row for row in fit if not order or not topics[row] or topics[row] != topics[order[-1]]]
        row = (unlike or fit or near)[0]
        waiting.remove(row)
        order.append(row)
        had.update(authors[row])
    return np.array([*order, *waiting], np.intp)


@dataclass(frozen=True, slots=True)
class PostSelection:
    """A step after selection: the rows it keeps, in order; the rest as for other filters.

    `verdicts` gives, for a step that goes by the rules of visibility, the rule that drops each row.
    """

    keeps: Callable[[Query, CandidateTable, Scores], npt.NDArray[np.intp]]
    origin: str
    switch: str
    reads: tuple[str, ...] = ()
    verdicts: Callable[[CandidateTable], Verdicts] | None = None

    @property
    def name(self) -> str:
        """The name in feeds, parameters and metrics."""
        return self.keeps.__name__

    @property
    def rule(self) -> str:
        """The rule in one sentence, the first line of the docstring."""
        return (self.keeps.__doc__ or "").partition("\n")[0]

    def enable(self, query: Query) -> bool:
        """Return whether it runs for a query."""
        return query.parameters.says(self.switch)

    def explained(self, query: Query, dropped: CandidateTable) -> Iterator[tuple[str, Keys]]:
        """Yield the rules by which it dropped rows, each with its posts."""
        if self.verdicts is None:
            yield self.rule, dropped.post
            return
        verdicts = self.verdicts(dropped)
        for verdict in np.unique(verdicts).tolist():
            yield query.visibility.told(verdict), dropped.post[verdicts == verdict]


POST_SELECTION: Final[tuple[PostSelection, ...]] = (
    PostSelection(visibility, "1.5, 1.7", "filters.visibility", verdicts=lambda table: table.verdict),
    PostSelection(
        ancillary_visibility,
        "1.5, 1.7",
        "filters.ancillary_visibility",
        verdicts=lambda table: table.ancillary_verdict,
    ),
    PostSelection(dedup_conversation, "1.2", "filters.dedup_conversation"),
    PostSelection(
        slate_diversity,
        "1.6 slate diversity",
        "slate_diversity.enabled",
        ("slate_diversity.per_author", "slate_diversity.top", "slate_diversity.look_ahead"),
    ),
)
