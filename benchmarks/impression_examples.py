"""KuaiRand's impressions as the examples that flows/training_examples.py makes of their log, in seconds, by columns.

A log of 222,444 requests is followed for minutes; what the state would know at each of them is also a difference of
running sums (benchmarks/past_statistics.py). tests/benchmarks/test_kuairand.py holds the two to each other, column by
column. They differ in one thing: a video that a viewer is shown again within a session is one group in the state's
history and two here, which is so for one impression in 150 at most.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.past_statistics import Timeline, past
from infra.importers.kuairand import topics_of, uploaded_ms
from models.content import content_terms
from models.inputs import TERMS, ExampleBatch
from operators.viewers.tallies import FEEDS, MORE_THAN_LOOKS, SESSION_S
from schemas.actions import ACTION_INDEX, COUNTED, COUNTS, DWELL_TIME, VIEWER_COUNTS

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
LONG_AGO_MS: Final = np.iinfo(np.int64).min // 4


def examples_of(frame: pl.DataFrame, actions: U32, history: int) -> ExampleBatch:
    """Return an example of one post for each row of impressions in order of time; `actions` are bits of ACTIONS.

    Histories have up to `history` groups; everything is as of the row's time.
    """
    at_ms = frame["time_ms"].to_numpy().astype(np.int64)
    play_ms = frame["play_time_ms"].to_numpy().astype(np.int64)
    known_ms = at_ms + np.maximum(play_ms, 1)
    viewer, video, author = (
        frame[name].to_numpy().astype(np.int64) + shift
        for name, shift in (("user_id", 1), ("video_id", 1), ("author_id", 0))
    )
    done = actions | (play_ms > 0).astype(np.uint32) << np.uint32(DWELL_TIME)
    terms, created_ms = _posts(frame)
    kinds = _kinds(done)
    follows = (done >> np.uint32(ACTION_INDEX["follow_author"]) & np.uint32(1)).astype(np.float64)[:, None]
    followed = past(viewer * (int(author.max()) + 1) + author, at_ms, known_ms, follows).sums[:, 0] > 0
    source, length = _histories(viewer, at_ms, known_ms, done != 0, history)
    real = np.arange(history) < length[:, None]

    def of_history(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = column[source]
        found[~real] = 0
        return found

    ones = np.ones((len(at_ms), 1), np.bool_)
    surface = frame["tab"].to_numpy().astype(np.uint8)
    # The state keeps seconds, and dwell times in half precision.
    dwell_s = (play_ms / 1000).astype(np.float32)
    return ExampleBatch(
        viewer=viewer.astype(np.uint64),
        at_ms=at_ms,
        surface=surface,
        history_post=of_history(video.astype(np.uint64)),
        history_author=of_history(author.astype(np.uint64)),
        history_terms=of_history(terms),
        history_actions=of_history(done),
        history_dwell_s=of_history(dwell_s.astype(np.float16).astype(np.float32)),
        history_surface=of_history(surface),
        history_at_ms=of_history(known_ms // 1000 * 1000),
        history_length=length,
        post=video.astype(np.uint64)[:, None],
        author=author.astype(np.uint64)[:, None],
        terms=terms[:, None],
        created_ms=created_ms[:, None],
        followed=followed[:, None],
        has_video=ones,
        label_actions=done[:, None],
        label_dwell_s=dwell_s[:, None],
        shown=ones,
        valid=ones,
        viewer_counts=_viewer_counts(viewer, at_ms, known_ms, kinds, (done & MORE_THAN_LOOKS) != 0),
        counts=_counts(video, at_ms, known_ms, kinds)[:, None],
    )


def _posts(frame: pl.DataFrame) -> tuple[npt.NDArray[np.uint16], I64]:
    """Return terms u16[n, 4] and creation times of each row's video, as the importer reads them off its first row."""
    numbers, first, places = np.unique(frame["video_id"].to_numpy(), return_index=True, return_inverse=True)
    columns = frame[first].select("tag", "duration_ms", "upload_dt", "time_ms")
    terms, created_ms = np.zeros((len(numbers), TERMS), np.uint16), np.zeros(len(numbers), np.int64)
    for row, (tags, duration_ms, day, seen_ms) in enumerate(columns.iter_rows()):
        terms[row] = content_terms("", topics_of(tags, duration_ms), "")
        created_ms[row] = min(uploaded_ms(day), seen_ms - 1)
    return terms[places], created_ms[places]


def _kinds(done: U32) -> npt.NDArray[np.float64]:
    """Return how many actions of each kind of COUNTED came of each row, [n, COUNTS - 1]."""
    masks = [sum(1 << ACTION_INDEX[name] for name in names) for names in COUNTED.values()]
    kinds: npt.NDArray[np.float64] = np.bitwise_count(done[:, None] & np.array(masks, np.uint32)).astype(np.float64)
    return kinds


def _counts(group: I64, at_ms: I64, known_ms: I64, kinds: npt.NDArray[np.float64]) -> U32:
    """Return how often each row's group was shown before it, and the actions of each kind known then, [n, COUNTS]."""
    counts = np.empty((len(group), COUNTS), np.uint32)
    counts[:, 0] = past(group, at_ms, at_ms, kinds[:, :0]).count
    counts[:, 1:] = past(group, at_ms, known_ms, kinds).sums
    return counts


def _viewer_counts(
    viewer: I64, at_ms: I64, known_ms: I64, kinds: npt.NDArray[np.float64], acted: npt.NDArray[np.bool_]
) -> U32:
    """Return the counts of each row's viewer [n, VIEWER_COUNTS]: the last is of the latest impressions since acting."""
    counts = np.empty((len(viewer), VIEWER_COUNTS), np.uint32)
    counts[:, :COUNTS] = _counts(viewer, at_ms, known_ms, kinds)
    done = Timeline(viewer[acted], known_ms[acted])
    newest, start = done.before(viewer, at_ms) - 1, done.before(viewer, np.full_like(at_ms, LONG_AGO_MS))
    acted_s = np.where(newest >= start, known_ms[acted][done.order][np.maximum(newest, 0)] // 1000, -1)
    acted_s = np.maximum(acted_s, at_ms // 1000 - SESSION_S)
    shown = Timeline(viewer, at_ms)
    end, start = shown.before(viewer, at_ms), shown.before(viewer, np.full_like(at_ms, LONG_AGO_MS))
    place = end[:, None] - 1 - np.arange(FEEDS)
    since = (place >= start[:, None]) & (at_ms[shown.order][np.maximum(place, 0)] // 1000 > acted_s[:, None])
    counts[:, COUNTS] = since.sum(axis=1)
    return counts


def _histories(
    viewer: I64, at_ms: I64, known_ms: I64, acted: npt.NDArray[np.bool_], slots: int
) -> tuple[npt.NDArray[np.intp], I64]:
    """Return the rows [n, slots] of what each row's viewer had done by then, oldest first, and how many."""
    done = Timeline(viewer[acted], known_ms[acted])
    rows = np.flatnonzero(acted)[done.order]
    end, start = done.before(viewer, at_ms), done.before(viewer, np.full_like(at_ms, LONG_AGO_MS))
    length = np.minimum(end - start, slots)
    place = (end - length)[:, None] + np.arange(slots)
    return rows[np.minimum(place, len(rows) - 1)], length
