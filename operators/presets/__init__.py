"""Named parameter sets, one file each: what X had at a date, as far as it is public."""

import tomllib
from pathlib import Path
from typing import Final

from msgspec import Struct

from operators.parameters import DEFAULTS, ENTRIES, ParameterRefused, Parameters, Value

FOLDER: Final = Path(__file__).parent
NAMES: Final = tuple(path.stem for path in sorted(FOLDER.glob("*.toml")))


class Preset(Struct, frozen=True):
    """A preset: its parameters, the date they are of, where they are from, and a sentence about them."""

    name: str
    date: str
    source: str
    about: str
    parameters: Parameters


def preset(name: str) -> Preset:
    """Return a preset by its name or the one that begins so. Raises ParameterRefused."""
    meant = [one for one in NAMES if one.startswith(name)]
    if len(meant) != 1:
        raise ParameterRefused(
            f"no preset is called {name}: choose one of {', '.join(NAMES)}, or name a file that ends in .toml"
        )
    tables = tomllib.loads((FOLDER / f"{meant[0]}.toml").read_text())
    told = tables.pop("preset")
    flat: dict[str, Value] = {f"{section}.{key}": value for section, of in tables.items() for key, value in of.items()}
    return Preset(meant[0], told["date"], told["source"], told["about"], DEFAULTS.overridden(flat))


def differences(one: Parameters, other: Parameters) -> dict[str, tuple[Value, Value]]:
    """Return the parameters in which two trees differ, with the value of each, in the order of the tree."""
    found: dict[str, tuple[Value, Value]] = {}
    for name in ENTRIES:
        section, _, field = name.partition(".")
        values = tuple(getattr(getattr(tree, section), field) for tree in (one, other))
        if values[0] != values[1]:
            found[name] = (values[0], values[1])
    return found
