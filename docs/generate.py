"""Write the documents that are generated from code: `python -m docs.generate`. A test holds them against the code."""

from pathlib import Path
from typing import Final

import msgspec
import typer
from typer.cli import get_docs_for_click

from operators.parameters import ENTRIES
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING
from operators.pipeline.selection import POST_SELECTION
from run_flow import app

FOLDER: Final = Path(__file__).parent
NOTE: Final = "<!-- written by `make docs`; change the code instead -->"


def parameters() -> str:
    """Return docs/parameters.md."""
    lines = [
        NOTE,
        "# Parameters",
        "",
        "Every number of the algorithm, with X's August 2026 values as defaults. Change one in a TOML file",
        "(`--parameters FILE`), on the command line (`--set scoring.oon_factor=0.5`), or in one feed request",
        '(`"parameters": {"scoring.oon_factor": 0.5}`). Those with scope *job* shape the state and stay as started.',
        "Unknown names are refused. The origin is a section of X's publication.",
        "",
        "| parameter | default | type | scope | origin | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for entry in ENTRIES.values():
        default = msgspec.to_builtins(entry.default)
        lines.append(
            f"| `{entry.name}` | {default} | {entry.type} | {entry.scope} | {entry.source} | {entry.description} |"
        )
    return "\n".join(lines) + "\n"


def filters() -> str:
    """Return docs/filters.md."""
    lines = [
        NOTE,
        "# Filters, in order",
        "",
        "| stage | filter | rule |",
        "|---|---|---|",
    ]
    for stage, chain in (
        ("before scoring", PRE_SCORING),
        ("at the slate", AT_THE_SLATE),
        ("after selection", POST_SELECTION),
    ):
        lines += [f"| {stage} | `{one.name}` | {one.rule} |" for one in chain]
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Return docs/command-line.md."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="run_flow.py", title="Command line")
    return f"{NOTE}\n{text.strip()}\n"


def files() -> dict[str, str]:
    """Return the text of each generated document by name."""
    return {"parameters.md": parameters(), "filters.md": filters(), "command-line.md": command_line()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
