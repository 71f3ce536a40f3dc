"""Labelled examples from a log, in its order: what was shown, what was known then, and what came of it.

An example opens when a feed is served and takes in the viewer's actions on its posts for a window; nothing that happens
after it opens goes into its features (x-algorithm.md 3.5). Where a log does not say what was served, an example opens
with a request: the posts acted on within the window are its positives, posts that others acted on are sampled beside
them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.intake import Intake
from flows.past_co_likers import CoLikedThen
from flows.past_counts import CountsThen, Noted, Past, Traced
from infra.logs.reader import LogReader
from infra.polls import REQUEST_MARK, SERVED_MARK, polls_of
from models.inputs import CO_LIKED, TERMS, U32, Candidates, Context, ExampleBatch, untouched
from operators.decode import Poll
from operators.keys import keys_of
from operators.pipeline.candidates import RETRIEVAL
from operators.pipeline.hydration import counts_shown, hydrate
from operators.viewers.query import Origin, Query, Request
from schemas.actions import COUNTS, DWELL_TIME
from schemas.events import FeedRequest, Served
from schemas.ids import key_of

# An example is closed after half an hour without looking back, the inactivity that ends a session.
WINDOW_MS: Final = 30 * 60 * 1000
# Sampled posts come from the latest actions of everybody, so popular ones come up as often as they are acted on.
RECENT_POSTS: Final = 4096


@dataclass(slots=True)
class Open:
    """An example that still takes labels."""

    query: Query
    shown: bool
    posts: list[int]
    counts: CountsThen
    co_liked: CoLikedThen
    actions: dict[int, int] = field(default_factory=dict)
    dwell_s: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example of n posts, at most M; `posts` and labels are as the ranker reads and predicts them."""

    context: Context
    posts: Candidates
    actions: npt.NDArray[np.uint32]
    dwell_s: npt.NDArray[np.float32]
    shown: bool


class ExampleBuilder:
    """Follows a log and yields its examples, over the same state that serves feeds."""

    def __init__(self, intake: Intake, posts_max: int, seed: int = 0) -> None:
        self._intake = intake
        self._posts_max = posts_max
        self._open: dict[int, list[Open]] = {}
        self._in_order: deque[Open] = deque()
        self._recent: deque[int] = deque(maxlen=RECENT_POSTS)
        self._rng = np.random.default_rng(seed)
        self._served_seen = False
        self._past: Past | None = Past(intake.state.posts.counts)

    def take(self, poll: Poll) -> Iterator[Example]:
        """Take a poll that ends with a request or with what was served; yield the examples it closes."""
        intake = self._intake
        # What was served with this poll is not known yet when the example of it opens.
        served, poll.served = poll.served, []
        for updated in intake.update_posts(poll):
            self._label(updated)
            for query in intake.update_viewers(updated):
                if not self._served_seen:
                    self._start(query, posts=None)
        for one in served:
            self._start_served(one)
        if served:
            intake.take_served(served)
        yield from self.close(intake.clock_ms - WINDOW_MS)

    def close(self, before_ms: int) -> Iterator[Example]:
        """Close and yield the examples that opened before this time."""
        while self._in_order and self._in_order[0].query.at_ms < before_ms:
            one = self._in_order.popleft()
            of_viewer = self._open[one.query.context.key]
            of_viewer.remove(one)
            if not of_viewer:
                del self._open[one.query.context.key]
            example = self._finish(one)
            if example is not None:
                yield example
        self._forget_past()

    def _forget_past(self) -> None:
        """Follow the counts' past only as far back as an example that still needs it."""
        if self._past is None:
            return
        oldest = next((one.counts for one in self._in_order if isinstance(one.counts, Traced)), None)
        if oldest is not None:
            self._past.forget(oldest.mark)
        elif self._served_seen:
            self._past.stop()
            self._past = None
        else:
            self._past.forget(self._past.mark())

    def _start_served(self, served: Served) -> None:
        self._served_seen = True
        intake, viewer = self._intake, key_of(served.viewer)
        event = FeedRequest(at=served.at, request=served.request, viewer=served.viewer, surface=served.surface)
        request = Request(event, viewer, intake.parameters, Origin("served", 0, 0), 0.0)
        query = intake.state.viewers.query(request)
        self._start(query, keys_of(served.posts).tolist())

    def _start(self, query: Query, posts: list[int] | None) -> None:
        shown = (posts or [])[: self._posts_max]
        # What a feed showed is known now; without one, what is acted on or sampled later is looked up in the past.
        counts: CountsThen = (
            Noted(self._intake.state.posts, np.array(shown, np.uint64))
            if self._past is None or posts is not None
            else Traced(self._past)
        )
        # Co-likers are not traced back: without a feed they are asked of what has been acted on lately.
        co_liked = CoLikedThen(self._intake.state.posts, query, self._recent if posts is None else shown)
        one = Open(query, posts is not None, shown, counts, co_liked)
        self._open.setdefault(query.context.key, []).append(one)
        self._in_order.append(one)

    def _label(self, poll: Poll) -> None:
        """Enter a poll's actions as labels; the latest example that shows the post takes each."""
        if poll.actions is None:
            return
        columns = zip(
            poll.actions.slot.view(np.uint64).tolist(),
            poll.actions.post.tolist(),
            poll.actions.action.tolist(),
            poll.actions.undo.tolist(),
            poll.actions.dwell_s.tolist(),
            poll.actions.at_ms.tolist(),
            strict=True,
        )
        for viewer, post, action, undo, dwell_s, at_ms in columns:
            if not undo:
                self._recent.append(post)
                self._label_one(viewer, post, action, dwell_s, at_ms)

    def _label_one(self, viewer: int, post: int, action: int, dwell_s: float, at_ms: int) -> None:
        for one in reversed(self._open.get(viewer, ())):
            # Asked of the action's own time: how long an example stays open depends on where polls are cut.
            if not 0 <= at_ms - one.query.at_ms <= WINDOW_MS:
                continue
            if one.shown and post not in one.posts:
                continue
            if not one.shown and post not in one.posts:
                if len(one.posts) == self._posts_max // 2:
                    continue
                one.posts.append(post)
            one.actions[post] = one.actions.get(post, 0) | 1 << action
            if action == DWELL_TIME:
                one.dwell_s[post] = max(dwell_s, one.dwell_s.get(post, 0.0))
            return

    def _finish(self, one: Open) -> Example | None:
        posts = np.array(one.posts, np.uint64)
        if not one.shown:
            if not len(posts):
                return None
            sampled = self._rng.choice(np.array(self._recent, np.uint64), self._posts_max - len(posts))
            posts = np.concatenate([posts, np.setdiff1d(sampled, posts)])
        live = self._intake.state.posts
        rows = live.table.rows_of(posts)
        rows = rows[rows >= 0]
        if not len(rows):
            return None
        table = hydrate(one.query, live, rows, np.full(len(rows), RETRIEVAL, np.uint8))
        keys = table.post.tolist()
        counts = counts_shown(one.counts.kinds, table.post, table.rank_post)
        return Example(
            context=one.query.context,
            posts=replace(table.rank_columns(), counts=counts, co_liked=one.co_liked.columns(table.rank_post)),
            actions=np.array([one.actions.get(key, 0) for key in keys], np.uint32),
            dwell_s=np.array([one.dwell_s.get(key, 0.0) for key in keys], np.float32),
            shown=one.shown,
        )


def examples(
    reader: LogReader,
    intake: Intake,
    posts_max: int,
    seed: int = 0,
    progress: Callable[[float, float], None] | None = None,
) -> Iterator[Example]:
    """Yield the examples of a log in the order they opened."""
    builder = ExampleBuilder(intake, posts_max, seed)
    for raw in polls_of(reader, (REQUEST_MARK, SERVED_MARK)):
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        yield from builder.take(intake.decode(raw))
    yield from builder.close(2**63 - 1)


def batches(
    of: Iterable[Example], size: int, history_max: int, posts_max: int, rest: bool = False
) -> Iterator[ExampleBatch]:
    """Yield batches of `size` examples, padded to `history_max` groups and `posts_max` posts.

    What is left over at the end is a smaller batch with `rest`, and left out without: training compiles one shape.
    """
    waiting: list[Example] = []
    for example in of:
        waiting.append(example)
        if len(waiting) == size:
            yield batch(waiting, history_max, posts_max)
            waiting.clear()
    if rest and waiting:
        yield batch(waiting, history_max, posts_max)


def batch(of: list[Example], history_max: int, posts_max: int) -> ExampleBatch:
    """Return examples as one padded batch."""
    count = len(of)

    def history(name: str, dtype: type, *shape: int) -> npt.NDArray[Any]:
        out: npt.NDArray[Any] = np.zeros((count, history_max, *shape), dtype)
        for row, one in enumerate(of):
            values = getattr(one.context.history, name)[-history_max:]
            out[row, : len(values)] = values
        return out

    def posts(values: Callable[[Example], npt.NDArray[Any]], dtype: type, *shape: int) -> npt.NDArray[Any]:
        out: npt.NDArray[Any] = np.zeros((count, posts_max, *shape), dtype)
        for row, one in enumerate(of):
            out[row, : len(one.posts)] = values(one)
        return out

    sizes = np.array([len(one.posts) for one in of])
    valid = np.arange(posts_max) < sizes[:, None]
    return ExampleBatch(
        viewer=np.array([one.context.key for one in of], np.uint64),
        at_ms=np.array([one.context.at_ms for one in of], np.int64),
        surface=np.array([one.context.surface for one in of], np.uint8),
        history_post=history("post", np.uint64),
        history_author=history("author", np.uint64),
        history_terms=history("terms", np.uint16, TERMS),
        history_actions=history("actions", np.uint32),
        history_dwell_s=history("dwell_s", np.float32),
        history_surface=history("surface", np.uint8),
        history_at_ms=history("at_ms", np.int64),
        history_length=np.array([min(len(one.context.history), history_max) for one in of], np.int64),
        post=posts(lambda one: one.posts.post, np.uint64),
        author=posts(lambda one: one.posts.author, np.uint64),
        terms=posts(lambda one: one.posts.terms, np.uint16, TERMS),
        created_ms=posts(lambda one: one.posts.created_ms, np.int64),
        followed=posts(lambda one: one.posts.followed, np.bool_),
        has_video=posts(lambda one: one.posts.has_video, np.bool_),
        label_actions=posts(lambda one: one.actions, np.uint32),
        label_dwell_s=posts(lambda one: one.dwell_s, np.float32),
        shown=valid & np.array([one.shown for one in of])[:, None],
        valid=valid,
        co_liked=posts(_co_liked, np.uint32, CO_LIKED),
        viewer_counts=np.stack([one.context.counts for one in of]),
        counts=posts(_counts, np.uint32, COUNTS),
    )


def _counts(one: Example) -> U32:
    return one.posts.counts if len(one.posts.counts) else np.zeros((1, COUNTS), np.uint32)


def _co_liked(one: Example) -> U32:
    return one.posts.co_liked if len(one.posts.co_liked) else untouched(1)
