"""Experiments: viewers fall into arms by a stable hash, and an arm overrides parameters of its viewers' requests.

A file names them:

    [feed-length]                       # an experiment; its name is what viewers are hashed with
    control = { share = 0.9 }
    shorter = { share = 0.1, parameters = { "selection.result_size" = 20 } }

Who is in which arm depends on the viewer's key and the experiment's name alone: on every instance, after every restart.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import xxhash
from msgspec import Struct

from operators.parameters import DEFAULTS, Overriding, ParameterRefused, Parameters, for_request

# Shares are written with a few digits; what they miss of a whole is rounding.
SHARE_TOLERANCE: Final = 1e-9

# Experiments with the arm that a viewer is in.
Exposures = tuple[tuple[str, str], ...]


class Arm(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the viewers and what is different for them."""

    share: float
    parameters: dict[str, Overriding] = {}


class Experiments:
    """Named experiments, each with its arms in order."""

    def __init__(self, arms: Mapping[str, Mapping[str, Arm]]) -> None:
        """Raises ParameterRefused where shares do not sum to one, or an arm overrides what no request may."""
        self._arms = {name: dict(of) for name, of in arms.items()}
        for name, of in self._arms.items():
            total = sum(arm.share for arm in of.values())
            if any(not 0 <= arm.share <= 1 for arm in of.values()) or abs(total - 1) > SHARE_TOLERANCE:
                raise ParameterRefused(f"experiment {name}: shares of its arms sum to {total:g}; they must sum to 1")
            for arm_name, arm in of.items():
                try:
                    for_request(DEFAULTS, arm.parameters)
                except ParameterRefused as error:
                    raise ParameterRefused(f"experiment {name}, arm {arm_name}: {error}") from None

    @classmethod
    def load(cls, path: Path) -> "Experiments":
        """Return the experiments of a TOML file. Raises ParameterRefused."""
        try:
            tables = tomllib.loads(path.read_text())
            return cls(msgspec.convert(tables, dict[str, dict[str, Arm]]))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ParameterRefused(f"experiment file {path} can't be read: {error}") from None

    @property
    def arms(self) -> dict[str, tuple[str, ...]]:
        """The names of the arms of each experiment, in the order of the file."""
        return {name: tuple(of) for name, of in self._arms.items()}

    def check(self, base: Parameters, check: Callable[[Parameters], None]) -> None:
        """Check each arm's parameters; raises what `check` raises as ParameterRefused, with experiment and arm."""
        for name, of in self._arms.items():
            for arm_name, arm in of.items():
                try:
                    check(for_request(base, arm.parameters))
                except ParameterRefused as error:
                    raise ParameterRefused(f"experiment {name}, arm {arm_name}: {error}") from None

    def exposures(self, viewer: int) -> Exposures:
        """Return the arm that a viewer, by key, is in, for each experiment."""
        return tuple((name, self._arm_of(name, viewer)) for name in self._arms)

    def for_request(
        self, base: Parameters, viewer: int, overrides: Mapping[str, Overriding]
    ) -> tuple[Parameters, Exposures]:
        """Return the parameters of a viewer's request: the job's, then the arms' in order, then the request's own.

        Raises ParameterRefused.
        """
        exposures = self.exposures(viewer)
        changed: dict[str, Overriding] = {}
        for name, arm in exposures:
            changed |= self._arms[name][arm].parameters
        return for_request(base, changed | dict(overrides)), exposures

    def _arm_of(self, name: str, viewer: int) -> str:
        point = xxhash.xxh3_64_intdigest(viewer.to_bytes(8, "little") + name.encode()) / 2**64
        below = 0.0
        for arm_name, arm in self._arms[name].items():
            below += arm.share
            if point < below:
                return arm_name
        return arm_name


NO_EXPERIMENTS: Final = Experiments({})
