"""What Phoenix reads: a viewer's context, a table of candidates, and batches of labelled examples for training.

Columns, not objects. All ids are 64-bit keys (schemas/ids.py) with 0 for none; times are milliseconds since 1970 UTC.
"""

from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from schemas.actions import COUNTS, VIEWER_COUNTS

TERMS: Final = 4  # content terms of a post; as many as keep "topic + three telling words"
TERM_VALUES: Final = 2**16
# What co-likers say of a post to a viewer: how many posts those who acted on it have in common with the viewer, all in
# all; eighths of an action by the hour and by the half day, as rates that fade; seconds since the last action.
CO_LIKED_NAMES: Final = ("affinity", "rate_hour", "rate_day", "idle_s")
CO_LIKED: Final = len(CO_LIKED_NAMES)
IDLE_UNKNOWN_S: Final = 2**31 - 1

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class History:
    """A viewer's action sequence, n groups, OLDEST FIRST: one row for all the viewer did with a post in one go.

    `post` u64[n], `author` u64[n], `terms` u16[n, 4], `actions` u32[n] (bit i is schemas.actions.ACTIONS[i]),
    `dwell_s` f32[n] seconds, `surface` u8[n], `at_ms` i64[n] (the group's last action).
    """

    post: U64
    author: U64
    terms: U16
    actions: U32
    dwell_s: F32
    surface: U8
    at_ms: I64

    def __len__(self) -> int:
        return len(self.post)

    def part(self, start: int, end: int) -> "History":
        """Return the groups from `start` to `end`, as if there had never been others."""
        return History(
            self.post[start:end],
            self.author[start:end],
            self.terms[start:end],
            self.actions[start:end],
            self.dwell_s[start:end],
            self.surface[start:end],
            self.at_ms[start:end],
        )

    @classmethod
    def empty(cls) -> Self:
        """Return the history of a viewer who has done nothing yet."""
        return cls(
            np.zeros(0, np.uint64),
            np.zeros(0, np.uint64),
            np.zeros((0, TERMS), np.uint16),
            np.zeros(0, np.uint32),
            np.zeros(0, np.float32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
        )


def no_viewer_counts() -> U32:
    """Return the counts of a viewer who was never shown anything, u32[VIEWER_COUNTS]."""
    return np.zeros(VIEWER_COUNTS, np.uint32)


def no_counts() -> U32:
    """Return counts of no post at all, u32[0, COUNTS]: they stand for zeros, however many posts there are."""
    return np.zeros((0, COUNTS), np.uint32)


def no_co_liked() -> U32:
    """Return what co-likers say of no post at all, u32[0, CO_LIKED]: stands for posts that nobody ever acted on."""
    return np.zeros((0, CO_LIKED), np.uint32)


def untouched(*shape: int) -> U32:
    """Return what co-likers say of posts that nobody ever acted on, u32[*shape, CO_LIKED]."""
    out = np.zeros((*shape, CO_LIKED), np.uint32)
    out[..., -1] = IDLE_UNKNOWN_S
    return out


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, when (`at_ms`), where (`surface`, 0 to 15), and what the viewer did before.

    `counts` u32[VIEWER_COUNTS]: how many posts were shown to the viewer, the viewer's actions by kind
    (schemas.actions.COUNT_NAMES), all before `at_ms`, and the posts shown in the last half hour since the last action
    that was more than a look.
    """

    key: int
    history: History
    at_ms: int
    surface: int
    counts: U32 = field(default_factory=no_viewer_counts)


@dataclass(frozen=True, slots=True)
class Candidates:
    """C posts to rank: columns of equal length, a repost standing as its ORIGINAL post and author (x-algorithm.md 1.3).

    `post` u64[C], `author` u64[C], `terms` u16[C, 4], `created_ms` i64[C] (0 unknown), `followed` bool[C] (the viewer
    follows the author), `has_video` bool[C], `counts` u32[C, COUNTS] (how often shown and acted on by anybody before
    the request, by schemas.actions.COUNT_NAMES; no rows at all where nothing was counted), `co_liked` u32[C, CO_LIKED]
    (what co-likers say of them, by CO_LIKED_NAMES; no rows at all where nobody asked them).
    """

    post: U64
    author: U64
    terms: U16
    created_ms: I64
    followed: Bools
    has_video: Bools
    counts: U32 = field(default_factory=no_counts)
    co_liked: U32 = field(default_factory=no_co_liked)

    def __len__(self) -> int:
        return len(self.post)

    def take(self, rows: NDArray[np.intp] | slice) -> "Candidates":
        """Return the candidates at `rows`, in that order."""
        return Candidates(
            self.post[rows],
            self.author[rows],
            self.terms[rows],
            self.created_ms[rows],
            self.followed[rows],
            self.has_video[rows],
            self.counts[rows] if len(self.counts) else self.counts,
            self.co_liked[rows] if len(self.co_liked) else self.co_liked,
        )


@dataclass(frozen=True, slots=True)
class ExampleBatch:
    """B requests with their labelled candidates, padded: history to S (oldest first, at the FRONT), candidates to M.

    `viewer` u64[B], `at_ms` i64[B], `surface` u8[B]; history columns as History with shape [B, S], `history_length`
    i64[B] of them real; candidate columns as Candidates with shape [B, M], of which `valid` bool[B, M] are real;
    labels `label_actions` u32[B, M] and `label_dwell_s` f32[B, M]. `shown` bool[B, M] marks real impressions, where
    an absent action is a true negative; a valid row that was not shown is a sampled post.
    `viewer_counts` u32[B, VIEWER_COUNTS], `counts` u32[B, M, COUNTS] and `co_liked` u32[B, M, CO_LIKED] are as of
    `at_ms`, no rows where nothing was counted.
    Every batch of one training run has the same B, S and M: the step is compiled once.
    """

    viewer: U64
    at_ms: I64
    surface: U8
    history_post: U64
    history_author: U64
    history_terms: U16
    history_actions: U32
    history_dwell_s: F32
    history_surface: U8
    history_at_ms: I64
    history_length: I64
    post: U64
    author: U64
    terms: U16
    created_ms: I64
    followed: Bools
    has_video: Bools
    label_actions: U32
    label_dwell_s: F32
    shown: Bools
    valid: Bools
    viewer_counts: U32 = field(default_factory=lambda: np.zeros((0, VIEWER_COUNTS), np.uint32))
    counts: U32 = field(default_factory=lambda: np.zeros((0, 0, COUNTS), np.uint32))
    co_liked: U32 = field(default_factory=lambda: np.zeros((0, 0, CO_LIKED), np.uint32))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (B, S, M)."""
        return (len(self.viewer), self.history_post.shape[1], self.post.shape[1])

    def context(self, example: int) -> Context:
        """Return the context of one example as `Phoenix.rank` takes it."""
        n = int(self.history_length[example])
        history = History(
            self.history_post[example, :n],
            self.history_author[example, :n],
            self.history_terms[example, :n],
            self.history_actions[example, :n],
            self.history_dwell_s[example, :n],
            self.history_surface[example, :n],
            self.history_at_ms[example, :n],
        )
        counts = self.viewer_counts[example] if len(self.viewer_counts) else no_viewer_counts()
        at_ms, surface = int(self.at_ms[example]), int(self.surface[example])
        return Context(int(self.viewer[example]), history, at_ms, surface, counts)

    def candidates(self, example: int) -> Candidates:
        """Return the M candidates of one example, padding included."""
        return Candidates(
            self.post[example],
            self.author[example],
            self.terms[example],
            self.created_ms[example],
            self.followed[example],
            self.has_video[example],
            self.counts[example] if len(self.counts) else no_counts(),
            self.co_liked[example] if len(self.co_liked) else no_co_liked(),
        )
