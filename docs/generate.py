"""Write the documents that are generated from code: `python -m docs.generate`. A test holds them against the code."""

from pathlib import Path
from typing import Final

import msgspec
import typer
from typer.cli import get_docs_for_click

from flows.pipeline_table import value_of
from operators.parameters import DEFAULTS, ENTRIES
from operators.pipeline.components import components
from operators.pipeline.scorers import SCORERS
from operators.pipeline.surfaces import SURFACES
from operators.presets import NAMES, differences, preset
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


def algorithm() -> str:
    """Return docs/algorithm.md."""
    lines = [
        NOTE,
        "# The algorithm, stage by stage",
        "",
        "Every component in the order in which it runs, with its rule, the parameters it goes by and where the rule is",
        "from (sections of X's publication). Any of them can be changed or switched off by parameter, by file or by",
        "request. `run_flow.py pipeline` prints this for any set of parameters.",
        "",
        "| stage | component | rule | switch | parameters and defaults | origin |",
        "|---|---|---|---|---|---|",
    ]
    for one in components(DEFAULTS):
        switch = f"`{one.switch}` = {value_of(DEFAULTS, one.switch)}" if one.switch else "always on"
        reads = ", ".join(f"`{name}` = {value_of(DEFAULTS, name)}" for name in one.reads)
        lines.append(f"| {one.stage} | `{one.name}` | {one.rule} | {switch} | {reads} | {one.origin} |")
    lines += [
        "",
        "Other value models (`scoring.value_model`) take the place of the sum's offset, or come in another order:",
        "",
        "| value model | scorers, in order |",
        "|---|---|",
        *(f"| {name} | {', '.join(f'`{one.name}`' for one in chain)} |" for name, chain in SCORERS.items()),
        "",
        "## Other feeds",
        "",
        "A request names the feed that it wants (`feed`); `run_flow.py pipeline --feed NAME` lists its components with",
        "their rules. All are made of the components above and of those that follow here.",
        "",
        "| feed | what it is | components, in order |",
        "|---|---|---|",
        *(f"| {name} | {one.rule} | {_names(name)} |" for name, one in SURFACES.items() if name != "for_you"),
        "",
        "| stage | component | rule | switch | origin |",
        "|---|---|---|---|---|",
        *_others(),
        "",
        "## Presets",
        "",
        "`--parameters NAME` takes one of these; `run_flow.py pipeline --diff january august` compares two.",
    ]
    for name in NAMES:
        dated = preset(name)
        lines += ["", f"### {name}", "", f"{dated.about} ({dated.source}, {dated.date})", ""]
        changed = differences(DEFAULTS, dated.parameters)
        if changed:
            lines += ["| parameter | august-2026 | here |", "|---|---|---|"]
            lines += [f"| `{key}` | {before} | {after} |" for key, (before, after) in changed.items()]
    return "\n".join(lines) + "\n"


def _names(feed: str) -> str:
    """Return the components of a feed by name, without the rules of visibility."""
    return ", ".join(f"`{one.name}`" for one in components(DEFAULTS, feed=feed) if not one.stage.startswith("rule"))


def _others() -> list[str]:
    """Return a row for each component that For You does not have."""
    known = {(one.stage, one.name) for one in components(DEFAULTS)}
    rows = {}
    for feed in SURFACES:
        for one in components(DEFAULTS, feed=feed):
            if (one.stage, one.name) not in known:
                switch = f"`{one.switch}` = {value_of(DEFAULTS, one.switch)}" if one.switch else "always on"
                rows[one.stage, one.name] = f"| {one.stage} | `{one.name}` | {one.rule} | {switch} | {one.origin} |"
    return list(rows.values())


def command_line() -> str:
    """Return docs/command-line.md."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="run_flow.py", title="Command line")
    return f"{NOTE}\n{text.strip()}\n"


def files() -> dict[str, str]:
    """Return the text of each generated document by name."""
    return {"parameters.md": parameters(), "algorithm.md": algorithm(), "command-line.md": command_line()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
