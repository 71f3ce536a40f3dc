"""A small world with known tastes, as training batches: what the tests of trained models learn from.

Every post has one of TOPICS topics (its first term), two words of that topic and an author who writes on one topic.
A viewer likes two topics and dislikes one; he is eager (likes nine in ten of what he likes) or slow (three in ten).
Posts of authors he has blocked he always dislikes.
"""

from dataclasses import dataclass

import numpy as np

from models.inputs import Candidates, Context, ExampleBatch, History
from schemas.actions import ACTION_INDEX

TOPICS = 6
AUTHORS = 120
HOUR_MS = 3_600_000
START_MS = 1_760_000_400_000 // (24 * HOUR_MS) * 24 * HOUR_MS
FAVORITE, REPLY, DWELL, BLOCK, MUTE, DISLIKE, FOLLOW, PROFILE = (
    1 << ACTION_INDEX[name]
    for name in (
        "favorite",
        "reply",
        "dwell",
        "block_author",
        "mute_author",
        "not_interested",
        "follow_author",
        "profile_click",
    )
)


def topic_of(author: np.ndarray) -> np.ndarray:
    """Return the topic each author writes on."""
    return author % TOPICS


def terms_of(topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return u16[n, 4]: the topic's own term, two of its twenty words, and no fourth."""
    words = 1000 + topic[:, None] * 20 + rng.integers(0, 20, (len(topic), 2))
    return np.stack([100 + topic, words[:, 0], words[:, 1], np.zeros_like(topic)], axis=1).astype(np.uint16)


@dataclass
class Posts:
    """Some posts as columns."""

    post: np.ndarray
    author: np.ndarray
    terms: np.ndarray
    topic: np.ndarray


def some_posts(n: int, rng: np.random.Generator, topic: int | None = None) -> Posts:
    """Return n new posts, of one topic or of any."""
    author = rng.integers(0, AUTHORS, n)
    if topic is not None:
        author = author // TOPICS * TOPICS + topic
    topics = topic_of(author)
    return Posts(
        rng.integers(1, 2**62, n).astype(np.uint64),
        (author + 1).astype(np.uint64),
        terms_of(topics, rng),
        topics,
    )


def history_of(posts: Posts, actions: np.ndarray, at_ms: np.ndarray) -> History:
    """Return the history that did `actions` u32[n] on posts at times, oldest first."""
    dwell = np.where(actions & DWELL, 20.0, 1.0).astype(np.float32)
    return History(
        posts.post,
        posts.author,
        posts.terms,
        actions.astype(np.uint32),
        dwell,
        np.ones(len(actions), np.uint8),
        at_ms.astype(np.int64),
    )


def candidates_of(posts: Posts, at_ms: int) -> Candidates:
    """Return posts as candidates, an hour old."""
    n = len(posts.post)
    return Candidates(
        posts.post,
        posts.author,
        posts.terms,
        np.full(n, at_ms - HOUR_MS, np.int64),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
    )


def reactions(
    wanted: np.ndarray, eager: bool, posts: Posts, refused: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the action bits u32[n] of a viewer who wants topics with `wanted` [TOPICS] (1, 0 or -1) on n posts."""
    likes = np.where(np.isin(posts.author, refused), -1, wanted[posts.topic])
    chance = np.where(likes > 0, 0.9 if eager else 0.3, 0.02)
    liked = (rng.random(len(likes)) < chance) & (likes >= 0)
    replied = liked & (rng.random(len(likes)) < 0.3)
    disliked = (likes < 0) & (rng.random(len(likes)) < 0.8)
    return np.where(disliked, DISLIKE, liked * (FAVORITE | DWELL) + replied * REPLY).astype(np.uint32)


def example(rng: np.random.Generator, history: int, shown: int) -> tuple[Context, Candidates, np.ndarray]:
    """Return one viewer's context, the candidates shown to him, and what he did with them."""
    first, second, hated = rng.choice(TOPICS, 3, replace=False)
    wanted = np.zeros(TOPICS, int)
    wanted[[first, second]], wanted[hated] = 1, -1
    eager = bool(rng.random() < 0.5)
    at_ms = START_MS + int(rng.integers(0, 20 * 24)) * HOUR_MS
    n = int(rng.integers(history // 2, history + 1))
    past_at = np.sort(at_ms - rng.integers(1, 72, n) * HOUR_MS)
    past = some_posts(n, rng)
    refused = rng.choice(past.author, 2)
    did = reactions(wanted, eager, past, np.zeros(0), rng)
    did = np.where(np.isin(past.author, refused), BLOCK, did).astype(np.uint32)
    posts = some_posts(shown, rng)
    # One of the shown is of a blocked author, so that there is something to learn of blocks.
    posts.author[0] = refused[0]
    posts.topic[0] = topic_of(refused[0].astype(int) - 1)
    posts.terms[:1] = terms_of(posts.topic[:1], rng)
    now = reactions(wanted, eager, posts, refused, rng)
    context = Context(int(rng.integers(1, 2**62)), history_of(past, did, past_at), at_ms, 1)
    return context, candidates_of(posts, at_ms), now


def batch(seed: int, examples: int = 64, history: int = 32, shown: int = 12) -> ExampleBatch:
    """Return a batch of different viewers; the same seed gives the same batch."""
    rng = np.random.default_rng(seed)
    made = [example(rng, history, shown) for _ in range(examples)]

    def past(name: str, like: np.ndarray) -> np.ndarray:
        column = np.zeros((examples, history, *like.shape[1:]), like.dtype)
        for row, (context, _, _) in enumerate(made):
            values = getattr(context.history, name)
            column[row, : len(values)] = values
        return column

    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(candidates, name) for _, candidates, _ in made])

    labels = np.stack([did for _, _, did in made])
    one = made[0][0].history
    return ExampleBatch(
        viewer=np.array([context.key for context, _, _ in made], np.uint64),
        at_ms=np.array([context.at_ms for context, _, _ in made], np.int64),
        surface=np.ones(examples, np.uint8),
        history_post=past("post", one.post),
        history_author=past("author", one.author),
        history_terms=past("terms", one.terms),
        history_actions=past("actions", one.actions),
        history_dwell_s=past("dwell_s", one.dwell_s),
        history_surface=past("surface", one.surface),
        history_at_ms=past("at_ms", one.at_ms),
        history_length=np.array([len(context.history) for context, _, _ in made], np.int64),
        post=stacked("post"),
        author=stacked("author"),
        terms=stacked("terms"),
        created_ms=stacked("created_ms"),
        followed=stacked("followed"),
        has_video=stacked("has_video"),
        label_actions=labels,
        label_dwell_s=np.where(labels & DWELL, 20.0, 1.0).astype(np.float32),
        shown=np.ones(labels.shape, np.bool_),
        valid=np.ones(labels.shape, np.bool_),
    )
