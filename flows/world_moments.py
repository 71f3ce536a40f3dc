"""Requests of a simulated world with all that a feed may show then, and what each of these posts is truly worth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.feed_worth import TOP, Floats, weigh
from flows.intake import Intake
from infra.logs.reader import LogReader
from infra.polls import polls_of
from infra.world.worth import NOBODY, Worth
from models.phoenix import Phoenix
from operators.decode import Ownership, Poll
from operators.parameters import Parameters
from operators.pipeline.candidates import RETRIEVAL, CandidateTable
from operators.pipeline.filters import PRE_SCORING
from operators.pipeline.hydration import hydrate
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.selection import conversation_of, visibility
from operators.pipeline.sources import gather
from operators.posts.live import LivePosts
from operators.state import MemoryState, live_posts
from operators.viewers.query import Query

Order = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Beliefs:
    """True probabilities [n, 19] of the posts a feed may show, by what one knows of the world."""

    everything: Floats
    tastes: Floats  # not what the session is about before it has shown it
    authors: Floats  # all but how good a post is: its author's mean in its place
    tastes_and_authors: Floats  # neither


@dataclass(frozen=True)
class Moment:
    """A request and the n posts that a feed may show then: `table` holds them all, `found` those the sources bring."""

    query: Query
    table: CandidateTable
    found: npt.NDArray[np.bool_]
    beliefs: Beliefs

    @property
    def worth(self) -> Floats:
        """What each post is worth to the viewer: the weighted sum of its true probabilities, float64[n]."""
        return weigh(self.beliefs.everything, self.query.parameters)

    def first(self, scores: Floats) -> Order:
        """Return the first posts of a feed in the order of some scores: one of each conversation, ties by newest."""
        return first_of(self.table, scores)


def first_of(table: CandidateTable, scores: Floats) -> Order:
    """Return the rows of the first posts of a feed in the order of some scores [n], as `Moment.first` does."""
    order = np.lexsort((-table.created_ms, -scores))
    conversations = conversation_of(table)[order[: 20 * TOP]]
    places = np.sort(np.unique(conversations, return_index=True)[1])
    return order[places[:TOP]]


def moments(
    log: Path,
    worth: Worth,
    parameters: Parameters,
    phoenix: Phoenix,
    from_ms: int,
    told: Callable[[Poll], None] | None = None,
    every: int = 1,
) -> Iterator[Moment]:
    """Yield every so many-th request of a log from a time on, with the state as it is then; `told` gets each poll.

    What a feed may show is every live post that passes the filters of the pipeline and is visible. Nothing is served:
    all recommenders choose from the same posts.
    """
    posts = live_posts(parameters, phoenix, interest_clusters=True)
    intake = Intake(MemoryState(parameters, posts), parameters, Ownership(), from_ms)
    asked = 0
    for raw in polls_of(LogReader(log)):
        for poll in intake.update_posts(intake.decode(raw)):
            if told is not None:
                told(poll)
            for query in intake.update_viewers(poll):
                asked += 1
                moment = None if asked % every else _moment(query, intake.state.posts, worth, phoenix)
                if moment is not None:
                    yield moment


def _moment(query: Query, posts: LivePosts, worth: Worth, phoenix: Phoenix) -> Moment | None:
    person = worth.person(query.context.key)
    if person == NOBODY:
        return None
    table = eligible(query, posts)
    rows = worth.posts(table.rank_post)
    table, rows = table.take(rows != NOBODY), rows[rows != NOBODY]
    if len(rows) < TOP:
        return None
    brought = gather(query, posts, phoenix, Accounting(explain=False))
    rows = worth.table["original"][rows].astype(np.int64)
    known, likely = worth.focus(person, query.at_ms)
    quality = worth.table["quality"][rows]
    # An author's posts vary around a mean of his own.
    mean = worth.truth.quality[worth.table["author"][rows]]
    followed = table.rank_author_followed
    beliefs = Beliefs(
        everything=worth.probabilities(person, query.at_ms, rows, followed, known, quality),
        tastes=worth.probabilities(person, query.at_ms, rows, followed, likely, quality),
        authors=worth.probabilities(person, query.at_ms, rows, followed, known, mean),
        tastes_and_authors=worth.probabilities(person, query.at_ms, rows, followed, likely, mean),
    )
    return Moment(query, table, np.isin(table.original, brought.original), beliefs)


def eligible(query: Query, posts: LivePosts) -> CandidateTable:
    """Return all live posts that pass the filters, originals before reposts of them."""
    rows = np.arange(posts.table.base, posts.table.end)
    rows = rows[posts.table.visible(rows, query.at_ms)]
    table = hydrate(query, posts, rows, np.full(len(rows), RETRIEVAL, np.uint8))
    table = table.take(np.argsort(table.is_repost, kind="stable"))
    asked = replace(query, degraded=[])
    table, _ = run_filters(PRE_SCORING, asked, table, Accounting(explain=False))
    return table.take(visibility(query, table, np.zeros(len(table))))
