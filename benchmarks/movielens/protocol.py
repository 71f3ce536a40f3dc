"""The published protocol on MovieLens 1M: which films a user had seen, which one is next, and how it is judged."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.terminal import bar
from flows.training_histories import training_histories
from infra.importers import run as run_import
from infra.logs.reader import LogReader
from models.inputs import Context, History
from models.phoenix import Phoenix
from models.sequences import Catalogue
from operators.parameters import DEFAULTS

TOP: Final = 10
# Ratings span three years, and all films are there from the first.
LIVING: Final = DEFAULTS.overridden({"posts.retention_s": 1100 * 86_400})

Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Films:
    """The catalogue, and each user's films in time order as rows of it, with histories to match."""

    catalogue: Catalogue
    rows: list[npt.NDArray[np.int64]]
    histories: list[History]


def load(sources: list[str]) -> Films:
    """Return the ratings as the events of the importer have them. Raises ImportRefused."""
    with tempfile.TemporaryDirectory() as folder, bar("importing MovieLens 1M") as progress:
        log = Path(folder) / "movielens.jsonl"
        run_import("movielens", sources, log, progress=lambda share: progress(share, 1.0))
        made = training_histories(LogReader(log), LIVING)
    row_of = {post: row for row, post in enumerate(made.catalogue.post.tolist())}
    histories = [context.history for context in made.contexts]
    rows = [np.array([row_of[post] for post in history.post.tolist()]) for history in histories]
    return Films(made.catalogue, rows, histories)


def before(history: History, held_out: int) -> Context:
    """Return the context in which the film that many from the end is to be found."""
    return Context(0, history.part(0, len(history) - held_out), 0, 0)


def judged(films: Films, held_out: int, scores: Callable[[int], Scores], every: int = 1) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 of each user's film that many from the end; `scores` gives those of all films.

    Of the users every so many-th one is asked about.
    """
    hits, gains = 0, 0.0
    users = range(0, len(films.rows), every)
    for user in users:
        known, wanted = films.rows[user][:-held_out], films.rows[user][-held_out]
        given = scores(user).copy()
        given[known] = -np.inf
        rank = int((given > given[wanted]).sum())
        if rank < TOP:
            hits += 1
            gains += 1 / math.log2(rank + 2)
    return hits / len(users), gains / len(users)


def of_model(phoenix: Phoenix, films: Films, held_out: int, every: int = 1) -> tuple[float, float]:
    """Return what `judged` does for a model, through the vectors that serve."""
    posts = phoenix.embed_posts(*films.catalogue)

    def scores(user: int) -> Scores:
        found: Scores = posts @ phoenix.embed_viewer(before(films.histories[user], held_out))
        return found

    return judged(films, held_out, scores, every)
