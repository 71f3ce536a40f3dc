"""Every number of the algorithm in one typed tree, with X's August 2026 values as defaults (x-algorithm.md 1.5, 2.2).

A dotted name (`scoring.oon_factor`) addresses one of them, in a TOML file, on the command line or in a request. Those
with scope "job" shape the state and stay as the job was started; all others may differ by request.
"""

from operators.parameters.scoring import CONTINUOUS_WEIGHTS, Weights
from operators.parameters.sources import Thunder
from operators.parameters.tree import (
    DEFAULTS,
    ENTRIES,
    Overriding,
    ParameterRefused,
    Parameters,
    Value,
    assignment,
    for_request,
    load,
    parse_assignment,
)

__all__ = [
    "CONTINUOUS_WEIGHTS",
    "DEFAULTS",
    "ENTRIES",
    "Overriding",
    "ParameterRefused",
    "Parameters",
    "Thunder",
    "Value",
    "Weights",
    "assignment",
    "for_request",
    "load",
    "parse_assignment",
]
