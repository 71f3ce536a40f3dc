"""Posts that nobody has met yet: `python -m benchmarks.new_posts [--checkpoint demo] [--days 10] [--quick]`.

A model of hashed ids knows a post only once people have acted on it. How well are posts ranked before that? Measured on
what simulated people were shown: favourites told from the rest (AUC), and the order of each slate (NDCG@10), over all
posts and over those younger than an hour. In the demo's world the model has met every author; in the strangers' world
all authors and viewers are new to it, with ids it has never hashed. Beside the model stand the truth (its stated
probabilities), popularity so far, and the same model with the contents of all posts hidden. The last two are trained
here alike, in one order and with one seed, but for semantic IDs. Writes docs/results/new-posts.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from benchmarks.pages import markdown_table
from benchmarks.world.training import RATE, SLATE, STEP, TABLES
from flows.options import checkpoint_path
from flows.terminal import bar, console, refusals, rows_table
from flows.training_examples import batches, examples
from flows.training_sources import intake_for
from infra.logs.reader import LogReader
from infra.world import PRESETS, Truth, WorldParameters, simulate, truth_path
from infra.world.parameters import DAY_MS, HOUR_MS
from infra.world.worth import NOBODY, Worth
from models.codebooks import codebook_from
from models.config import DEMO, PhoenixConfig
from models.evaluation import predictions_of
from models.features import RATE_ACTIONS, RATE_SHOWN
from models.inputs import ExampleBatch
from models.metrics import auc
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from models.training import Trainer
from operators.parameters import DEFAULTS
from schemas.actions import ACTION_INDEX, COUNT_NAMES

RESULTS: Final = Path(__file__).parent.parent / "docs" / "results" / "new-posts.md"
MODEL: Final = "the model"
HIDDEN: Final = "the model, contents hidden"
AUC: Final = "AUC of favourites"
FAVORITE: Final = ACTION_INDEX["favorite"]
SHOWN, FAVORITES = COUNT_NAMES.index("shown"), COUNT_NAMES.index("favorite")
# Histories fill first: of seven days the last four are judged.
FROM_DAY: Final = 3.0
EPOCHS: Final = 4
TOP: Final = 10
SAMPLES: Final = 200
# Sixteen topics and some thousand words: six levels of 256 would number every post by itself.
LEVELS: Final = 4
CODES: Final = 64
STRANGERS: Final = msgspec.structs.replace(PRESETS["demo"], seed=7, string_id_share=1.0)

Floats = npt.NDArray[np.floating]
Scorer = Callable[[ExampleBatch], Floats]


class Shown(Struct):
    """What was shown, in slates of up to SLATE: flags and scores of each recommender, [n, SLATE]."""

    valid: npt.NDArray[np.bool_]
    favorite: npt.NDArray[np.bool_]
    young: npt.NDArray[np.bool_]
    scores: dict[str, Floats]


def read(log: Path, from_ms: int = 0, rest: bool = False) -> Iterator[ExampleBatch]:
    """Yield what a log says was served from a time on."""
    made = examples(LogReader(log), intake_for(DEFAULTS, co_likers=False), SLATE)
    late = (one for one in made if one.context.at_ms >= from_ms)
    return batches(late, STEP, DEMO.groups_read, SLATE, rest)


def trained(made: list[ExampleBatch], config: PhoenixConfig, first: Phoenix | None, title: str) -> Phoenix:
    """Return a model trained on batches in their order, some times over; `first` is where semantic IDs come from."""
    settings = TrainingConfig(
        learning_rate=RATE, table_rate=TABLES * RATE, negatives=0, identity_dropout=0.1, decay_steps=EPOCHS * len(made)
    )
    codebook = None if first is None else codebook_from(first, made, config)
    trainer = Trainer(config, 0, settings, codebook=codebook)
    with bar(title) as progress:
        every = (batch for _ in range(EPOCHS) for batch in made)
        trainer.learn(every, lambda report: progress(report.step, EPOCHS * len(made)))
    return trainer.phoenix()


def without_contents(batch: ExampleBatch) -> ExampleBatch:
    """Return a batch in which no post has content terms."""
    return replace(batch, terms=0 * batch.terms, history_terms=0 * batch.history_terms)


def popularity(batch: ExampleBatch) -> Floats:
    """Return the rate of favourites of each post so far, as the ranker reads it."""
    rates: Floats = (batch.counts[..., FAVORITES] + RATE_ACTIONS) / (batch.counts[..., SHOWN] + RATE_SHOWN)
    return rates


def truth_of(log: Path) -> Scorer:
    """Return what gives the stated probability of a favourite."""
    worth = Worth(Truth.load(truth_path(log)))

    def score(batch: ExampleBatch) -> Floats:
        scores = np.zeros(batch.valid.shape)
        for row, (key, at_ms) in enumerate(zip(batch.viewer.tolist(), batch.at_ms.tolist(), strict=True)):
            person, posts = worth.person(key), worth.posts(batch.post[row])
            known = np.flatnonzero(batch.valid[row] & (posts != NOBODY))
            rows, followed = posts[known], batch.followed[row, known]
            focus, _ = worth.focus(person, at_ms)
            told = worth.probabilities(person, at_ms, rows, followed, focus, worth.table["quality"][rows])
            scores[row, known] = told[:, FAVORITE]
        return scores

    return score


def shown_in(log: Path, from_ms: int, scorers: dict[str, Scorer]) -> Shown:
    """Return what a log says was shown from a time on, as every recommender would have scored it."""
    parts = []
    for batch in read(log, from_ms, rest=True):
        happened = (batch.label_actions >> np.uint32(FAVORITE)) & np.uint32(1) == 1
        young = batch.at_ms[:, None] - batch.created_ms < HOUR_MS
        parts.append((batch.valid, happened & batch.valid, young, [score(batch) for score in scorers.values()]))
    valid, favorite, is_young, scores = zip(*parts, strict=True)
    columns = [np.concatenate(column) for column in zip(*scores, strict=True)]
    return Shown(
        np.concatenate(valid),
        np.concatenate(favorite),
        np.concatenate(is_young),
        dict(zip(scorers, columns, strict=True)),
    )


def ndcg(among: npt.NDArray[np.bool_], favorite: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Return the mean NDCG@10 of the slates that hold a favourite and something else, among some posts of each."""
    gain = 1.0 / np.log2(np.arange(2, TOP + 2))
    wanted = favorite & among
    rows = np.flatnonzero(wanted.any(axis=1) & (among & ~favorite).any(axis=1))
    order = np.argsort(np.where(among, -scores, np.inf)[rows], axis=1, kind="stable")[:, :TOP]
    got = (np.take_along_axis(wanted[rows], order, axis=1) * gain[: order.shape[1]]).sum(axis=1)
    best = np.cumsum(gain)[np.minimum(wanted[rows].sum(axis=1), TOP) - 1]
    return float((got / best).mean())


def row_of(name: str, shown: Shown, among: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return a recommender's row: AUC with its spread over samples of slates, and NDCG."""
    scores, rng = shown.scores[name], np.random.default_rng(0)

    def of(slates: npt.NDArray[np.intp]) -> float:
        kept = among[slates]
        return auc(shown.favorite[slates][kept], scores[slates][kept]) or 0.5

    everything = np.arange(len(scores))
    drawn = [of(rng.choice(everything, len(everything))) for _ in range(SAMPLES)]
    return {
        "scores": name,
        AUC: f"{of(everything):.3f} ± {float(np.std(drawn)):.3f}",
        f"NDCG@{TOP}": f"{ndcg(among, shown.favorite, scores):.3f}",
    }


def tables_of(shown: Shown) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a world: of all posts, and of young ones."""
    tables = {}
    for name, among in (("all posts", shown.valid), ("posts younger than an hour", shown.valid & shown.young)):
        title = f"{name}: {int(among.sum()):,} shown, {int((shown.favorite & among).sum()):,} liked"
        tables[title] = [row_of(one, shown, among) for one in shown.scores]
    return tables


def models_of(checkpoint: str, before: WorldParameters, folder: Path) -> dict[str, Scorer]:
    """Return the recommenders that are asked, the small ones trained on some days of the demo's people."""
    demo = Phoenix.load(checkpoint_path(checkpoint))
    log = folder / "before.jsonl.zst"
    with bar("simulating the days before") as progress:
        simulate(log, before, lambda share: progress(share, 1.0))
    made = list(read(log))
    plain = trained(made, DEMO, None, "training without semantic IDs")
    config = msgspec.structs.replace(DEMO, semantic_levels=LEVELS, semantic_codes=CODES)
    with_ids = trained(made, config, plain, "training with them")
    return {
        MODEL: _favorites(demo),
        HIDDEN: _favorites(demo, without_contents),
        "popularity so far": popularity,
        f"trained here on {before.days:g} days": _favorites(plain),
        f"the same with semantic IDs ({LEVELS} x {CODES})": _favorites(with_ids),
    }


def _favorites(phoenix: Phoenix, seen: Callable[[ExampleBatch], ExampleBatch] = lambda batch: batch) -> Scorer:
    return lambda batch: predictions_of(phoenix, seen(batch))[..., FAVORITE]


def main() -> None:
    """Simulate, train, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.new_posts", description=__doc__)
    parser.add_argument("--checkpoint", "-c", default="demo", help="the model to ask")
    parser.add_argument("--days", type=float, default=10.0, help="that the small models are trained on")
    parser.add_argument("--quick", action="store_true", help="a day of training and one of each world, no page")
    told = parser.parse_args()
    days = 1.0 if told.quick else told.days
    start_s = time.process_time()
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with refusals(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scorers = models_of(told.checkpoint, PRESETS["demo"].before(days), folder)
        for title, world in (("The demo's world", PRESETS["demo"]), ("A world of strangers", STRANGERS)):
            log = folder / "world.jsonl.zst"
            simulate(log, msgspec.structs.replace(world, days=FROM_DAY + 0.5) if told.quick else world)
            from_ms = world.start_ms + round(FROM_DAY * DAY_MS)
            results[title] = tables_of(shown_in(log, from_ms, {"the truth": truth_of(log), **scorers}))
    for title, tables in results.items():
        for name, rows in tables.items():
            console.print(rows_table(f"{title}, {name}", rows))
    console.print(f"in {time.process_time() - start_s:.0f} s of CPU time")
    if not told.quick:
        version = Phoenix.load(checkpoint_path(told.checkpoint)).version
        RESULTS.write_text(_page(results, version, days))


def _page(results: dict[str, dict[str, list[dict[str, Any]]]], version: str, days: float) -> str:
    said = [" ".join(part.split()) for part in str(__doc__).split("\n\n")[1:]]
    lines = ["# Posts that nobody has met yet", "", "`python -m benchmarks.new_posts`", "", *said, ""]
    lines += [
        f"Model `{version}`. The small models read {days:g} days of the demo's people in {EPOCHS} passes; a spread is",
        f"the standard deviation over {SAMPLES} samples of slates.",
        "",
        _said(results),
        "",
    ]
    for title, tables in results.items():
        lines += [f"## {title}", ""]
        for name, rows in tables.items():
            lines += [
                f"{name[0].upper()}{name[1:]}.",
                "",
                *markdown_table(list(rows[0]), (list(row.values()) for row in rows)),
            ]
    return "\n".join(lines)


def _said(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return the tables in a few sentences; by world and then all posts and young ones."""
    tables = [rows for tables in results.values() for rows in tables.values()]
    found = [{row["scores"]: float(row[AUC].split()[0]) for row in rows} for rows in tables]
    home, young, away, young_away = (one[MODEL] for one in found)
    bare = [one[HIDDEN] for one in found]
    gains = [list(one.values())[-1] - list(one.values())[-2] for one in found]
    return (
        f"**Of posts younger than an hour favourites are told from the rest at {young:.3f}, of all at {home:.3f}**; of"
        f" strangers' at {young_away:.3f} and {away:.3f}. With their contents hidden it is {bare[1]:.3f} and"
        f" {bare[0]:.3f}, {bare[3]:.3f} and {bare[2]:.3f}: what is new is ranked by what it is about. Semantic IDs"
        f" change it by {min(gains):+.3f} to {max(gains):+.3f}. They are made of the same terms that the model reads"
        " anyway;"
        " X's come from a model that has seen the pictures and the whole text."
    )


if __name__ == "__main__":
    main()
