"""A simulated social world: its people, what they write, what they do with what they see, and the truth of it."""

from infra.world.crowd import Crowd
from infra.world.faults import inject_faults
from infra.world.parameters import PRESETS, WorldParameters
from infra.world.simulator import WorldSummary, simulate
from infra.world.truth import Truth, truth_path

__all__ = ["PRESETS", "Crowd", "Truth", "WorldParameters", "WorldSummary", "inject_faults", "simulate", "truth_path"]
