"""Learning curves: a line of text for the terminal, and a small SVG beside the checkpoint."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BARS: Final = "▁▂▃▄▅▆▇█"
SPARKS: Final = 40
POINTS_MAX: Final = 400
WIDTH: Final = 640
HEIGHT: Final = 180
MARGIN: Final = 40


Column = npt.NDArray[np.float64]


def _means(values: Sequence[float], count: int) -> Column:
    """Return at most `count` means of neighbouring values; those that are not finite are left out."""
    column = np.array(values, np.float64)
    parts = np.array_split(column[np.isfinite(column)], min(count, max(len(column), 1)))
    return np.array([part.mean() for part in parts if len(part)])


def sparkline(values: Sequence[float]) -> str:
    """Return values as a line of bars, from their least to their greatest."""
    means = _means(values, SPARKS)
    if not len(means):
        return ""
    spread = np.ptp(means) or 1.0
    return "".join(BARS[int((one - means.min()) / spread * (len(BARS) - 1))] for one in means)


def curves_svg(
    losses: Sequence[tuple[float, float]], held_out: Sequence[tuple[int, float, float]] = (), best: int = 0
) -> str:
    """Return the losses of each step (ranker, retrieval) as an SVG of two plots.

    `held_out` are those on examples that are not learned from, each after a step: red points, the `best`-th (from 1) a
    large one.
    """
    plots = [
        _plot(name, [loss[column] for loss in losses], column * HEIGHT)
        + _points(
            [loss[column] for loss in losses], [(one[0], one[1 + column]) for one in held_out], column * HEIGHT, best
        )
        for column, name in enumerate(("ranker loss", "retrieval loss"))
    ]
    size = f'width="{WIDTH}" height="{2 * HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">{"".join(plots)}</svg>'
    )


def _down(values: Column, low: float, high: float, top: int) -> Column:
    return top + HEIGHT - MARGIN - (values - low) / ((high - low) or 1.0) * (HEIGHT - 2 * MARGIN)


def _points(values: Sequence[float], held_out: Sequence[tuple[int, float]], top: int, best: int) -> str:
    """Return the losses held out over those of the steps; beyond the highest or the lowest they lie at the edge."""
    means = _means(values, POINTS_MAX)
    if not len(means) or not held_out:
        return ""
    low, high = float(means.min()), float(means.max())
    steps, found = (np.array(column, np.float64) for column in zip(*held_out, strict=True))
    across = MARGIN + steps / len(values) * (WIDTH - 2 * MARGIN)
    down = _down(np.clip(np.nan_to_num(found, nan=high), low, high), low, high, top)
    points = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if number == best else 3}" fill="#b03030"/>'
        for number, (x, y) in enumerate(zip(across, down, strict=True), 1)
    )
    text = f"held out: {', '.join(f'{value:.4g}' for value in found[:6])}{', ...' if len(found) > 6 else ''}"
    if best:
        text += f"; best after pass {best}"
    return f'{points}<text x="{MARGIN}" y="{top + 36}" fill="#b03030">{text}</text>'


def _plot(name: str, values: Sequence[float], top: int) -> str:
    means = _means(values, POINTS_MAX)
    if not len(means):
        return ""
    low, high = float(means.min()), float(means.max())
    across = np.linspace(MARGIN, WIDTH - MARGIN, len(means))
    down = _down(means, low, high, top)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    texts = (
        (MARGIN, top + 24, f"{name}, {len(values):,} steps: {low:.4g} to {high:.4g}, at the end {means[-1]:.4g}"),
        (MARGIN, top + HEIGHT - 16, "step 1"),
        (WIDTH - MARGIN - 40, top + HEIGHT - 16, f"{len(values):,}"),
    )
    words = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in texts)
    return f'{words}<polyline fill="none" stroke="#1d6fb8" stroke-width="1.5" points="{line}"/>'
