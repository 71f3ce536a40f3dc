"""The filters: each one a rule in a sentence and a mask of what it keeps (x-algorithm.md 1.2 and 1.5, rows 1 to 18).

`PRE_SCORING` is the order of August 2026. Row 11 stands apart in `AT_THE_SLATE`: what was served is known for certain
only where feeds are made, in order, so it is asked there, after the model. What the model says never depends on other
candidates, so the feed is the same (docs/decisions/0003-served-posts-at-the-slate.md). Row 17 asks what the rows before
it have left, and so stands behind row 11 with those that follow it; rows 12 to 16 look at one post at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from models.content import content_terms
from models.inputs import TERMS
from operators.keys import Keys, Mask, contains, first_of_each, keys_of
from operators.pipeline.candidates import SIMCLUSTERS, CandidateTable
from operators.viewers.query import Query
from schemas.actions import COUNT_NAMES
from schemas.ids import GOLDEN_64

# The least and the largest share of posts that `fav_holdout` drops, of a hundred (1.5, [S]).
FAV_HOLDOUT_MIN: Final = 2
FAV_HOLDOUT_MAX: Final = 15


def drop_duplicates(_query: Query, table: CandidateTable) -> Mask:
    """Drop a post that an earlier source brought already."""
    return first_of_each(table.post)


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
    """Drop an out-of-network post that SimClusters brought and that a rule of visibility drops."""
    drop: Mask = ~table.in_network & (table.verdict > 0)
    drop &= np.equal(table.source, SIMCLUSTERS)
    return ~drop


def retweet_deduplication(query: Query, table: CandidateTable) -> Mask:
    """Drop a post or repost whose original came earlier in any form; the first wins, either way round."""
    first = first_of_each(table.original)
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


def shown_before(query: Query, table: CandidateTable) -> Mask:
    """Drop what an earlier page of the session showed, as itself or as a repost."""
    return ~(contains(query.shown, table.post) | contains(query.shown, table.original))


def visible_first(query: Query, table: CandidateTable) -> Mask:
    """Drop on further pages what the rules of visibility drop: it must not take the places of what can be shown."""
    filters = query.parameters.filters
    visible = (table.verdict <= 0) | (not filters.visibility)
    visible &= (table.ancillary_verdict == 0) | (not filters.ancillary_visibility)
    return np.asarray(visible)


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


def author_list(query: Query, table: CandidateTable) -> Mask:
    """Drop when the author, or the one reposted, quoted or answered, is on the list and the viewer does not follow."""
    listed = _listed(query.parameters.filters.listed_authors)
    unknown = listed[~contains(query.relations.followed, listed)]
    drop = contains(unknown, table.author) | contains(unknown, table.repost_author)
    return ~(drop | contains(unknown, table.quote_author) | contains(unknown, table.reply_author))


def topic_ids(query: Query, table: CandidateTable) -> Mask:
    """Drop what is on none of the topics asked for, on one that is excluded, or where topics are excluded on none."""
    event = query.request.event
    wanted: Mask = np.ones(len(table), np.bool_)
    if event.topics:
        wanted &= on_one_of(event.topics, table.rank_terms, table.rank_topics)
    if event.excluded_topics:
        excluded = on_one_of(event.excluded_topics, table.rank_terms, table.rank_topics)
        wanted &= ~excluded & (table.rank_topics > 0)
    return wanted


def new_user_min_engagement(query: Query, table: CandidateTable) -> Mask:
    """Drop, for new accounts, an out-of-network post with too few actions, unless no post has any."""
    acted = table.rank_counts[:, 1:].sum(axis=1, dtype=np.int64)
    if not acted.any():
        return np.ones(len(table), np.bool_)
    keep: Mask = table.in_network | (acted >= query.parameters.filters.new_user_engagement_min)
    return keep


def inventory_holdout(query: Query, table: CandidateTable) -> Mask:
    """Drop a share of posts by a hash of post and viewer, to see what the feed would be without them."""
    filters = query.parameters.filters
    percent = np.where(table.in_network, filters.holdout_percent, filters.holdout_percent_oon)
    return _drawn(query, table) >= percent


def fav_holdout(query: Query, table: CandidateTable) -> Mask:
    """Drop a share of posts by a hash of post and viewer that grows with their likes, from 2 to 15 of a hundred."""
    favorites = table.rank_counts[:, COUNT_NAMES.index("favorite")].astype(np.int64)
    doublings = np.frexp(favorites.astype(np.float64))[1]  # 0 without a like, then 1 more each time they double
    return np.asarray(_drawn(query, table) >= np.minimum(FAV_HOLDOUT_MIN + doublings, FAV_HOLDOUT_MAX))


def _drawn(query: Query, table: CandidateTable) -> npt.NDArray[np.int64]:
    """Return a number of 0 to 99 for each original and this viewer (splitmix64), int64[n]."""
    mixed = (table.original ^ np.uint64(query.request.viewer * GOLDEN_64 % 2**64)) + np.uint64(GOLDEN_64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(100)).astype(np.int64)


@lru_cache(maxsize=64)
def _listed(authors: tuple[str, ...]) -> Keys:
    return np.sort(keys_of([int(one) if one.isdecimal() else one for one in authors]))


def on_one_of(topics: tuple[str, ...], terms: npt.NDArray[np.uint16], counts: npt.NDArray[np.uint8]) -> Mask:
    """Return which posts are on one of the topics: `counts` says how many of a post's `terms` [n, TERMS] are topics."""
    is_topic = np.arange(TERMS) < counts[:, None]
    return np.asarray((np.isin(terms, _topic_terms(topics)) & is_topic).any(axis=1))


@lru_cache(maxsize=1024)
def _topic_terms(topics: tuple[str, ...]) -> npt.NDArray[np.uint16]:
    return np.array([content_terms("", (topic,), "")[0] for topic in topics], np.uint16)


def _further_page(query: Query) -> bool:
    return query.request.cursor is not None


def _is_new(query: Query) -> bool:
    created_ms = query.relations.account_created_ms
    return created_ms is not None and query.at_ms - created_ms < query.parameters.filters.new_user_age_s * 1000


def _any_related(known: Keys, table: CandidateTable) -> Mask:
    found = contains(known, table.post)
    for related, marked in ((table.repost_of, table.is_repost), (table.reply_to, table.is_reply)):
        rows = np.flatnonzero(marked)
        found[rows] |= contains(known, related[rows])
    return found


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
    Filter(oon_nsfw_simclusters, "1.5 row 6"),
    Filter(retweet_deduplication, "1.5 row 7", compares_rows=True, reads=("filters.originals_pass",)),
    Filter(ineligible_subscription, "1.5 row 8"),
    Filter(previously_seen, "1.5 row 9", reads=("filters.seen_max",)),
    Filter(previously_seen_backup, "1.5 row 10"),
    Filter(viewer_muted_keyword, "1.5 row 12"),
    Filter(author_socialgraph, "1.5 row 13"),
    Filter(
        author_list,
        "1.5 row 14, a list of one's own",
        asked=lambda query: bool(query.parameters.filters.listed_authors),
        reads=("filters.listed_authors",),
    ),
    Filter(video, "1.5 row 15", asked=lambda query: query.request.event.exclude_videos),
    Filter(
        topic_ids,
        "1.5 row 16",
        asked=lambda query: bool(query.request.event.topics or query.request.event.excluded_topics),
    ),
)

# Of further pages; what a session has shown is known for certain at the slate alone as well.
PAGES: Final[tuple[Filter, ...]] = (
    Filter(
        shown_before,
        "1.5, bottom requests; not X's",
        asked=_further_page,
        reads=("pagination.ttl_s", "pagination.sessions_max"),
    ),
    Filter(visible_first, "1.5, bottom requests; not X's", asked=_further_page),
)

AT_THE_SLATE: Final[tuple[Filter, ...]] = (
    Filter(
        previously_served,
        "1.5 row 11",
        asked=lambda query: query.parameters.filters.served_every_request or query.request.bottom,
        reads=("filters.served_every_request", "filters.served_window_s", "filters.served_max"),
    ),
    Filter(
        new_user_min_engagement,
        "1.5 row 17",
        compares_rows=True,
        asked=_is_new,
        reads=("filters.new_user_age_s", "filters.new_user_engagement_min"),
    ),
    Filter(inventory_holdout, "1.5 row 18", reads=("filters.holdout_percent", "filters.holdout_percent_oon")),
    Filter(fav_holdout, "1.5, [S]"),
    *PAGES,
)
