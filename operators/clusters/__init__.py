"""Several models at once, by name: one ranks, others lend an output, take over or watch (2023-generation.md 1)."""

from operators.clusters.announced import load_announced, read_announced
from operators.clusters.clusters import CLUSTERS_MAX, NAME, NO_CHECKPOINTS, PROD, Clusters, Outputs
from operators.clusters.shadows import Compared, Comparison, Shadows, is_shadowed

__all__ = [
    "CLUSTERS_MAX",
    "NAME",
    "NO_CHECKPOINTS",
    "PROD",
    "Clusters",
    "Compared",
    "Comparison",
    "Outputs",
    "Shadows",
    "is_shadowed",
    "load_announced",
    "read_announced",
]
