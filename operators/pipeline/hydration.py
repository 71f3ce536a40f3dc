"""Hydration: all that filters, ranker and scorers ask of candidates, from where the posts live (x-algorithm.md 1.5)."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.inputs import U32, untouched
from operators.keys import Keys, Mask, contains
from operators.pipeline.ancestors import nearest_others
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.standing import followings_of, interest_in, verified
from operators.pipeline.visibility import verdicts
from operators.posts.co_likers import Circle
from operators.posts.columns import QUOTE, REPLY, REPOST, SUBSCRIBERS_ONLY, VIDEO, Rows
from operators.posts.live import LivePosts
from operators.viewers.query import Query


def hydrate(
    query: Query, posts: LivePosts, rows: Rows, source: npt.NDArray[np.uint8], circle: Circle | None = None
) -> CandidateTable:
    """Return the candidates at `rows` with all that filters, ranker and scorers ask of them.

    Without a circle it's as if nobody had acted on them.
    """
    table = posts.table
    own = table.gather(rows)
    is_reply, is_repost = own.flags & REPLY != 0, own.flags & REPOST != 0
    parents = _rows_of(own.reply_to, is_reply, posts)
    reposted = _rows_of(own.repost_of, is_repost, posts)
    known = reposted >= 0
    original = table.gather(reposted[known])
    relations, viewer = query.relations, np.uint64(query.request.viewer)
    rank_author = np.where(is_repost, own.repost_of_author, own.author)
    rank_author[known] = original.author
    rank_terms, rank_topics, video_ms = own.terms.copy(), own.topics.copy(), own.video_ms.copy()
    rank_terms[known], rank_topics[known], video_ms[known] = original.terms, original.topics, original.video_ms
    has_video = own.flags & VIDEO != 0
    has_video[known] |= original.flags & VIDEO != 0
    subscribers_only = own.flags & SUBSCRIBERS_ONLY != 0
    subscribers_only[known] |= original.flags & SUBSCRIBERS_ONLY != 0
    in_network = contains(relations.followed, own.author)
    # Few differ: of a repost the author is somebody else, and of strangers it's no matter whom they follow.
    rank_author_followed, mutual_follow = in_network.copy(), in_network.copy()
    rank_author_followed[is_repost] = contains(relations.followed, rank_author[is_repost])
    mutual_follow[in_network] = contains(relations.followed_by, own.author[in_network])
    is_known = in_network | (own.author == viewer)
    quoted = _rows_of(own.quote_of, own.flags & QUOTE != 0, posts)
    answered = own.reply_to_author * is_reply
    verdict, ancillary = verdicts(
        query,
        posts,
        own,
        (reposted, own.repost_of_author * is_repost),
        ((parents, answered), (quoted, own.quote_of_author)),
        ~is_known,
    )
    rank_post = np.where(is_repost, own.repost_of, own.key)
    # Only the following feed asks, and the way up costs a look-up for each step.
    if query.request.event.feed == "following":
        answered_author, chain_is_lost = nearest_others(posts, own)
    else:
        answered_author, chain_is_lost = np.zeros_like(own.author), np.zeros_like(is_reply)
    return CandidateTable(
        row=rows,
        post=own.key,
        author=own.author,
        created_ms=own.created_ms,
        source=source,
        in_network=is_known,
        is_reply=is_reply,
        is_repost=is_repost,
        has_video=has_video,
        video_ms=video_ms,
        subscribers_only=subscribers_only,
        reply_to=own.reply_to,
        parent_is_live=parents >= 0,
        reply_author=answered,
        answered_author=answered_author,
        chain_is_lost=chain_is_lost,
        conversation=own.conversation,
        repost_of=own.repost_of,
        repost_author=rank_author * is_repost,
        quote_author=own.quote_of_author,
        mutual_follow=mutual_follow,
        author_followers=posts.followers.of(own.author),
        author_followings=followings_of(query, posts, own.author),
        author_verified=verified(query, posts, own.author),
        cluster_interest=interest_in(query, posts, rank_author),
        rank_post=rank_post,
        rank_author=rank_author,
        rank_terms=rank_terms,
        rank_topics=rank_topics,
        rank_author_followed=rank_author_followed,
        rank_counts=counts_shown(posts.counts.kinds, own.key, rank_post),
        rank_co_liked=_co_liked(query, posts, rank_post, circle),
        verdict=verdict,
        ancillary_verdict=ancillary,
        muted=_muted(query, posts, rows, reposted),
    )


def counts_shown(kinds: Callable[[Keys], U32], posts: Keys, rank_posts: Keys) -> U32:
    """Return how often each post was shown and acted on: a repost with what was done to its original besides."""
    counts = kinds(rank_posts)
    reposts = np.flatnonzero(posts != rank_posts)
    if len(reposts):
        counts[reposts] += kinds(posts[reposts])
    return counts


def _co_liked(query: Query, posts: LivePosts, rank_post: Keys, circle: Circle | None) -> U32:
    if posts.co_likers is None or circle is None:
        return untouched(len(rank_post))
    return posts.co_likers.columns(circle, rank_post, query.at_ms)


def _rows_of(keys: Keys, wanted: Mask, posts: LivePosts) -> Rows:
    """Return the rows of posts where wanted, -1 elsewhere: few refer to others, and looking up costs most."""
    rows = np.full(len(keys), -1, np.int64)
    rows[wanted] = posts.table.rows_of(keys[wanted])
    return rows


def _muted(query: Query, posts: LivePosts, rows: Rows, reposted: Rows) -> Mask:
    """Return which posts, or the posts they repeat, hold a phrase that the viewer muted."""
    phrases = list(query.relations.keywords.values())
    if not phrases:
        return np.zeros(len(rows), np.bool_)
    muted = posts.table.contains_phrase(rows, phrases)
    known = np.flatnonzero(reposted >= 0)
    muted[known] |= posts.table.contains_phrase(reposted[known], phrases)
    return muted
