"""The whole tree of parameters, and how single ones of it are replaced."""

import difflib
import functools
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from operators.parameters.cached_slate import CachedSlate
from operators.parameters.cold_start import ColdStart
from operators.parameters.filters import Filters
from operators.parameters.learning import Learning, LearningSettings
from operators.parameters.models import Hybrid, Models
from operators.parameters.scoring import ClusterInterest, Dpp, Fatigue, Gate, Reputation, Scoring, Weights
from operators.parameters.selection import Pagination, Selection, Serving, SlateDiversity
from operators.parameters.simclusters import SimClusters
from operators.parameters.sources import CoLikers, Fallback, Retrieval, Thunder, Topics
from operators.parameters.state import History, Posts
from operators.parameters.surfaces import Blending, Following
from schemas.actions import ACTIONS

Overriding = bool | int | float | str  # what a request may set a parameter to
Value = Overriding | list[str]


class ParameterRefused(ValueError):
    """A parameter that does not exist, or a value that does not fit it; the message names the way out."""


class Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    history: History = History()
    posts: Posts = Posts()
    thunder: Thunder = Thunder()
    retrieval: Retrieval = Retrieval()
    simclusters: SimClusters = SimClusters()
    co_likers: CoLikers = CoLikers()
    topics: Topics = Topics()
    fallback: Fallback = Fallback()
    cached_slate: CachedSlate = CachedSlate()
    filters: Filters = Filters()
    models: Models = Models()
    hybrid: Hybrid = Hybrid()
    weights: Weights = Weights()
    scoring: Scoring = Scoring()
    gate: Gate = Gate()
    cold_start: ColdStart = ColdStart()
    fatigue: Fatigue = Fatigue()
    reputation: Reputation = Reputation()
    cluster_interest: ClusterInterest = ClusterInterest()
    dpp: Dpp = Dpp()
    slate_diversity: SlateDiversity = SlateDiversity()
    selection: Selection = Selection()
    following: Following = Following()
    pagination: Pagination = Pagination()
    blending: Blending = Blending()
    serving: Serving = Serving()
    learning: Learning = Learning()
    trainer: LearningSettings = LearningSettings()

    def says(self, switch: str) -> bool:
        """Return a parameter that switches something, by its dotted name; what has no switch is on."""
        section, _, field = switch.partition(".")
        return not switch or bool(getattr(getattr(self, section), field))

    def overridden(self, values: Mapping[str, Value], scope: str = "job") -> "Parameters":
        """Return the tree with `values` (dotted name to value) in place of its own.

        `scope` "request" refuses parameters that shape the state. Raises ParameterRefused.
        """
        tree: dict[str, Any] = msgspec.to_builtins(self)
        for name, value in values.items():
            entry = ENTRIES.get(name)
            if entry is None:
                raise ParameterRefused(_unknown(name))
            if scope == "request" and entry.scope == "job":
                raise ParameterRefused(f"parameter {name} belongs to the job; a request can't change it")
            if isinstance(value, float) and not math.isfinite(value):
                raise ParameterRefused(f"parameter {name} can't be {value}: give a finite number")
            section, _, field = name.partition(".")
            tree[section][field] = value
        try:
            return msgspec.convert(tree, Parameters)
        except msgspec.ValidationError as error:
            raise ParameterRefused(f"parameter {str(error).replace(' - at `$.', ' at `')}") from None


class Entry(Struct, frozen=True):
    """One parameter as documents and refusals need it."""

    name: str
    default: Any
    type: str
    description: str
    source: str
    scope: str


def _entries() -> Iterator[Entry]:
    for section, struct in get_type_hints(Parameters).items():
        for field, hint in get_type_hints(struct, include_extras=True).items():
            kind, meta = get_args(hint)[0], get_args(hint)[1]
            extra = meta.extra
            yield Entry(
                name=f"{section}.{field}",
                default=getattr(getattr(Parameters(), section), field),
                type={tuple: "list", Literal: "str"}.get(get_origin(kind)) or kind.__name__,
                description=meta.description or field.replace("_", " "),
                source=extra["source"],
                scope=extra["scope"],
            )


ENTRIES: Final[dict[str, Entry]] = {entry.name: entry for entry in _entries()}
DEFAULTS: Final = Parameters()

# Every output of the model has a weight, and can be lent.
assert set(ACTIONS) <= set(Weights.__struct_fields__)
assert set(ACTIONS) == set(Hybrid.__struct_fields__)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, ENTRIES, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `run_flow.py parameters` lists all"
    return f"no parameter is called {name}{hint}"


def load(path: Path, base: Parameters = DEFAULTS) -> Parameters:
    """Return `base` with the values of a TOML file: one table a section, or dotted names. Raises ParameterRefused."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterRefused(f"parameter file {path} can't be read: {error}") from None
    flat: dict[str, Value] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ParameterRefused(_unknown(section))
        flat |= {f"{section}.{field}": value for field, value in table.items()}
    return base.overridden(flat)


def parse_assignment(text: str) -> tuple[str, Value]:
    """Return name and value of `name=value`, the value read as TOML and else as a plain word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterRefused(f"{text!r} is not of the form name=value")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def assignment(name: str, value: object) -> str:
    """Return `name=value` as `parse_assignment` reads it: plain words as they are, all else as in TOML."""
    return f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"


@functools.lru_cache(maxsize=1024)
def _for_request(base: Parameters, overrides: tuple[tuple[str, Overriding], ...]) -> Parameters:
    return base.overridden(dict(overrides), scope="request")


def for_request(base: Parameters, overrides: Mapping[str, Overriding]) -> Parameters:
    """Return the job's parameters with a request's overrides; equal overrides are resolved once.

    Raises ParameterRefused.
    """
    return _for_request(base, tuple(sorted(overrides.items()))) if overrides else base
