"""The filters: each one a rule in a sentence and a mask of what it keeps (x-algorithm.md 1.2 and 1.5, rows 1 to 13).

`PRE_SCORING` is the order of August 2026. Row 11 stands apart in `AT_THE_SLATE`: what was served is known for certain
only where feeds are made, in order, so it is asked there, after the model. A score never depends on other candidates,
so the feed is the same (docs/decisions/0003-served-posts-at-the-slate.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from operators.keys import Keys, Mask, contains
from operators.pipeline.candidates import SIMCLUSTERS, CandidateTable
from operators.viewers.query import Query


def drop_duplicates(_query: Query, table: CandidateTable) -> Mask:
    """Drop a post that an earlier source brought already."""
    return _first_of_each(table.post)


def core_data_hydration(_query: Query, table: CandidateTable) -> Mask:
    """Drop a post whose author is unknown; blank text is allowed since August."""
    return np.not_equal(table.author, 0)


def age(query: Query, table: CandidateTable) -> Mask:
    """Drop a post older than `filters.age_s`."""
    return table.created_ms >= np.int64(query.at_ms - query.parameters.filters.age_s * 1000)


def self_tweet(query: Query, table: CandidateTable) -> Mask:
    """Drop the viewer's own posts."""
    return np.not_equal(table.author, np.uint64(query.request.viewer))


def oon_retweet_reply(_query: Query, table: CandidateTable) -> Mask:
    """Drop out-of-network reposts and replies, and replies whose parent is not to be had."""
    drop: Mask = ~table.in_network & (table.is_reply | table.is_repost)
    lost: Mask = table.is_reply & ~table.parent_is_live
    return np.logical_not(drop | lost)


def oon_nsfw_simclusters(_query: Query, table: CandidateTable) -> Mask:
    """Drop an out-of-network post that SimClusters brought and that carries a label dropped for such posts."""
    drop: Mask = ~table.in_network & table.unsafe_oon
    drop &= np.equal(table.source, SIMCLUSTERS)
    return ~drop


def retweet_deduplication(query: Query, table: CandidateTable) -> Mask:
    """Drop a post or repost whose original came earlier in any form; the first wins, either way round."""
    first = _first_of_each(table.original)
    return first | ~table.is_repost if query.parameters.filters.originals_pass else first


def ineligible_subscription(query: Query, table: CandidateTable) -> Mask:
    """Drop a subscriber-only post, or its repost, unless the viewer subscribes to the author."""
    return ~table.subscribers_only | contains(query.relations.subscribed, table.rank_author)


def previously_seen(query: Query, table: CandidateTable) -> Mask:
    """Drop a post when it, what it reposts or what it replies to is among the ids the client reported as seen."""
    return ~_any_related(query.seen, table)


def previously_seen_backup(query: Query, table: CandidateTable) -> Mask:
    """Drop likewise by a second record of impressions: the posts the viewer's own actions touched."""
    return ~_any_related(query.engaged, table)


def previously_served(query: Query, table: CandidateTable) -> Mask:
    """Drop a post when it, what it reposts or what it replies to was served within `filters.served_window_s`."""
    return ~_any_related(query.served, table)


def viewer_muted_keyword(_query: Query, table: CandidateTable) -> Mask:
    """Drop a post whose tokenised text holds a muted word or phrase of the viewer."""
    return ~table.muted


def author_socialgraph(query: Query, table: CandidateTable) -> Mask:
    """Drop when the author is muted, blocked or blocking, the quoted one blocked or blocking, the reposted blocked."""
    relations = query.relations
    blocked, blocked_by = relations.blocked, relations.blocked_by
    drop = contains(relations.muted, table.author) | contains(blocked, table.author)
    drop |= contains(blocked_by, table.author)
    drop |= contains(blocked, table.quote_author) | contains(blocked_by, table.quote_author)
    return ~(drop | contains(blocked, table.repost_author))


def video(query: Query, table: CandidateTable) -> Mask:
    """Drop posts with a video where the request excludes videos."""
    return ~table.has_video


def _first_of_each(keys: Keys) -> Mask:
    keep = np.zeros(len(keys), np.bool_)
    keep[np.unique(keys, return_index=True)[1]] = True
    return keep


def _any_related(known: Keys, table: CandidateTable) -> Mask:
    found = contains(known, table.post)
    found |= contains(known, table.repost_of) & table.is_repost
    return found | (contains(known, table.reply_to) & table.is_reply)


def _always(_query: Query) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Filter:
    """A component of the pipeline: which rows it keeps, and for which queries it runs at all.

    `compares_rows` marks a rule that looks at other rows than its own, and so must see survivors only. `origin` is the
    section of X's publication, `reads` the parameters the rule goes by beside its switch.
    """

    keeps: Callable[[Query, CandidateTable], Mask]
    origin: str
    compares_rows: bool = False
    asked: Callable[[Query], bool] = _always
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
        return getattr(query.parameters.filters, self.name, True) and self.asked(query)


PRE_SCORING: Final[tuple[Filter, ...]] = (
    Filter(drop_duplicates, "1.5 row 1", compares_rows=True),
    Filter(core_data_hydration, "1.5 row 2"),
    Filter(age, "1.5 row 3", reads=("filters.age_s",)),
    Filter(self_tweet, "1.5 row 4"),
    Filter(oon_retweet_reply, "1.5 row 5"),
    Filter(oon_nsfw_simclusters, "1.5 row 6", reads=("visibility.drop_labels_oon",)),
    Filter(retweet_deduplication, "1.5 row 7", compares_rows=True, reads=("filters.originals_pass",)),
    Filter(ineligible_subscription, "1.5 row 8"),
    Filter(previously_seen, "1.5 row 9", reads=("filters.seen_max",)),
    Filter(previously_seen_backup, "1.5 row 10"),
    Filter(viewer_muted_keyword, "1.5 row 12"),
    Filter(author_socialgraph, "1.5 row 13"),
    Filter(video, "1.5 row 15", asked=lambda query: query.request.event.exclude_videos),
)

AT_THE_SLATE: Final[tuple[Filter, ...]] = (
    Filter(
        previously_served,
        "1.5 row 11",
        asked=lambda query: query.parameters.filters.served_every_request or query.request.event.bottom,
        reads=("filters.served_every_request", "filters.served_window_s", "filters.served_max"),
    ),
)
