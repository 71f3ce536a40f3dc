"""Benchmarks: each prints one table, peers and limits in the same run, medians with spread."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

Rows = list[dict[str, Any]]


def _run(module: str, quick: bool) -> Rows:
    rows: Rows = importlib.import_module(f"benchmarks.{module}").run(quick)
    return rows


# By name; a suite takes `quick` and returns the rows of its table.
SUITES: Final[dict[str, Callable[[bool], Rows]]] = {
    name: partial(_run, name)
    for name in ("ranker", "thunder", "index", "pipeline", "dpp", "ingest", "memory", "stores")
}
