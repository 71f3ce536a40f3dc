"""Small histograms as SVG text."""

from typing import Final

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, FLOOR = 320, 110, 84
BINS: Final = 31
STYLE: Final = "font-family:sans-serif;font-size:10px;fill:#444"


def histogram(values: npt.NDArray[np.float64], mean: float, low: float, high: float) -> str:
    """Return an SVG of many effects: bars around zero, the mean with its interval, and the ends of the axis."""
    reach = float(max(np.quantile(np.abs(values), 0.99), abs(low), abs(high), 1e-6)) * 1.05
    counts, edges = np.histogram(np.clip(values, -reach, reach), BINS, (-reach, reach))
    tallest = max(int(counts.max()), 1)

    def x(value: float) -> float:
        return 10 + (WIDTH - 20) * (value + reach) / (2 * reach)

    bars = [
        f'<rect x="{x(left):.1f}" y="{FLOOR - 70 * count / tallest:.1f}" width="{(WIDTH - 20) / BINS - 1:.1f}" '
        f'height="{70 * count / tallest:.1f}" fill="#9bb8d3"/>'
        for left, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
    ]
    marks = [
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="8" y2="{FLOOR}" stroke="#888" stroke-dasharray="3 3"/>',
        f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="8" y2="{FLOOR}" stroke="#b03030" stroke-width="2"/>',
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{FLOOR + 4}" y2="{FLOOR + 4}" stroke="#b03030"'
        ' stroke-width="4"/>',
    ]
    labels = [
        f'<text x="10" y="{HEIGHT - 6}" style="{STYLE}">{-reach:.2g}</text>',
        f'<text x="{x(0):.1f}" y="{HEIGHT - 6}" style="{STYLE}" text-anchor="middle">0</text>',
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 6}" style="{STYLE}" text-anchor="end">{reach:.2g}</text>',
    ]
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *bars, *marks, *labels, "</svg>", ""],
    )
