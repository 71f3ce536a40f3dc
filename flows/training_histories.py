"""The whole history of every viewer from a log: what a causal user tower is trained on (models/sequences.py).

The state that serves keeps the last groups of a viewer; training wants all of them, by the same rule: actions on one
post within `history.window_s` of the group's last one are one group (operators/viewers/sequences.py).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from flows.intake import Intake
from infra.logs.reader import LogReader
from infra.polls import polls_of
from models.inputs import Context, History
from models.sequences import Catalogue
from operators.decode import Ownership
from operators.parameters import Parameters
from operators.state import MemoryState, live_posts
from operators.viewers.sequences import Actions
from schemas.actions import DWELL_TIME

Order = npt.NDArray[np.intp]

# A viewer's own surface and key are not asked for: a causal tower reads nothing of when and where it is asked.
AT_MS: Final = 0
SURFACE: Final = 0


class TrainingHistories(NamedTuple):
    """All posts that somebody acted on, and each viewer's history, viewers by key."""

    catalogue: Catalogue
    contexts: list[Context]


def training_histories(
    reader: LogReader,
    parameters: Parameters,
    until_ms: int | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> TrainingHistories:
    """Return the histories of a log, up to a time; actions on posts that are not live are left out.

    Raises LogRefused, and ValueError where nobody acted on anything.
    """
    intake = Intake(MemoryState(parameters, live_posts(parameters)), parameters, Ownership())
    taken: list[Actions] = []
    for raw in polls_of(reader, ()):
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        polls = intake.update_posts(intake.decode(raw))
        taken += [poll.actions for poll in polls if poll.actions is not None]
    if not taken:
        raise ValueError("nobody acted on anything: there are no histories")
    actions = Actions._make(np.concatenate(column) for column in zip(*taken, strict=True))
    kept = (actions.author != 0) & ~_undone(actions)
    if until_ms is not None:
        kept &= actions.at_ms < until_ms
    actions = actions.take(np.flatnonzero(kept))
    _, first = np.unique(actions.post, return_index=True)
    first.sort()
    catalogue = Catalogue(actions.post[first], actions.author[first], actions.terms[first])
    return TrainingHistories(catalogue, _contexts(actions, parameters.history.window_s * 1000))


def _undone(actions: Actions) -> npt.NDArray[np.bool_]:
    """Return which actions were taken back later, and which take one back."""
    order = np.lexsort((np.arange(len(actions.slot)), actions.action, actions.post, actions.slot))
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for column in (actions.slot, actions.post, actions.action):
        same &= column[order][1:] == column[order][:-1]
    undone = actions.undo.copy()
    undone[order[:-1][same & actions.undo[order][1:]]] = True
    return undone


def _contexts(actions: Actions, window_ms: int) -> list[Context]:
    """Return the histories of all viewers, groups in the order they began."""
    arrival = np.arange(len(actions.slot))
    order = np.lexsort((arrival, actions.post, actions.slot))
    slot, post, at_ms = actions.slot[order], actions.post[order], actions.at_ms[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (slot[1:] != slot[:-1]) | (post[1:] != post[:-1]) | (at_ms[1:] - at_ms[:-1] > window_ms)
    starts = np.flatnonzero(begins)
    bits = np.left_shift(np.uint32(1), actions.action[order].astype(np.uint32))
    words: npt.NDArray[np.uint32] = np.bitwise_or.reduceat(bits, starts)
    dwell_s = np.maximum.reduceat(np.where(actions.action[order] == DWELL_TIME, actions.dwell_s[order], 0), starts)
    latest_ms = np.maximum.reduceat(at_ms, starts)
    first = order[starts]
    by_viewer = np.lexsort((first, actions.slot[first]))
    first = first[by_viewer]
    whole = History(
        post=actions.post[first],
        author=actions.author[first],
        terms=actions.terms[first],
        actions=words[by_viewer],
        dwell_s=dwell_s[by_viewer].astype(np.float16).astype(np.float32),  # to the half float that the state keeps
        surface=actions.surface[first],
        at_ms=latest_ms[by_viewer] // 1000 * 1000,
    )
    viewers = actions.slot[first]
    edges = np.flatnonzero(np.diff(viewers, prepend=viewers[0] - 1, append=viewers[-1] + 1))
    return [
        Context(int(viewers[start : start + 1].view(np.uint64)[0]), whole.part(start, end), AT_MS, SURFACE)
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
