"""Tables as the pages of docs/results/ hold them."""

from collections.abc import Iterable, Sequence


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, an empty one last."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in (names, *rows))
    return [head, f"|{'---|' * len(names)}", *body, ""]
