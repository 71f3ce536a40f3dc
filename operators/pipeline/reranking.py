"""Ranking a cached slate again, and keeping one (x-algorithm.md 1.5, the cached-slate fast path)."""

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import best_first
from operators.pipeline.scorers.value import head_weights, squeezed, weighted_sum
from operators.viewers.cached_slates import CachedSlate, CachedSlates, Keep, Kind
from operators.viewers.query import Query


def kind_of(query: Query) -> Kind:
    """Return what must be the same of two requests for one to be answered from the other's slate.

    Switches that decide which sources are asked or what the model is told, and which models rank.
    """
    event, parameters = query.request.event, query.parameters
    switches = (event.surface, event.in_network_only, event.topics, event.excluded_topics, event.exclude_videos)
    return (*switches, parameters.models, parameters.hybrid)


def slate_for(query: Query, slates: CachedSlates) -> CachedSlate | None:
    """Return the slate to answer a request from, None where there is none with enough candidates."""
    request, cached = query.request, query.parameters.cached_slate
    if not _has_slates(query):
        return None
    slate = slates.find(request.partition, request.viewer, kind_of(query), query.at_ms, cached.ttl_s)
    return slate if slate is not None and len(slate) >= cached.candidates_min else None


def promised(query: Query, slates: CachedSlates) -> Keep | None:
    """Return the promise of a slate by a request that is about to be ranked by the model."""
    request = query.request
    if not _has_slates(query) or query.slate is not None:
        return None
    return slates.promise(request.partition, request.viewer, kind_of(query), query.at_ms)


def _has_slates(query: Query) -> bool:
    """Return whether slates have to do with a request: others than For You have no such source."""
    request = query.request
    return query.parameters.cached_slate.enabled and not request.shed and request.event.feed == "for_you"


def kept(query: Query, table: CandidateTable, outputs: npt.NDArray[np.float32], model: str) -> CachedSlate:
    """Return the slate that a request leaves: its `kept_max` best by weighted sum, offset added, of those above 0."""
    parameters = query.parameters
    weighted = weighted_sum(head_weights(query, table) * outputs.T.astype(np.float64))
    positive = np.flatnonzero(squeezed(weighted, parameters.weights, parameters.scoring.negative_offset) > 0)
    best = best_first(weighted, table, parameters.cached_slate.kept_max, positive)
    # Copies: parts of a request's columns would keep the whole of them.
    return CachedSlate(table.post[best].copy(), table.source[best].copy(), outputs[best].copy(), model)
