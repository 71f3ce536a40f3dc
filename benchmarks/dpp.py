"""Choosing 50 posts that are good and unlike each other: incremental, by determinants, and by score alone.

`run_flow.py bench dpp [--quick]`. CPU time. The determinants are computed once, for pools of up to 150.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.pipeline.scorers.diversity import diverse
from operators.pipeline.scorers.steps import Scores

THETA: Final = 0.65  # x-algorithm.md 1.6
CHOSEN: Final = 50
DETERMINANTS_MAX: Final = 150
Vectors = npt.NDArray[np.float32]


def by_determinants(scores: Scores, vectors: Vectors) -> list[int]:
    """Choose greedily as the rule is written: each time the post with which the determinant is largest."""
    weight = np.exp(THETA / (2 * (1 - THETA)) * scores / scores.max())
    kernel = weight[:, None] * weight[None, :] * (vectors @ vectors.T).astype(np.float64)
    chosen: list[int] = []
    while len(chosen) < CHOSEN:
        rest = [row for row in range(len(scores)) if row not in chosen]
        sets = np.array([[*chosen, row] for row in rest])
        volumes = np.linalg.slogdet(kernel[sets[:, :, None], sets[:, None, :]])[1]
        chosen.append(rest[int(np.argmax(volumes))])
    return chosen


def run(quick: bool) -> list[dict[str, Any]]:
    """Return a row for each pool and number of dimensions."""
    rows = []
    for pool, dimensions in ((150, 64), (150, 128), (150, 1024), (256, 1024), (1000, 1024)):
        rng = np.random.default_rng(pool)
        # 30 topics, so that some posts are near each other.
        topics = rng.standard_normal((30, dimensions))
        vectors = (topics[rng.integers(0, 30, pool)] + 0.7 * rng.standard_normal((pool, dimensions))).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = np.sort(rng.random(pool))[::-1].copy()
        chosen = diverse(scores, vectors, THETA, CHOSEN)
        times = 20 if quick else 100
        ours = _median_ms(lambda s=scores, v=vectors: diverse(s, v, THETA, CHOSEN), times)  # type: ignore[misc]
        row = {
            "pool": pool,
            "dimensions": dimensions,
            "chosen": len(chosen),
            "ms": ours,
            "cosines_ms": _median_ms(lambda v=vectors: v @ v.T, times),  # type: ignore[misc]
            "top_k_ms": _median_ms(lambda s=scores: np.argpartition(-s, CHOSEN), times),  # type: ignore[misc]
            "of_top_k": len(set(chosen.tolist()) & set(range(CHOSEN))),
            "determinants_ms": "-",
            "as_by_determinants": "-",
        }
        if pool <= DETERMINANTS_MAX:
            start = time.thread_time()
            row["as_by_determinants"] = str(by_determinants(scores, vectors) == chosen.tolist())
            row["determinants_ms"] = f"{(time.thread_time() - start) * 1000:.4g}"
        rows.append(row)
    return rows


def _median_ms(work: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return statistics.median(taken) * 1000
