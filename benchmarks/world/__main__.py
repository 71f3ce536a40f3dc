"""Feeds of the simulated demo world against its truth: `python -m benchmarks.world [--checkpoint NAME] [--quick]`.

Everybody who recommends chooses from the same posts: all live ones that pass the filters for that viewer and moment.
Worth is the weighted sum of true probabilities with the weights that rank (x-algorithm.md 1.5); a feed is worth the
mean of its first ten posts. Intervals are of 1,000 bootstrap samples of viewers. Writes docs/results/world.md.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.pages import markdown_table
from benchmarks.world.judging import ALONE, FORYOU, ORACLE, PLAIN, TASTES, UNTRAINED, WARM_ACTIONS, Judged, judge
from flows.options import checkpoint_path
from flows.terminal import bar, console, refusals, rows_table
from infra.world import PRESETS, WorldParameters, simulate
from infra.world.parameters import DAY_MS
from infra.world.rates import BASE_RATES, NEGATIVE
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS

RESULTS: Final = Path(__file__).parent.parent.parent / "docs" / "results" / "world.md"
SAMPLES: Final = 1000
# The demo's people in eight days of their own: settings were chosen by requests of the demo's week.
DAYS: Final = 8.0
FROM_DAY: Final = 7.0
SIMPLE: Final = (
    "co-liker",
    "popular, last 24 h",
    "newest of those followed",
    "newest",
    "random",
)
LADDER: Final = (
    TASTES,
    "an author's mean in place of a post's quality",
    "neither a post's quality nor the session's topic",
    "the truth, among what the sources bring",
    *(f"the truth, with {name}" for name in ALONE),
    "the truth, with all of these",
    "the truth, with all of these, among what the sources bring",
    "Phoenix, the truth for positive actions",
    "Phoenix, the truth for negative actions",
    "Phoenix, negative actions left out",
    "Phoenix, among all posts",
    PLAIN,
    "For You, without diversity by DPP",
    FORYOU,
)

LADDER_AUTHORS, LADDER_LEAST, LADDER_FOUND = LADDER[1:4]
LADDER_BOOST: Final = f"the truth, with {list(ALONE)[2]}"
LADDER_ALL: Final = "the truth, with all of these, among what the sources bring"
LADDER_NEGATIVES: Final = "Phoenix, the truth for negative actions"
LADDER_PHOENIX: Final = "Phoenix, among all posts"

Floats = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


def table(judged: Judged, names: tuple[str, ...], of: npt.NDArray[np.bool_]) -> Rows:
    """Return a row for each recommender, over some of the requests: worth, share of the oracle, and of its good."""
    viewer, oracle = np.array(judged.viewer)[of], np.array(judged.worth[ORACLE])[of]
    best = np.array(judged.positive[ORACLE])[of].mean()
    samples = _samples(viewer)
    rows = []
    for name in names:
        worth = np.array(judged.worth[name])[of]
        shares = (samples @ worth) / (samples @ oracle)
        low, high = np.quantile(shares, (0.025, 0.975))
        rows.append(
            {
                "feed": name,
                "mean worth": f"{worth.mean():.3f}",
                "share of the best": f"{worth.mean() / oracle.mean():.1%}",
                "95 %": f"{low:.1%} to {high:.1%}",
                "positive part alone": f"{np.array(judged.positive[name])[of].mean() / best:.1%}",
            }
        )
    return rows


def _samples(viewer: npt.NDArray[np.int64]) -> Floats:
    """Return how often each request is in each bootstrap sample of viewers, [samples, requests]."""
    rng = np.random.default_rng(0)
    everybody, group = np.unique(viewer, return_inverse=True)
    drawn = rng.multinomial(len(everybody), np.full(len(everybody), 1 / len(everybody)), SAMPLES)
    return drawn[:, group].astype(np.float64)


def main() -> None:
    """Simulate, judge, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world", description=__doc__)
    parser.add_argument("--checkpoint", "-c", default="demo", help="the model to judge")
    parser.add_argument("--every", type=int, default=3, help="judge every so many-th request")
    parser.add_argument("--quick", action="store_true", help="every thirtieth, no page: to see that it works")
    told = parser.parse_args()
    with refusals(), tempfile.TemporaryDirectory() as folder:
        phoenix = Phoenix.load(checkpoint_path(told.checkpoint))
        world = msgspec.structs.replace(
            PRESETS["demo"], days=DAYS, requests_from_day=FROM_DAY, new_readers_from_day=FROM_DAY
        )
        log = Path(folder) / "log.jsonl.zst"
        with bar("simulating") as progress:
            summary = simulate(log, world, lambda share: progress(share, 1.0))
        with bar("judging") as progress:
            asked = summary.kinds["feed_request"]
            from_ms = world.start_ms + round(FROM_DAY * DAY_MS)
            judged = judge(log, phoenix, from_ms, lambda done: progress(done, asked), 30 if told.quick else told.every)
    tables = _tables(judged)
    for title, rows in tables.items():
        console.print(rows_table(title, rows))
    if not told.quick:
        RESULTS.write_text(_page(tables, judged, phoenix, world))


def _tables(judged: Judged) -> dict[str, Rows]:
    warm = np.array(judged.warm)
    everybody = np.ones(len(warm), np.bool_)
    feeds = (ORACLE, TASTES, PLAIN, FORYOU, UNTRAINED, *SIMPLE)
    tables = {}
    for name, of in ((f"Viewers with {WARM_ACTIONS} actions or more", warm), ("Viewers with fewer", ~warm)):
        if of.any():
            tables[f"{name}: {of.sum():,} requests of {len(np.unique(np.array(judged.viewer)[of]))}"] = table(
                judged, feeds, of
            )
    tables["Where the rest goes: one thing less than the truth, all requests"] = table(judged, LADDER, everybody)
    tables["What there was to choose from"] = [
        {"mean of a request": name, "": f"{np.mean(values):.2f}"} for name, values in judged.facts.items()
    ]
    return tables


def _reading(judged: Judged) -> list[str]:
    """Return what the tables say, in words."""
    best = np.mean(judged.worth[ORACLE])

    def share(name: str) -> str:
        return f"{np.mean(judged.worth[name]) / best:.0%}"

    weights = {name: BASE_RATES[name] * getattr(DEFAULTS.weights, name) for name in NEGATIVE}
    heaviest = min(weights, key=lambda name: weights[name])
    return [
        f"**For You collects {share(PLAIN)} of the best possible where it ranks by worth, {share(FORYOU)} as served"
        f" with X's factors.** The goal was 90 % for warm viewers.",
        "",
        f"* As served nobody could reach 90 %: the truth itself in the model's place brings {share(LADDER_ALL)}. What"
        f" costs most is that a reply to somebody who follows back counts 20 instead of 5: alone it leaves"
        f" {share(LADDER_BOOST)}.",
        f"* Nor could anybody who does not know how good a post itself is: all of the truth but that, its author's mean"
        f" in its place, brings {share(LADDER_AUTHORS)}, and without the session's topic {share(LADDER_LEAST)}. A post"
        " here is shown a dozen times in its life, so counts tell little of it.",
        f"* The sources are not the loss: the truth among what they bring reaches {share(LADDER_FOUND)}.",
        f"* Negative actions: the truth in place of the model's word on them lifts Phoenix from {share(LADDER_PHOENIX)}"
        f" to {share(LADDER_NEGATIVES)}. A post wholly disliked costs {-sum(weights.values()):.2f} in all,"
        f" {-weights[heaviest]:.2f} of it {heaviest} and {-weights['report']:.2f} report, for all its weight of -234"
        " (spam: eight times that). Feeds below zero come of many dull posts, not of a few reported ones.",
        "* What is left is the model's: tastes, and what a session is about.",
        "",
    ]


def _page(tables: dict[str, Rows], judged: Judged, phoenix: Phoenix, world: WorldParameters) -> str:
    said = [" ".join(part.split()) for part in str(__doc__).split("\n\n")[1:]]
    lines = ["# The simulated world, where the truth is known", "", "`python -m benchmarks.world`", "", *said, ""]
    lines += [
        f"Model `{phoenix.version}`, trained by: `{phoenix.origin.command}`. The world: the demo's {world.people}"
        f" people in {world.days:g} days of their own, one seed; settings were chosen by requests of the demo's week,"
        f" never by these. Judged are {len(judged.viewer):,} requests of the last day, evenly spread over it.",
        "",
    ]
    lines += _reading(judged)
    for title, rows in tables.items():
        lines += [f"## {title}", "", *markdown_table(list(rows[0]), (list(row.values()) for row in rows))]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
