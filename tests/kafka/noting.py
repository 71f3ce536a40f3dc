"""Runs a command of run_flow.py and notes in a file what the ranker is given: OUT PYTHON RUN_FLOW ARGUMENTS."""

import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    out, _, run_flow, *arguments = sys.argv[1:]
    sys.argv = [run_flow, *arguments]
    sys.path.insert(0, str(Path(run_flow).parent))

    from models.inputs import Candidates, Context
    from models.phoenix import Phoenix

    rank = Phoenix.rank

    def noting(self: Phoenix, context: Context, candidates: Candidates) -> Any:
        with Path(out).open("ab") as file:
            pickle.dump((context, candidates), file)
        return rank(self, context, candidates)

    Phoenix.rank = noting  # type: ignore[method-assign]
    runpy.run_path(run_flow, run_name="__main__")
