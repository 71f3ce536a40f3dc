"""`python -m benchmarks.kafka [--quick] [--only CASE...] [--json]`: the table of what the job on Kafka reaches."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.kafka.bench import QUICK, Bench, Outcome, Sizes
from benchmarks.kafka.cases import effects, few, many, overload
from benchmarks.kafka.learning import learning
from benchmarks.kafka.load import burst, events, stall
from benchmarks.kafka.scaling import instances, scale, start
from benchmarks.kafka.swapping import swap
from flows.options import checkpoint_path
from flows.terminal import console, print_json, rows_table
from infra.kafka import KafkaRefused
from models.config import PRESETS
from models.phoenix import Phoenix

# A dozen columns of figures are not to be broken in a file.
FILE_COLUMNS: Final = 180
# In an order in which those on the same world follow each other.
CASES: Final[dict[str, Callable[[Bench], Outcome]]] = {
    case.__name__: case
    for case in (many, few, overload, events, effects, burst, stall, swap, learning, start, instances, scale)
}


def main() -> None:
    """Run the cases and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kafka", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of posts and viewers, windows of 3 s")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="these cases alone")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument("--random", action="store_true", help="requests come at random (Poisson) instead of evenly")
    parser.add_argument(
        "--model",
        default="demo",
        help="a checkpoint, `demo`, or a preset with random weights: standard (d 128, history 128)",
    )
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="foryou-bench-model-") as folder:
        checkpoint = checkpoint_path(told.model)
        if not checkpoint.exists() and told.model in PRESETS:
            checkpoint = Path(folder) / f"{told.model}.phoenix"
            Phoenix.untrained(PRESETS[told.model]).save(checkpoint)
        try:
            with Bench(QUICK if told.quick else Sizes(), checkpoint, "random" if told.random else "even") as bench:
                _run(bench, told.only, told.json)
        except KafkaRefused as refused:
            sys.exit(f"error: {refused}")


def _run(bench: Bench, names: list[str], as_json: bool) -> None:
    sizes, results = bench.sizes, dict[str, Any]()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    if not as_json:
        console.print(f"broker: {bench.broker_kind}; {sizes.posts:,} live posts, {sizes.viewers:,} viewers; "
                      f"medians of {sizes.windows} windows of {sizes.window_s:g} s (least to most)")  # fmt: skip
    for name in names:
        start_s = time.monotonic()
        outcome = CASES[name](bench)
        reaches = [verdict.row() for verdict in outcome.verdicts]
        results[name] = {"reaches": reaches, **outcome.tables}
        if as_json:
            continue
        console.rule(f"{name}: {CASES[name].__doc__} ({time.monotonic() - start_s:.0f} s)")
        for title, rows in {**outcome.tables, "reaches": reaches}.items():
            console.print(rows_table(title, rows))
    if as_json:
        print_json(results)


if __name__ == "__main__":
    main()
