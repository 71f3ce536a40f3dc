"""Two-tower retrieval: a viewer's vector and a post's vector whose product says how well they go together.

User tower: a transformer over [user | history], the mean over its real slots, L2. Candidate tower: author, terms and
(switchable) post hashes, to 2 D, SiLU, to D, L2 (x-algorithm.md 3.2). A learned temperature scales the product in
training only: it does not change an order.
"""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.config import PhoenixConfig
from models.features import ContextFeatures
from models.inputs import Bools
from models.ranker import (
    Around,
    Entities,
    around_tokens,
    entity_tokens,
    init_around,
    init_entities,
    mask_and_positions,
)
from models.transformer import Block, encode_context, fold, init_block, inverse_rms, normal

TEMPERATURE_START: Final = 0.1  # x-algorithm.md 3.5, as a divisor
L2_EPSILON: Final = 1e-12


class TwoTowerParameters(NamedTuple):
    """All the retrieval model learns; both towers read the same tables."""

    entities: Entities
    around: Around
    blocks: tuple[Block, ...]
    norm: Array  # [D]
    to_viewer: Array  # [D, D]
    hidden: Array  # [D, 2 D]
    to_post: Array  # [2 D, D]
    log_temperature: Array  # []


def init_two_tower(rng: np.random.Generator, config: PhoenixConfig) -> TwoTowerParameters:
    """Return a fresh retrieval model."""
    width = config.retrieval_width
    return TwoTowerParameters(
        entities=init_entities(rng, config, width),
        around=init_around(rng, config, width),
        blocks=tuple(init_block(rng, width, config.retrieval_layers) for _ in range(config.retrieval_layers)),
        norm=jnp.ones(width),
        to_viewer=normal(rng, width, width) * width**-0.5,
        hidden=normal(rng, width, 2 * width) * width**-0.5,
        to_post=normal(rng, 2 * width, width) * (2 * width) ** -0.5,
        log_temperature=jnp.log(jnp.float32(TEMPERATURE_START)),
    )


def unit(x: Array) -> Array:
    """Return x [..., D] at length 1."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + L2_EPSILON)


def viewer_vector(parameters: TwoTowerParameters, config: PhoenixConfig, context: ContextFeatures) -> Array:
    """Return the unit vector [D] of one context."""
    if config.retrieval_causal:
        history = entity_tokens(parameters.entities, jnp.asarray(context.entity), config.retrieval_post_ids)
        after = vectors_after(parameters, config, history, context)
        # Who has done nothing yet is known by the slot before the first action.
        return jnp.where(context.valid[-1], after[-1], after[0])
    return mean_vector(parameters, config, viewer_tokens(parameters, config, context), context.valid)


def viewer_tokens(parameters: TwoTowerParameters, config: PhoenixConfig, context: ContextFeatures) -> Array:
    """Return the tokens [1 + S, D] of one context."""
    history = entity_tokens(parameters.entities, jnp.asarray(context.entity), config.retrieval_post_ids)
    return around_tokens(parameters.around, history, context)


def mean_vector(parameters: TwoTowerParameters, config: PhoenixConfig, tokens: Array, valid: Bools | Array) -> Array:
    """Return the unit vector [D] of a context's tokens [1 + S, D]: the mean of what its real slots say."""
    mask, positions = mask_and_positions(jnp.asarray(valid), config.history_max)
    blocks = tuple(fold(block) for block in parameters.blocks)
    _, x = encode_context(blocks, tokens, mask, positions, config.retrieval_heads, full=True)
    outputs = inverse_rms(x) * x * parameters.norm
    mean = (mask[None] @ outputs) / jnp.sum(mask)
    return unit(mean @ parameters.to_viewer)[0]


def vectors_after(
    parameters: TwoTowerParameters,
    config: PhoenixConfig,
    history: Array,
    context: ContextFeatures,
    dropout: float = 0.0,
    key: Array | None = None,
) -> Array:
    """Return the viewer's unit vectors [1 + S, D] before the first action and after each: those of a causal tower.

    `history` [S, D] are the projected entities of its actions. Training leaves out a share `dropout` of the tokens'
    numbers, which `key` draws.
    """
    tokens = around_tokens(parameters.around, history, context)
    if key is not None and dropout:
        tokens *= jax.random.bernoulli(key, 1 - dropout, tokens.shape) / (1 - dropout)
    mask, positions = mask_and_positions(jnp.asarray(context.valid), config.history_max)
    blocks = tuple(fold(block) for block in parameters.blocks)
    _, x = encode_context(blocks, tokens, mask, positions, config.retrieval_heads, full=True, causal=True)
    return unit((inverse_rms(x) * x * parameters.norm) @ parameters.to_viewer)


def post_vectors(parameters: TwoTowerParameters, config: PhoenixConfig, entity: Array) -> Array:
    """Return the unit vectors [..., D] of posts, from their entity rows [..., 8]."""
    x = entity_tokens(parameters.entities, entity, config.retrieval_post_ids)
    return unit(jax.nn.silu(x @ parameters.hidden) @ parameters.to_post)
