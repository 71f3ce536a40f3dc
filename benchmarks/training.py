"""How fast training is, and what it holds: labelled candidates a second by model and by what moves the tables.

    python -m benchmarks.training [--quick] [--page FILE]

Batches are random and in memory: the time is that of features and of steps, not of reading a log. Each case runs in a
process of its own, for its peak memory. Speeds are medians of rounds, with the least and the most. Wall time says what
this machine gave while others used it too; CPU time says what the work costs: two cores that do nothing else spend two
seconds of it in a second.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.pages import markdown_table
from models.config import DEMO, IDS, STANDARD, PhoenixConfig
from models.inputs import TERMS, ExampleBatch
from models.recipe import TrainingConfig
from models.training import Trainer

AT_MS: Final = 1_767_225_600_000  # an arbitrary moment: 1 January 2026
EXAMPLES: Final = 64
MORE_EXAMPLES: Final = 128
POSTS: Final = 32
WARM_STEPS: Final = 2
ROUNDS: Final = 5
CANDIDATES_A_ROUND: Final = 2**15
CORES: Final = 2
# d 64, 2 layers, history 64: what the target of 20,000 candidates a second is stated for.
SMALL: Final = msgspec.structs.replace(DEMO, layers=2)
RANKER: Final = TrainingConfig(retrieval=False)
DENSE: Final = TrainingConfig(tables="dense")
# Configuration, training, and requests of a step.
CASES: Final[dict[str, tuple[PhoenixConfig, TrainingConfig, int]]] = {
    "small ranker alone, rows read": (SMALL, RANKER, EXAMPLES),
    f"the same, {MORE_EXAMPLES} requests a step": (SMALL, RANKER, MORE_EXAMPLES),
    "small, rows read": (SMALL, TrainingConfig(), EXAMPLES),
    "small, dense AdamW": (SMALL, DENSE, EXAMPLES),
    "ids, rows read": (IDS, TrainingConfig(), EXAMPLES),
    "ids, dense AdamW": (IDS, DENSE, EXAMPLES),
    "standard, rows read": (STANDARD, TrainingConfig(), EXAMPLES),
    "standard, dense AdamW": (STANDARD, DENSE, EXAMPLES),
}
QUICK: Final = ("small ranker alone, rows read", "small, rows read")


def random_batch(config: PhoenixConfig, examples: int, seed: int) -> ExampleBatch:
    """Return so many requests of POSTS posts, histories full, ids by a power law."""
    rng = np.random.default_rng(seed)
    histories, posts = (examples, config.history_max), (examples, POSTS)

    def ids(shape: tuple[int, ...]) -> Any:
        return np.minimum(rng.zipf(1.2, shape), 10**6).astype(np.uint64)

    def words(shape: tuple[int, ...]) -> Any:
        return rng.integers(1, 2**16, (*shape, TERMS), dtype=np.uint16)

    shown = np.ones(posts, np.bool_)
    return ExampleBatch(
        viewer=rng.integers(1, 10**5, examples).astype(np.uint64),
        at_ms=np.full(examples, AT_MS),
        surface=np.ones(examples, np.uint8),
        history_post=ids(histories),
        history_author=ids(histories),
        history_terms=words(histories),
        history_actions=rng.integers(1, 2**10, histories, dtype=np.uint32),
        history_dwell_s=rng.uniform(0, 60, histories).astype(np.float32),
        history_surface=np.ones(histories, np.uint8),
        history_at_ms=np.sort(AT_MS - rng.integers(0, 10**9, histories), axis=1),
        history_length=np.full(examples, config.history_max),
        post=ids(posts),
        author=ids(posts),
        terms=words(posts),
        created_ms=AT_MS - rng.integers(0, 10**8, posts),
        followed=rng.random(posts) < 0.3,
        has_video=rng.random(posts) < 0.3,
        label_actions=(rng.random(posts) < 0.1).astype(np.uint32),
        label_dwell_s=rng.uniform(0, 60, posts).astype(np.float32),
        shown=shown,
        valid=shown,
    )


def measure(name: str) -> dict[str, str]:
    """Return a case's row."""
    config, training, examples = CASES[name]
    trainer = Trainer(config, training=training)
    made = [random_batch(config, examples, seed) for seed in range(4)]
    trainer.learn(made[:WARM_STEPS])
    steps = CANDIDATES_A_ROUND // (examples * POSTS)
    by_wall, by_cpu = [], []
    for _ in range(ROUNDS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        trainer.learn(made[step % len(made)] for step in range(steps))
        by_wall.append(CANDIDATES_A_ROUND / (time.perf_counter() - wall_s))
        by_cpu.append(CORES * CANDIDATES_A_ROUND / (time.process_time() - cpu_s))
    idle = statistics.median(by_cpu)
    return {
        "case": name,
        "candidates/s, wall": f"{statistics.median(by_wall):,.0f} ({min(by_wall):,.0f} to {max(by_wall):,.0f})",
        "candidates/s, two idle cores": f"{idle:,.0f} ({min(by_cpu):,.0f} to {max(by_cpu):,.0f})",
        "requests/s, two idle cores": f"{idle / POSTS:,.0f}",
        "CPU ms a step": f"{1000 * CORES * examples * POSTS / idle:,.0f}",
        "peak MB": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def run(quick: bool = False) -> list[dict[str, str]]:
    """Return the rows of the table, each measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in QUICK if quick else CASES:
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (name,)))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def page(rows: list[dict[str, str]]) -> str:
    """Return the page of docs/results."""
    names = list(rows[0])
    cells = [list(row.values()) for row in rows]
    lines = [
        "# Training: speed and memory",
        "",
        f"`python -m benchmarks.training`, on {os.cpu_count()} cores. A step has {EXAMPLES} requests (unless said",
        f"otherwise) of {POSTS} labelled posts each, and 8 lent negatives that are not counted; histories are full.",
        f"Batches are random and in memory. Speeds are medians of {ROUNDS} rounds of {CANDIDATES_A_ROUND:,} posts, the",
        "least and the most in brackets. The load is the machine's: above 2, others used it too and wall times are",
        "theirs as well. The columns for two idle cores are worked out from CPU time, as if both were busy throughout;",
        "they are no wall time measured.",
        "",
        *markdown_table(names, cells),
        "Small is d 64, 2 layers, history 64. *Rows read* is lazy AdamW that touches the table rows of a step; *dense",
        "AdamW* sweeps all tables in every step. The ranker alone trains with `TrainingConfig(retrieval=False)`.",
        *[f"Not measured in this run: {name}." for name in CASES if name not in {row["case"] for row in rows}],
        "A GPU would be used unchanged where JAX finds one; none was here, so that is untested.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, default=Path("docs/results/training.md"))
    given = parser.parse_args()
    text = page(run(given.quick))
    print(text)
    if not given.quick:
        given.page.write_text(text)


if __name__ == "__main__":
    main()
