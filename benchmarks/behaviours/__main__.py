"""What the demo model has learned of how people behave: `python -m benchmarks.behaviours [--checkpoint NAME]`.

Seven behaviours that a For You model must show (2023-generation.md 6), each measured on pairs of one viewer's history
that differ in nothing but the actions named. An effect is how much likelier a favourite becomes, as a difference of
logarithms (.1: about a tenth likelier); where other posts are named beside, theirs is taken off. Red: the mean of the
pairs and its 95 % interval. tests/flows/test_behaviours.py holds the model to a least effect. Writes
docs/results/behaviours.md and its pictures.
"""

import argparse
from pathlib import Path
from typing import Any, Final

from benchmarks.behaviours.drawing import histogram
from benchmarks.behaviours.effects import BEHAVIOURS, Behaviour, effects, interval
from benchmarks.pages import markdown_table
from flows.options import checkpoint_path
from flows.terminal import bar, console, refusals, rows_table
from models.phoenix import Phoenix

RESULTS: Final = Path(__file__).parent.parent.parent / "docs" / "results"
PAIRS: Final = 400


def main() -> None:
    """Measure, print, draw and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.behaviours", description=__doc__)
    parser.add_argument("--checkpoint", "-c", default="demo", help="the model to ask")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="histories of each behaviour")
    told = parser.parse_args()
    rows, pictures = [], []
    with refusals(), bar("asking") as progress:
        phoenix = Phoenix.load(checkpoint_path(told.checkpoint))
        for done, behaviour in enumerate(BEHAVIOURS, 1):
            row, picture = measured(phoenix, behaviour, told.pairs)
            rows.append(row)
            pictures.append(picture)
            progress(done, len(BEHAVIOURS))
    console.print(rows_table(f"{told.pairs} pairs each", rows))
    folder = RESULTS / "behaviours"
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, 1):
        (folder / f"{number:02}.svg").write_text(picture)
    (RESULTS / "behaviours.md").write_text(_page(rows, phoenix, told.pairs))


def measured(phoenix: Phoenix, behaviour: Behaviour, pairs: int) -> tuple[dict[str, Any], str]:
    """Return a behaviour's row and its picture."""
    values = effects(phoenix, behaviour, pairs)
    mean, low, high = interval(values)
    row = {
        "behaviour": behaviour.name,
        "what differs": behaviour.said,
        "mean effect": f"{mean:+.3f}",
        "95 %": f"{low:+.3f} to {high:+.3f}",
        "pairs that way": f"{(values * behaviour.sign > 0).mean():.0%}",
        "shown": "yes" if min(low * behaviour.sign, high * behaviour.sign) > 0 else "no",
        "held by a test": f"{behaviour.sign * behaviour.least:+.2f}" if behaviour.least else "",
    }
    return row, histogram(values, mean, low, high)


def _page(rows: list[dict[str, Any]], phoenix: Phoenix, pairs: int) -> str:
    said = [" ".join(part.split()) for part in str(__doc__).split("\n\n")[1:]]
    lines = ["# Behaviours", "", "`python -m benchmarks.behaviours`", "", *said, ""]
    lines += [f"Model `{phoenix.version}`, {pairs} pairs each.", ""]
    lines += markdown_table(list(rows[0]), (list(row.values()) for row in rows))
    lines += [
        "The seventh, diversity and recency, is no matter of the model: a factor for each further post of an author,",
        "and a filter by age. tests/operators/pipeline/ and tests/acceptance/ hold the pipeline to both.",
        "",
    ]
    for number, (row, behaviour) in enumerate(zip(rows, BEHAVIOURS, strict=True), 1):
        lines += [f"## {number}. {row['behaviour'].capitalize()}: {row['what differs']}", ""]
        lines += [" ".join(str(behaviour.effect.__doc__).split()), ""]
        lines += [f"![{row['mean effect']}](behaviours/{number:02}.svg)", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
