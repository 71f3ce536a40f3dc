"""The ranker made ready to serve: tables multiplied with their projections, norms folded, compiled per shape.

A request of C candidates runs as calls of a few fixed sizes, so that few shapes are ever compiled. All sizes give a
candidate the same bits (tests/models/test_exactness.py): what it scores depends on the context and on itself alone.
"""

from functools import partial
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from models.affinities import AFFINITIES
from models.config import PhoenixConfig
from models.features import (
    AFFINITY_MIDDLES,
    CO_LIKED_MIDDLES,
    COUNT_BUCKETS,
    COUNT_MIDDLES,
    DWELL_SCALE_S,
    POST_AGES,
    VIEWER_MIDDLES,
    ContextFeatures,
)
from models.inputs import CO_LIKED, TERMS
from models.ranker import (
    FLAGS,
    Around,
    RankerParameters,
    Taste,
    around_tokens,
    count_offsets,
    folded_counts,
    mask_and_positions,
    predictions,
    viewer_in_candidates,
    with_user_counts,
)
from models.transformer import (
    Block,
    ContextLayer,
    encode_context,
    fold,
    inverse_rms,
    score_candidates,
)
from schemas.actions import COUNTS, VIEWER_COUNTS

# Calls of these sizes make up any request; below 64 rows XLA's matrix product takes another path with other bits.
TILES: Final = (1536, 768, 384, 192, 128, 64)


class ServingRanker(NamedTuple):
    """What serving reads; a pytree, never changed."""

    rows: Array  # [N, D], projected: 2 post, 2 author and 4 term tables, semantic IDs, post age, flags and counts
    around: Around
    shared: Array  # [D], every candidate's bias
    user_counts: Array | None  # [VIEWER_COUNTS x COUNT_BUCKETS, D] for the user's token
    shared_counts: Array | None  # the same for every candidate's
    blocks: tuple[Block, ...]  # folded
    outputs: Array  # [D, OUTPUT_COLUMNS], the last norm folded in
    bias_outputs: Array
    taste: Taste | None


class Shared(NamedTuple):
    """What all candidates of a request share, [D] each: their tokens are multiplied by `factor`, and `added` to."""

    added: Array
    factor: Array | None


def row_offsets(config: PhoenixConfig) -> NDArray[np.int32]:
    """Return where each row of a candidate starts in `ServingRanker.rows`, int32[10] and one each for what is told.

    The first eight are entity rows; those of semantic IDs follow where there are any.
    """
    sizes = [config.post_buckets] * 2 + [config.author_buckets] * 2 + [config.term_buckets] * TERMS
    sizes += [1 + config.semantic_codes] * config.semantic_levels + [POST_AGES]
    told = COUNTS * config.counts + CO_LIKED * config.co_likers + AFFINITIES * (config.affinity_groups > 0)
    sizes += [FLAGS] + [COUNT_BUCKETS] * told
    return np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int32)


@partial(jax.jit, static_argnames="config")
def prepare(parameters: RankerParameters, config: PhoenixConfig) -> ServingRanker:
    """Return the ranker in its serving form."""
    entities = parameters.entities
    post = entities.post if config.post_ids else jnp.zeros_like(entities.post)
    rows = [
        post @ entities.project_post[0],
        post @ entities.project_post[1],
        entities.author @ entities.project_author[0],
        entities.author @ entities.project_author[1],
        *(weight * (entities.term @ entities.project_term) for weight in entities.term_weights),
        *(() if entities.semantic is None else entities.semantic),
        parameters.post_age,
        parameters.flags,
    ]
    counts = parameters.counts
    if counts is not None:
        rows.append(folded_counts(counts.post, COUNT_MIDDLES))
    if parameters.co_likers is not None:
        rows.append(folded_counts(parameters.co_likers, CO_LIKED_MIDDLES))
    if parameters.affinities is not None:
        rows.append(folded_counts(parameters.affinities, AFFINITY_MIDDLES))
    return ServingRanker(
        rows=jnp.concatenate(rows),
        around=parameters.around,
        shared=parameters.bias_candidate,
        user_counts=None if counts is None else folded_counts(counts.user, VIEWER_MIDDLES),
        shared_counts=None if counts is None else folded_counts(counts.shared, VIEWER_MIDDLES),
        blocks=tuple(fold(block) for block in parameters.blocks),
        outputs=parameters.norm[:, None] * parameters.outputs,
        bias_outputs=parameters.bias_outputs,
        taste=parameters.taste,
    )


@partial(jax.jit, static_argnames="config")
def encode(
    ranker: ServingRanker, features: ContextFeatures, rows: Array, config: PhoenixConfig
) -> tuple[list[ContextLayer], Shared]:
    """Return what candidates read of a context: keys and values per layer, and what all of them share.

    `rows` int32[S, 8 or more] are the entity rows with their offsets.
    """
    tokens = around_tokens(ranker.around, ranker.rows[rows].sum(axis=1), features)
    request = jnp.asarray(features.request)
    shared = ranker.shared + ranker.around.surface[request[0]]
    if ranker.user_counts is not None and ranker.shared_counts is not None:
        tokens = with_user_counts(tokens, ranker.user_counts, request)
        shared += ranker.shared_counts[request[2:] + count_offsets(VIEWER_COUNTS)].sum(axis=0)
    mask, positions = mask_and_positions(jnp.asarray(features.valid), config.history_max)
    layers, _ = encode_context(ranker.blocks, tokens, mask, positions, config.heads)
    if ranker.taste is None:
        return layers, Shared(shared, None)
    factor, added = viewer_in_candidates(ranker.taste, tokens, features)
    return layers, Shared(shared * factor + added, factor)


@partial(jax.jit, static_argnames="config")
def score(
    ranker: ServingRanker, layers: list[ContextLayer], shared: Shared, rows: Array, config: PhoenixConfig
) -> Array:
    """Return the 19 outputs [C, 19] of candidates given by their rows, int32[C, 10 or more] with offsets."""
    x = ranker.rows.at[rows].get(mode="promise_in_bounds").sum(axis=1)
    x = (x if shared.factor is None else x * shared.factor) + shared.added
    x = score_candidates(ranker.blocks, layers, x, config.heads)
    logits = inverse_rms(x) * (x @ ranker.outputs) + ranker.bias_outputs
    return predictions(logits, DWELL_SCALE_S)
