"""Contexts and candidates to table rows: all that is categorical becomes a row number, on columns of any shape."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.affinities import AFFINITIES, AFFINITY_KINDS, MATCHED, WINDOWS, affinities, windows_of
from models.config import PhoenixConfig
from models.hashing import AUTHOR, ITEM, USER, hash_rows, term_rows
from models.inputs import (
    CO_LIKED,
    F32,
    I64,
    TERMS,
    U32,
    U64,
    Bools,
    Candidates,
    Context,
    ExampleBatch,
    History,
    untouched,
)
from models.semantic_ids import SemanticIds
from schemas.actions import COUNTS, VIEWER_COUNTS

I32 = NDArray[np.int32]

# Rows of a post, its author and its terms; those of semantic IDs follow where a model has them.
ENTITY_ROWS: Final = 4 + TERMS

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
# Post age in 60-minute buckets up to 4,800 minutes: row 0 unknown, 1 to 80 the hours, 81 older (x-algorithm.md 3.3).
POST_AGES: Final = 82
# Age of a history entry as the power of two of its minutes, 2^22 minutes being eight years; row 0 is padding.
HISTORY_AGES: Final = 24
# Hour of day in UTC; row 0 is padding (x-algorithm.md 3.4: a vocabulary of 25).
HOURS: Final = 25
# Dwell is clipped at and measured in 30 s (x-algorithm.md 3.3).
DWELL_SCALE_S: Final = 30.0
# Buckets of counts and of rates: four an octave over 32 octaves, read off the bits of a float32 (8 of exponent, then
# the first two of the mantissa), so that no logarithm rounds.
COUNT_BUCKETS: Final = 128
# The buckets that are met most: 16 impressions, rates of 2^-4; four posts passed over; 16 of what co-likers say.
COUNT_MIDDLES: Final = np.array([16] + [48] * (COUNTS - 1), np.int32)
VIEWER_MIDDLES: Final = np.append(COUNT_MIDDLES, np.int32(8))
CO_LIKED_MIDDLES: Final = np.full(CO_LIKED, 16, np.int32)
# Nothing was met: no groups, and of rates what AFFINITY_ACTIONS among AFFINITY_GROUPS are.
AFFINITY_MIDDLES: Final = np.tile(np.array([0, 53, 53], np.int32), MATCHED * len(WINDOWS))
_MANTISSA_LEFT: Final = 21
# 2^0 for counts + 1; 2^-16 for rates, which reach 2^16 in logs that do not say what was shown.
_FIRST_COUNT: Final = 127 << 2
_FIRST_RATE: Final = (127 - 16) << 2
# A rate is (actions + 1/2) / (impressions + 8): half an action because none must not be log 0, eight impressions
# because fewer tell little; the bucket of impressions beside it says how much the rate is worth.
RATE_ACTIONS: Final = np.float32(0.5)
RATE_SHOWN: Final = np.float32(8.0)
# A viewer meets an author a few times only, and does something about one look in six.
AFFINITY_ACTIONS: Final = np.float32(0.5)
AFFINITY_GROUPS: Final = np.float32(3.0)


class ContextFeatures(NamedTuple):
    """The rows of a context: per request `user` [2], `request` [2] = surface, hour; the others per history slot [S].

    Where the configuration has counts, the rows of the viewer's follow in `request` [2 + VIEWER_COUNTS].

    `entity` [S, 8] = two post, two author and four term rows, then the semantic IDs where there are any;
    `situation` [S, 3] = surface, age, hour;
    `actions` the action bits; `dwell` in units of 30 s, 0 to 1. Slots without history are False in `valid`.
    """

    user: I32
    request: I32
    entity: I32
    situation: I32
    actions: I32
    dwell: F32
    valid: Bools


class CandidateFeatures(NamedTuple):
    """The rows of candidates: `entity` [C, 8] as in a history slot, `situation` [C, 2] = post age, flags.

    Flags are followed + 2 x video, 0 to 3. Where the configuration has counts, the rows of the post's follow in
    `situation` [C, 2 + COUNTS], where it has co-likers, the rows of what they say after those, and where it has
    affinities, theirs at the end.
    """

    entity: I32
    situation: I32


def entity_rows(
    post: U64, author: U64, terms: NDArray[np.uint16], config: PhoenixConfig, semantic: SemanticIds | None = None
) -> I32:
    """Return int32[..., 8]: two hashed rows of the post, two of its author, four of its terms.

    Where the configuration has semantic IDs, those of the post follow. Raises ValueError without a codebook for them.
    """
    rows = [
        hash_rows(post, ITEM, config.post_buckets),
        hash_rows(author, AUTHOR, config.author_buckets),
        term_rows(terms, config.term_buckets),
    ]
    if config.semantic_levels:
        if semantic is None:
            raise ValueError("the configuration has semantic IDs: a codebook is needed to give them")
        rows.append(semantic.rows(terms))
    return np.concatenate(rows, axis=-1)


def post_age_rows(created_ms: I64, at_ms: I64 | np.int64) -> I32:
    """Return the age bucket of posts at a time; a post created later than that counts as new."""
    hours = np.clip((at_ms - created_ms) // HOUR_MS, 0, POST_AGES - 2)
    return np.where(created_ms <= 0, 0, hours + 1).astype(np.int32)


def history_age_rows(history_at_ms: I64, at_ms: I64 | np.int64) -> I32:
    """Return 1 + floor(log2(minutes + 1)) of the time since each action, at most HISTORY_AGES - 1."""
    minutes = np.maximum(at_ms - history_at_ms, 0) // MINUTE_MS + 1
    # frexp is exact where log2 rounds: a power of two must not fall into the bucket below it.
    exponent: I32 = np.frexp(minutes.astype(np.float64))[1]
    return np.minimum(exponent, np.int32(HISTORY_AGES - 1))


def hour_rows(at_ms: I64 | np.int64) -> I32:
    """Return 1 + the hour of day, UTC."""
    return np.asarray(at_ms // HOUR_MS % 24 + 1, np.int32)


def count_rows(counts: U32) -> I32:
    """Return buckets int32[..., COUNTS] of counts u32[..., COUNTS or more]: of the impressions and of each rate."""
    shown = counts[..., :1].astype(np.float32)
    rates = (counts[..., 1:COUNTS].astype(np.float32) + RATE_ACTIONS) / (shown + RATE_SHOWN)
    return np.concatenate([_bucket(shown + 1, _FIRST_COUNT), _bucket(rates, _FIRST_RATE)], axis=-1)


def viewer_count_rows(counts: U32) -> I32:
    """Return the buckets int32[..., VIEWER_COUNTS] of a viewer's counts: as of a post, and of the posts passed over."""
    passed = counts[..., COUNTS:].astype(np.float32)
    return np.concatenate([count_rows(counts), _bucket(passed + 1, _FIRST_COUNT)], axis=-1)


def _bucket(values: F32, first: int) -> I32:
    bits = np.ascontiguousarray(values, np.float32).view(np.int32) >> _MANTISSA_LEFT
    buckets: I32 = np.clip(bits - first, 0, COUNT_BUCKETS - 1)
    return buckets


def co_liked_rows(co_liked: U32) -> I32:
    """Return the buckets int32[..., CO_LIKED] of what co-likers say, u32[..., CO_LIKED]."""
    return _bucket(co_liked.astype(np.float32) + 1, _FIRST_COUNT)


def _request_rows(surface: NDArray[np.uint8] | int, at_ms: I64 | np.int64, counts: U32, config: PhoenixConfig) -> I32:
    rows = np.stack([np.asarray(surface, np.int32), hour_rows(at_ms)], axis=-1)
    return np.concatenate([rows, viewer_count_rows(counts)], axis=-1) if config.counts else rows


def affinity_rows(counts: U32) -> I32:
    """Return buckets int32[..., AFFINITIES] of u32[..., MATCHED, 6]: of groups met, and of the rates of the rest."""
    counts = counts.reshape(*counts.shape[:-1], len(WINDOWS), len(AFFINITY_KINDS))
    met = counts[..., :1].astype(np.float32)
    rates = (counts[..., 1:].astype(np.float32) + AFFINITY_ACTIONS) / (met + AFFINITY_GROUPS)
    rows = np.concatenate([_bucket(met + 1, _FIRST_COUNT), _bucket(rates, _FIRST_RATE)], axis=-1)
    return rows.reshape(*rows.shape[:-3], AFFINITIES)


def _candidate_situation(
    ages: I32, flags: I32, counts: U32, co_liked: U32, affinity: U32 | None, config: PhoenixConfig
) -> I32:
    rows = [np.stack([ages, flags], axis=-1)]
    if config.counts:
        rows.append(count_rows(counts if counts.size else np.zeros((*ages.shape, COUNTS), np.uint32)))
    if config.co_likers:
        rows.append(co_liked_rows(co_liked if co_liked.size else untouched(*ages.shape)))
    if affinity is not None:
        rows.append(affinity_rows(affinity))
    return np.concatenate(rows, axis=-1)


def context_features(
    context: Context, slots: int, config: PhoenixConfig, semantic: SemanticIds | None = None
) -> ContextFeatures:
    """Return the features of one context in `slots` slots, right-aligned: the newest action in the last slot.

    A history longer than `slots` loses its oldest entries.
    """
    history = context.history
    n = min(len(history), slots)
    newest = slice(len(history) - n, len(history))
    at_ms = np.int64(context.at_ms)
    features = ContextFeatures(
        user=hash_rows(np.array(context.key, np.uint64), USER, config.user_buckets),
        request=_request_rows(context.surface, at_ms, context.counts, config),
        entity=np.zeros((slots, ENTITY_ROWS + config.semantic_levels), np.int32),
        situation=np.zeros((slots, 3), np.int32),
        actions=np.zeros(slots, np.int32),
        dwell=np.zeros(slots, np.float32),
        valid=np.zeros(slots, np.bool_),
    )
    if n:
        features.entity[-n:] = entity_rows(
            history.post[newest], history.author[newest], history.terms[newest], config, semantic
        )
        features.situation[-n:] = _situation(history.surface[newest], history.at_ms[newest], at_ms)
        features.actions[-n:] = history.actions[newest].view(np.int32)
        features.dwell[-n:] = _dwell(history.dwell_s[newest])
        features.valid[-n:] = True
    return features


def _situation(surface: NDArray[np.uint8], history_at_ms: I64, at_ms: I64 | np.int64) -> I32:
    ages = history_age_rows(history_at_ms, at_ms)
    return np.stack([surface.astype(np.int32), ages, hour_rows(history_at_ms)], axis=-1)


def sequence_features(context: Context, slots: int, config: PhoenixConfig) -> ContextFeatures:
    """Return the features of a context as a causal tower reads it: nothing in them depends on when it is asked."""
    features = context_features(context, slots, config)
    n = min(len(context.history), slots)
    if n:
        features.situation[-n:] = sequence_rows(context.history)[0][-n:]
    return features._replace(request=np.zeros_like(features.request))


def sequence_rows(history: History) -> tuple[I32, I32, F32]:
    """Return `situation`, `actions` and `dwell` of all of a history, its ages being the time since the action before.

    Where training reads a history from the middle, the first action keeps the age it has in the whole.
    """
    before_ms = np.concatenate([history.at_ms[:1], history.at_ms[:-1]])
    situation = np.stack(
        [history.surface.astype(np.int32), history_age_rows(before_ms, history.at_ms), hour_rows(history.at_ms)],
        axis=-1,
    )
    return situation, history.actions.view(np.int32), _dwell(history.dwell_s)


def _dwell(dwell_s: F32) -> F32:
    return (np.clip(dwell_s, 0.0, DWELL_SCALE_S) / DWELL_SCALE_S).astype(np.float32)


def candidate_features(
    candidates: Candidates, context: Context, config: PhoenixConfig, semantic: SemanticIds | None = None
) -> CandidateFeatures:
    """Return the features of C candidates of a request."""
    at_ms = np.int64(context.at_ms)
    affinity = None
    if config.affinity_groups:
        history = context.history
        windows = windows_of(np.arange(len(history))[::-1], config.affinity_groups)
        told = history.author[None], history.terms[None], history.actions[None], windows[None]
        affinity = affinities(told, candidates.author[None], candidates.terms[None])[0]
    flags = candidates.followed.astype(np.int32) + 2 * candidates.has_video.astype(np.int32)
    ages = post_age_rows(candidates.created_ms, at_ms)
    return CandidateFeatures(
        entity_rows(candidates.post, candidates.author, candidates.terms, config, semantic),
        _candidate_situation(ages, flags, candidates.counts, candidates.co_liked, affinity, config),
    )


def batch_features(
    batch: ExampleBatch, config: PhoenixConfig, semantic: SemanticIds | None = None
) -> tuple[ContextFeatures, CandidateFeatures]:
    """Return the features of a training batch, each with a leading B; histories become right-aligned."""
    slots = min(batch.history_post.shape[1], config.history_max)
    # Slot s of a right-aligned row holds entry s - (slots - length); negative means padding.
    entry = np.arange(slots)[None, :] - (slots - batch.history_length[:, None])
    valid = entry >= 0
    rows, columns = np.arange(len(batch.viewer))[:, None], np.maximum(entry, 0)
    at_ms = batch.at_ms[:, None]
    blank = ~valid
    post, author, terms = (of[rows, columns] for of in (batch.history_post, batch.history_author, batch.history_terms))
    entity = entity_rows(post, author, terms, config, semantic)
    situation = _situation(batch.history_surface[rows, columns], batch.history_at_ms[rows, columns], at_ms)
    actions = batch.history_actions[rows, columns].view(np.int32)
    dwell = _dwell(batch.history_dwell_s)[rows, columns]
    for column in (entity, situation, actions, dwell):
        column[blank] = 0
    counts = (
        batch.viewer_counts if len(batch.viewer_counts) else np.zeros((len(batch.viewer), VIEWER_COUNTS), np.uint32)
    )
    context = ContextFeatures(
        user=hash_rows(batch.viewer, USER, config.user_buckets),
        request=_request_rows(batch.surface, batch.at_ms, counts, config),
        entity=entity,
        situation=situation,
        actions=actions,
        dwell=dwell,
        valid=valid,
    )
    flags = batch.followed.astype(np.int32) + 2 * batch.has_video.astype(np.int32)
    ages = post_age_rows(batch.created_ms, at_ms)
    affinity = _batch_affinities(batch, config.affinity_groups) if config.affinity_groups else None
    candidates = CandidateFeatures(
        entity_rows(batch.post, batch.author, batch.terms, config, semantic),
        _candidate_situation(ages, flags, batch.counts, batch.co_liked, affinity, config),
    )
    return context, candidates


def _batch_affinities(batch: ExampleBatch, groups: int) -> U32:
    windows = windows_of(batch.history_length[:, None] - 1 - np.arange(batch.history_post.shape[1]), groups)
    told = batch.history_author, batch.history_terms, batch.history_actions, windows
    return affinities(told, batch.author, batch.terms)
