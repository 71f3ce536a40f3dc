"""Measure the candidate index against exact search: `python -m benchmarks.index [--quick] [--threads N]`.

Both sides run in one process of their own with the same number of threads for BLAS and FAISS (one, unless asked
otherwise), query by query in turn, on the same vectors of 128 dimensions with 2 % of them removed. The exact side is
the fastest of a NumPy product over chunks with a running threshold, one whole product, and FAISS's IndexFlatIP. Recall
is against exact scores of the original f32 vectors.

`popular` and `niche` have 2,000 topics with power-law sizes; a viewer blends three, drawn by size or evenly. `low_rank`
has axes of falling width; `gaussian` has no structure, the worst case. `trained` are vectors of the demo's model, of 64
dimensions: its authors and the content of its posts put together anew a million times, and its viewers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import faiss
import numpy as np
import numpy.typing as npt

from flows.intake import Intake
from flows.options import checkpoint_path
from infra.logs.reader import LogReader
from infra.polls import polls_of
from infra.world import PRESETS, simulate
from models.inputs import Context
from models.phoenix import Phoenix
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.posts.index import CandidateIndex
from operators.state import MemoryState, live_posts
from schemas.actions import SURFACE_HOME

Matrix = npt.NDArray[np.float32]

DIMENSIONS = 128
RESULTS = 1_000
TOPICS = 2_000
NOISE = 0.6  # length of what a post strays from its topic, of unit length
CASES = ("popular", "niche", "low_rank", "gaussian", "trained")
QUERIES = 24
FOREVER_MS = 2**62
CHUNK = 16_384
REMOVED_SHARE = 0.02


def unit(vectors: Matrix) -> Matrix:
    """Return the rows at length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def made(case: str, posts: int) -> tuple[Matrix, Matrix]:
    """Return posts float32[n,d] and viewers float32[q,d] of one case, seeded."""
    if case == "trained":
        return trained(posts)
    generator = np.random.default_rng(7)
    normal = generator.standard_normal
    if case in {"gaussian", "low_rank"}:
        widths = np.arange(1, DIMENSIONS + 1) ** (-0.7 if case == "low_rank" else 0.0)
        scale = widths.astype(np.float32)
        both = unit(normal((posts + QUERIES, DIMENSIONS), dtype=np.float32) * scale)
        return both[:posts], both[posts:]
    topics = unit(normal((TOPICS, DIMENSIONS), dtype=np.float32))
    sizes = 1 / np.arange(1, TOPICS + 1)
    sizes /= sizes.sum()
    strays = normal((posts, DIMENSIONS), dtype=np.float32) * np.float32(NOISE / np.sqrt(DIMENSIONS))
    vectors = unit(topics[generator.choice(TOPICS, posts, p=sizes)] + strays)
    liked = generator.choice(TOPICS, (QUERIES, 3), p=sizes if case == "popular" else None)
    shares = generator.dirichlet(np.ones(3), QUERIES).astype(np.float32)
    return vectors, unit((topics[liked] * shares[..., None]).sum(axis=1))


def trained(posts: int) -> tuple[Matrix, Matrix]:
    """Return vectors of the demo world's posts and viewers as its model gives them, float32[n,64] and float32[q,64]."""
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        simulate(log, PRESETS["demo"])
        for raw in polls_of(LogReader(log)):
            for poll in intake.update_posts(intake.decode(raw)):
                intake.update_viewers(poll)
    phoenix = Phoenix.load(checkpoint_path("demo"))
    table, sequences = intake.state.posts.table, intake.state.viewers.sequences
    own = table.gather(np.arange(table.base, table.end))
    generator = np.random.default_rng(7)
    by, about = generator.integers(0, len(own.key), (2, posts))
    vectors = phoenix.embed_posts(np.arange(1, posts + 1, dtype=np.uint64), own.author[by], own.terms[about])
    contexts = [Context(0, sequences.of(slot), table.clock_ms, SURFACE_HOME) for slot in range(1, QUERIES + 1)]
    return vectors, np.array([phoenix.embed_viewer(context) for context in contexts])


def by_chunks(vectors: Matrix, query: Matrix) -> npt.NDArray[np.int64]:
    """Search exactly, keeping what beats the best `RESULTS` so far."""
    limit = -np.inf
    kept_scores, kept_rows = [], []
    held = 0
    for start in range(0, len(vectors), CHUNK):
        scores = vectors[start : start + CHUNK] @ query
        rows = np.flatnonzero(scores > limit)
        kept_scores.append(scores[rows])
        kept_rows.append(rows + start)
        held += rows.size
        if held > 4 * RESULTS:
            every, places = np.concatenate(kept_scores), np.concatenate(kept_rows)
            best = np.argpartition(every, every.size - RESULTS)[-RESULTS:]
            kept_scores, kept_rows, held = [every[best]], [places[best]], RESULTS
            limit = float(kept_scores[0].min())
    every, places = np.concatenate(kept_scores), np.concatenate(kept_rows)
    best = np.argpartition(every, every.size - RESULTS)[-RESULTS:]
    return places[best[np.argsort(-every[best])]]


def whole(vectors: Matrix, query: Matrix) -> npt.NDArray[np.int64]:
    """Search exactly by one product."""
    scores = vectors @ query
    best = np.argpartition(scores, scores.size - RESULTS)[-RESULTS:]
    return best[np.argsort(-scores[best])]


def timed(work: Callable[[], object], times: list[float]) -> object:
    """Run `work`, note its milliseconds, return what it returned."""
    start = perf_counter()
    result = work()
    times.append(1e3 * (perf_counter() - start))
    return result


def searched(case: str, posts: int, rounds: int) -> tuple[dict[str, object], CandidateIndex, Matrix]:
    """Return one case's figures, the filled index and the viewers."""
    vectors, viewers = made(case, posts)
    index = CandidateIndex(vectors.shape[1])
    adds: list[float] = []
    for start in range(0, posts, 256):
        rows = np.arange(start, min(start + 256, posts))
        timed(lambda rows=rows: index.add(rows, rows, vectors[rows[0] : rows[-1] + 1]), adds)  # type: ignore[misc]
    removed = np.random.default_rng(1).choice(posts, int(REMOVED_SHARE * posts), replace=False)
    removals: list[float] = []
    for row in removed:
        timed(lambda row=row: index.remove(np.array([row])), removals)  # type: ignore[misc]
    vectors[removed] = 0  # a removed post scores 0 on the exact side, far below the best
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    ways: dict[str, Callable[[Matrix], object]] = {
        "index": lambda query: index.search(query, RESULTS, FOREVER_MS, 0)[0],
        "chunks": lambda query: by_chunks(vectors, query),
        "whole": lambda query: whole(vectors, query),
        "IndexFlatIP": lambda query: flat.search(query[None], RESULTS)[1][0],
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    found = 0
    for viewer in list(viewers) * rounds:
        answers = {way: timed(lambda run=run, v=viewer: run(v), times[way]) for way, run in ways.items()}  # type: ignore[misc]
        found += int(np.isin(np.asarray(answers["index"]), np.asarray(answers["chunks"])).sum())
    medians = {way: float(np.median(each)) for way, each in times.items()}
    fastest = min(("chunks", "whole", "IndexFlatIP"), key=medians.__getitem__)
    low, high = np.quantile(times["index"], [0.1, 0.9])
    figures: dict[str, object] = {
        "case": case,
        "posts": posts,
        "index_ms": round(medians["index"], 2),
        "index_ms_10_90": [round(float(low), 2), round(float(high), 2)],
        "exact_ms": round(medians[fastest], 2),
        "exact_by": fastest,
        "times_faster": round(float(np.median(np.array(times[fastest]) / np.array(times["index"]))), 1),
        "recall": round(found / (RESULTS * QUERIES * rounds), 4),
        "bytes_a_post": round(index.memory_bytes() / posts, 1),
        "add_256_ms": round(float(np.median(adds)), 2),
        "add_256_ms_p99": round(float(np.quantile(adds, 0.99)), 2),
        "training_add_ms": round(max(adds), 0),
        "remove_us": round(1e3 * float(np.median(removals)), 1),
    }
    return figures, index, viewers


def changing(index: CandidateIndex, viewers: Matrix, posts: int, searches: int) -> dict[str, object]:
    """Return the latency of searches alone and of searches with adds and removals between, in turn.

    Each round adds 16 posts, of which one is the viewer's own vector and must come first, then removes it.
    """
    quiet: list[float] = []
    busy: list[float] = []
    row = posts
    for number in range(searches):
        viewer = viewers[number % QUERIES]
        timed(lambda v=viewer: index.search(v, RESULTS, FOREVER_MS, 0), quiet)  # type: ignore[misc]
        rows = np.arange(row, row + 16)
        fresh = unit(np.random.default_rng(number).standard_normal((16, DIMENSIONS), dtype=np.float32))
        fresh[5] = viewer
        index.add(rows, rows, fresh)
        best = timed(lambda v=viewer: index.search(v, RESULTS, FOREVER_MS, 0)[0][0], busy)  # type: ignore[misc]
        if best != row + 5:
            raise RuntimeError("a post added was not found by the next search")
        index.remove(rows[5:6])
        row += 16
    expiry: list[float] = []
    timed(lambda: index.expire(posts // 3), expiry)
    return {
        "case": "searches between adds",
        "search_alone_ms": round(float(np.median(quiet)), 2),
        "search_alone_ms_p99": round(float(np.quantile(quiet, 0.99)), 2),
        "search_after_add_ms": round(float(np.median(busy)), 2),
        "search_after_add_ms_p99": round(float(np.quantile(busy, 0.99)), 2),
        "expire_a_third_ms": round(expiry[0], 3),
    }


def measured(quick: bool, threads: int) -> list[dict[str, object]]:
    """Measure in this process, whose BLAS has `threads`."""
    faiss.omp_set_num_threads(threads)
    posts, rounds = (100_000, 2) if quick else (1_000_000, 3)
    lines = []
    for case in CASES:
        figures, index, viewers = searched(case, posts, rounds)
        lines.append(figures)
        if case == CASES[0]:
            lines.append(changing(index, viewers, posts, 100 if quick else 300))
    return lines


def run(quick: bool, threads: int = 1) -> list[dict[str, object]]:
    """Return a line of figures for each case, measured in a process with `threads` threads."""
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "benchmarks.index", "--inside", "--threads", str(threads)]
    done = subprocess.run(
        command + ["--quick"] * quick, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True
    )
    lines: list[dict[str, object]] = json.loads(done.stdout)
    return lines


def main() -> None:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(description="Measure the candidate index against exact search.")
    parser.add_argument("--quick", action="store_true", help="100,000 posts instead of a million")
    parser.add_argument("--threads", type=int, default=1, help="threads for both sides (default 1)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        print(json.dumps(measured(chosen.quick, chosen.threads)))
        return
    for line in run(chosen.quick, chosen.threads):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
