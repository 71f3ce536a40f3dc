"""Shadow scoring: models that do not rank score the same candidates, for comparison (2023-generation.md 1).

It may neither fail nor hold up a feed: it is done on a thread of its own, once the request's own model has answered,
and goes out by a way of its own. What it costs is the stage `shadow` among the durations; cores that are busy with it
are not there for others.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from models.inputs import F32, Candidates
from operators.clusters.clusters import Clusters, Outputs
from operators.keys import Keys
from operators.posts.names import Names
from operators.viewers.query import Query, Request
from schemas.actions import ACTIONS
from schemas.feeds import ShadowScores
from schemas.ids import key_of

log = logging.getLogger(__name__)

# A value takes 13 bytes of JSON at most, and a message of ours 4 MiB (infra/kafka/topics.py): 2,800 candidates of three
# models fit, of nine the first 1,169.
VALUES_MAX: Final = 200_000
DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be compared: the candidates of a request, their keys, and what its own models said of them.

    `clusters` are the models as they were when the request was ranked.
    """

    clusters: Clusters
    query: Query
    candidates: Candidates
    posts: Keys
    outputs: Outputs
    names: Names


@dataclass(frozen=True, slots=True)
class Compared:
    """A finished comparison, its request, and the seconds that the shadow models took."""

    scores: ShadowScores
    request: Request
    duration_s: float


def is_shadowed(query: Query) -> bool:
    """Return whether shadow models score a request: a share of all, by a hash of the request's id."""
    models = query.parameters.models
    if not models.shadow:
        return False
    hashed = xxhash.xxh3_64_intdigest(key_of(query.request.event.request).to_bytes(8, "little") + b"shadow")
    return bool(hashed / 2**64 < models.shadow_rate)


class Shadows:
    """Shadow work on one thread, finished in the order it was handed in.

    At most `waiting_max` comparisons wait. Beyond that they are passed over where `may_lose`, and counted in `lost`: a
    job on Kafka has viewers waiting. A replay waits for room instead, so that it always gives the same.
    """

    def __init__(self, waiting_max: int = 8, may_lose: bool = False) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._waiting_max = waiting_max
        self._may_lose = may_lose
        self._pending: deque[Future[Compared]] = deque()
        self.lost = 0

    def room(self) -> bool:
        """Return whether the next comparison finds a place; where it may be lost it always may come."""
        return self._may_lose or len(self._pending) < self._waiting_max

    def busy(self) -> bool:
        """Return whether anything is in work."""
        return bool(self._pending)

    def submit(self, what: Comparison) -> None:
        """Hand in a comparison."""
        if self._may_lose and len(self._pending) >= self._waiting_max:
            self.lost += 1
            return
        self._pending.append(self._pool.submit(self._compare, what))

    def finished(self, wait: bool = False) -> list[Compared]:
        """Return what is done, in the order it was handed in; with `wait`, everything."""
        done = []
        while self._pending and (wait or self._pending[0].done()):
            done.append(self._pending.popleft().result())
        return done

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _compare(self, what: Comparison) -> Compared:
        start_s = time.perf_counter()
        answers, failed = dict(what.outputs.by_cluster), []
        for name in what.query.parameters.models.shadow:
            if name in answers:
                continue
            try:
                answers[name] = what.clusters.ask(name, what.query, what.candidates)
            except Exception:  # a model may fail in any way; nobody waits for this one
                log.exception("shadow model %s failed for request %s", name, what.query.request.event.request)
                failed.append(name)
        scores = told(what, answers, failed)
        return Compared(scores, what.query.request, time.perf_counter() - start_s)


def told(what: Comparison, answers: dict[str, F32], failed: Sequence[str]) -> ShadowScores:
    """Return what is logged of a comparison: the answers of each model, and the models that failed."""
    event, spell = what.query.request.event, what.names.original_id
    count = min(len(what.posts), VALUES_MAX // max(1, len(answers) * len(ACTIONS)))
    spelled = [spell(key) for key in what.posts[:count].tolist()]
    rows = np.flatnonzero([one is not None for one in spelled])
    columns: dict[str, list[float]] = {}
    for name, outputs in answers.items():
        values = rounded(outputs[rows])
        for column, action in enumerate(ACTIONS):
            columns[f"phoenix.{name}.{action}"] = values[:, column].tolist()
    return ShadowScores(
        at=event.at,
        request=event.request,
        viewer=event.viewer,
        cluster=what.query.parameters.models.cluster,
        ranked_by=what.outputs.model,
        models={name: what.clusters.version(name) for name in answers},
        candidates=len(what.posts),
        posts=tuple(one for one in spelled if one is not None),
        scores=columns,
        failed=tuple(failed),
    )


def rounded(values: F32) -> npt.NDArray[np.float64]:
    """Return values to six digits, so that JSON spells each in 13 characters at most and small ones keep theirs."""
    exact = values.astype(np.float64)
    size = np.abs(exact)
    places = DIGITS - 1 - np.floor(np.log10(np.where(size > 0, size, 1.0)))
    # A power of ten up to 22 is exact in double precision, and so a quotient by it is the nearest to its decimal.
    scale = 10.0 ** np.clip(places, 0, 22)
    return np.asarray(np.rint(exact * scale) / scale)
