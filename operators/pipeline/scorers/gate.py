"""The gate of the gated value model: which of two value models a viewer's candidates are scored with (1.5)."""

from dataclasses import replace
from typing import Final

import numpy as np

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scorer, Scores
from operators.viewers.query import Query
from schemas.actions import COUNT_NAMES

DAY_MS: Final = 86_400_000
# Coefficients by what they are of, in the order of the sum: relations, then the columns of a viewer's counts.
FEATURES: Final = ("follows", "followed_by", "followers", "account_age_days", "groups", *COUNT_NAMES, "passed")


def viewer_features(query: Query) -> Scores:
    """Return what the gate knows of a viewer, float64[16] in the order of FEATURES: each number n as ln(1 + n)."""
    relations = query.relations
    created_ms = relations.account_created_ms
    age_days = 0.0 if created_ms is None else max(0.0, (query.at_ms - created_ms) / DAY_MS)
    known = [len(relations.followed), len(relations.followed_by), relations.followers, age_days]
    groups = len(query.context.history)
    return np.log1p(np.concatenate([known, [groups], query.context.counts]).astype(np.float64))


def gate_opens(query: Query) -> bool:
    """Return whether the bias and the coefficients times the viewer's features sum to more than the threshold."""
    gate = query.parameters.gate
    total = gate.bias
    for name, feature in zip(FEATURES, viewer_features(query).tolist(), strict=True):
        total += getattr(gate, name) * feature
    return total > gate.threshold


def gate_stays_shut(query: Query) -> bool:
    """Return whether it does not open."""
    return not gate_opens(query)


def gated(scorer: Scorer, opened: bool) -> Scorer:
    """Return a scorer that runs for viewers to whom the gate is open, or for the others."""

    def values(query: Query, table: CandidateTable, scored: Scored) -> Scores:
        return scorer.values(query, table, scored)

    whom = "viewers to whom the gate opens" if opened else "viewers to whom the gate stays shut"
    values.__name__ = scorer.name
    values.__doc__ = f"For {whom}: {scorer.rule[0].lower()}{scorer.rule[1:]}"
    reads = (*scorer.reads, "gate.bias", "gate.threshold", *(f"gate.{name}" for name in FEATURES))
    return replace(scorer, values=values, reads=reads, asked=gate_opens if opened else gate_stays_shut)
