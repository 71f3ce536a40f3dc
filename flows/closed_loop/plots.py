"""Small plots as SVG inside a page: lines over days, and bars. No scripts, no fonts or files from elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP_MARGIN, BOTTOM = 52, 190, 16, 40
COLOURS: Final = ("#1d6fb8", "#2a2a2a", "#c25b12", "#3a8f4d", "#8a4fa8", "#a33b3b", "#6b7b8c")
BAR_HEIGHT, BAR_LEFT = 22, 210

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], x_name: str, y_name: str, marks: Sequence[float] = ()) -> str:
    """Return series of points (x, y) by name as lines with a legend; `marks` are upright lines at some x."""
    points = [point for of_one in series.values() for point in of_one]
    if not points:
        return "<p>Nothing to draw.</p>"
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = min(xs), max(*xs, xs[0] + 1e-9)
    y_low, y_high = min(0.0, *ys), max(*ys, ys[0] + 1e-9)

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP_MARGIN)

    parts = [_axes(down, y_low, y_high, x_low, x_high, x_name, y_name)]
    parts += [
        f'<line x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{TOP_MARGIN}" y2="{HEIGHT - BOTTOM}" '
        'stroke="#bbb" stroke-dasharray="2 3"/>'
        for x in marks
        if x_low <= x <= x_high
    ]
    for place, (name, of_one) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in of_one)
        dots = "".join(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="2" fill="{colour}"/>' for x, y in of_one)
        height = TOP_MARGIN + 14 + 18 * place
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>{dots}'
            f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 28}" y1="{height - 4}" y2="{height - 4}" '
            f'stroke="{colour}" stroke-width="3"/><text x="{WIDTH - RIGHT + 34}" y="{height}">{escape(name)}</text>'
        )
    return _svg(WIDTH, HEIGHT, parts)


def bars(rows: Sequence[tuple[str, float]], form: str = ".3g") -> str:
    """Return a bar for each named value; they start at zero, negative ones go to the left of it."""
    low, high = min(0.0, *(value for _, value in rows)), max(1e-9, *(value for _, value in rows))
    scale = (WIDTH - BAR_LEFT - 60) / (high - low)
    zero = BAR_LEFT - low * scale
    parts = []
    for place, (name, value) in enumerate(rows):
        top = 4 + place * BAR_HEIGHT
        start, width = (zero, value * scale) if value >= 0 else (zero + value * scale, -value * scale)
        parts.append(
            f'<text x="{BAR_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{start:.1f}" y="{top + 2}" width="{width:.1f}" height="{BAR_HEIGHT - 6}" fill="{COLOURS[0]}"/>'
            f'<text x="{max(zero, start + width) + 6:.1f}" y="{top + 14}">{value:{form}}</text>'
        )
    return _svg(WIDTH, 8 + BAR_HEIGHT * len(rows), parts)


def _axes(
    down: Callable[[float], float],
    y_low: float,
    y_high: float,
    x_low: float,
    x_high: float,
    x_name: str,
    y_name: str,
) -> str:
    steps = [y_low + (y_high - y_low) * part / 4 for part in range(5)]
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}" stroke="#eee"/>'
        f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:.2f}</text>'
        for y in steps
    )
    base = HEIGHT - BOTTOM
    return (
        f'{grid}<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(0.0):.1f}" y2="{down(0.0):.1f}" stroke="#999"/>'
        f'<text x="{LEFT}" y="{base + 16}">{x_low:.3g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{base + 16}" text-anchor="end">{x_high:.3g}</text>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{base + 30}" text-anchor="middle">{escape(x_name)}</text>'
        f'<text transform="translate(12 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>'
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="sans-serif" font-size="12">'
        f"{''.join(parts)}</svg>"
    )
