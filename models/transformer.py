"""The transformer of both models, in its factorised form: the context once, then every candidate against it.

Candidates attend to the context and to themselves, never to each other, and share ONE position, right after the
history (x-algorithm.md 8.4). Four rewritings follow from it (compute.md 1, "fact3"), all exact in mathematics:

* a context key is rotated by its place relative to the candidates', so that candidates need no rotation at all;
* the scale of the logits is folded into those keys, the scales of the norms into the matrices after them;
* tanh caps the logits at 30, so exp needs no maximum taken off (129 e^30 fits a float by far);
* values carry a column of ones, so that the softmax's denominator comes out of the same product.

A masked context slot has a zero row in the values, ones column included: whatever its weight, it adds nothing.
Written for one example; training maps it over a batch.
"""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.config import VECTOR

LOGIT_CAP: Final = 30.0  # x-algorithm.md 3.1
ROPE_BASE: Final = 1e4
NORM_EPSILON: Final = 1e-5


class Block(NamedTuple):
    """One layer: h += norm(attention(norm(h))); h += norm(feed_forward(norm(h))); no biases (x-algorithm.md 3.1)."""

    norm_attention: Array  # [D]
    qkv: Array  # [D, 3 D]
    output: Array  # [D, D]
    norm_attended: Array  # [D]
    norm_feed: Array  # [D]
    gate_up: Array  # [D, 2 F]
    down: Array  # [F, D]
    norm_fed: Array  # [D]


class ContextLayer(NamedTuple):
    """What candidates see of the context in one layer, by head."""

    keys: Array  # [H, D/H, T], rotated to the candidates' position, scaled by attention scale / cap
    values: Array  # [H, T, D/H + 1], the last column ones; masked slots hold zeros


def feed_width(width: int) -> int:
    """Return the inner width of the gated feed-forward: 2 x width x 2/3 (x-algorithm.md 3.1), in whole vectors."""
    return -(-(2 * width * 2 // 3) // VECTOR) * VECTOR


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Return standard normal f32 numbers; NumPy draws them, because JAX would compile each shape for a second."""
    return jnp.asarray(rng.standard_normal(shape, dtype=np.float32))


def init_block(rng: np.random.Generator, width: int, layers: int) -> Block:
    """Return a fresh layer: matrices by fan-in, norms at one, those after a block smaller the more layers there are.

    X initialises both norms at zero, so that an untrained model prints 0.500 for everything (x-algorithm.md 3.1);
    at 1 / sqrt(2 layers) the residual stream keeps its size and gradients reach every leaf from the first step.
    """
    inner = feed_width(width)
    shapes = ((width, 3 * width), (width, width), (width, 2 * inner), (inner, width))
    qkv, output, gate_up, down = (normal(rng, *shape) * shape[0] ** -0.5 for shape in shapes)
    # Keys start as queries: a token first attends to its like, which is what a taste for an author or a topic needs.
    qkv = qkv.at[:, width : 2 * width].set(qkv[:, :width])
    one, small = jnp.ones(width), jnp.full(width, (2 * layers) ** -0.5, jnp.float32)
    return Block(one, qkv, output, small, one, gate_up, down, small)


def fold(block: Block) -> Block:
    """Return the layer with the scales of its first norms multiplied into the matrices that follow them."""
    return block._replace(
        qkv=block.norm_attention[:, None] * block.qkv,
        gate_up=block.norm_feed[:, None] * block.gate_up,
    )


def inverse_rms(x: Array) -> Array:
    """Return 1 / sqrt(mean(x^2) + epsilon) of each row, [..., 1]."""
    return jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON)


def rotary(positions: Array, head_width: int) -> tuple[Array, Array]:
    """Return cos and sin [T, head_width / 2] of positions [T] (RoPE, base 1e4)."""
    frequencies = ROPE_BASE ** (-jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    angles = positions[:, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, cos_sin: tuple[Array, Array], heads: int) -> Array:
    """Return x [T, D] rotated head by head, the first half of a head against its second."""
    cos, sin = (table[:, None, :] for table in cos_sin)
    halves = x.reshape(x.shape[0], heads, 2, -1)
    first, second = halves[:, :, 0], halves[:, :, 1]
    return jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=2).reshape(x.shape)


def _feed_forward(block: Block, x: Array) -> Array:
    """Return x + norm(GeGLU(norm(x))), a folded block's second half."""
    gate, up = jnp.split(inverse_rms(x) * (x @ block.gate_up), 2, axis=-1)
    fed = (jax.nn.gelu(gate) * up) @ block.down
    return x + inverse_rms(fed) * fed * block.norm_fed


def _attended(block: Block, x: Array, brought: Array) -> Array:
    """Return x + norm(attention output), from what the heads brought [C, H, D/H]."""
    out = brought.reshape(x.shape) @ block.output
    return x + inverse_rms(out) * out * block.norm_attended


def _by_head(x: Array, heads: int) -> Array:
    """Return [C, D] as [C, H, D/H]."""
    return x.reshape(x.shape[0], heads, -1)


def _context_layer(k: Array, v: Array, mask: Array, heads: int) -> ContextLayer:
    """Return a layer's keys and values from rotated keys and values [T, D]; `mask` [T] is 1 for real slots."""
    scale = (k.shape[1] // heads) ** -0.5 / LOGIT_CAP
    column = jnp.broadcast_to(mask[:, None, None], (len(mask), heads, 1))
    values = jnp.concatenate([_by_head(v, heads) * column, column], axis=-1)
    return ContextLayer(_by_head(k * scale, heads).transpose(1, 2, 0), values.transpose(1, 0, 2))


def _over_context(q: Array, layer: ContextLayer, heads: int, causal: bool = False) -> Array:
    """Return, for queries [C, D], the weighted sums of the context's values, the weights' sum last: [C, H, D/H + 1].

    `causal` is for the context's own queries: each sees the slots up to itself.
    """
    logits = jnp.einsum("chd,hdt->hct", _by_head(q, heads), layer.keys)
    weights = jnp.exp(LOGIT_CAP * jnp.tanh(logits))
    if causal:
        weights *= jnp.tri(len(q))
    return jnp.einsum("hct,htd->hcd", weights, layer.values).transpose(1, 0, 2)


def encode_context(
    blocks: tuple[Block, ...],
    tokens: Array,
    mask: Array,
    positions: Array,
    heads: int,
    full: bool = False,
    causal: bool = False,
) -> tuple[list[ContextLayer], Array]:
    """Return what candidates need of each layer, and the context's own outputs [T, D].

    `tokens` [T, D], `mask` f32[T] (1 real, 0 padding), `positions` [T] relative to the candidates' (the newest action
    is -1). Attention is bidirectional over the real slots (x-algorithm.md 8.5), or with `causal` sees those up to
    itself. Blocks are folded. Unless `full`, the last layer stops at its keys and values, which is all that candidates
    read.
    """
    x = tokens
    cos_sin = rotary(positions, tokens.shape[1] // heads)
    layers = []
    for number, block in enumerate(blocks):
        q, k, v = jnp.split(inverse_rms(x) * (x @ block.qkv), 3, axis=-1)
        layers.append(_context_layer(rotate(k, cos_sin, heads), v, mask, heads))
        if number == len(blocks) - 1 and not full:
            break
        sums = _over_context(rotate(q, cos_sin, heads), layers[-1], heads, causal)
        x = _feed_forward(block, _attended(block, x, sums[..., :-1] / sums[..., -1:]))
    return layers, x


def score_candidates(blocks: tuple[Block, ...], layers: list[ContextLayer], tokens: Array, heads: int) -> Array:
    """Return the outputs [C, D] of candidates [C, D] that see the context and themselves."""
    x = tokens
    head_width = tokens.shape[1] // heads
    # Each head's product of query and own key, summed by a matrix product: XLA's row sums change their order with C.
    per_head = np.zeros((tokens.shape[1], -(-heads // VECTOR) * VECTOR), np.float32)
    for head in range(heads):
        per_head[head * head_width : (head + 1) * head_width, head] = head_width**-0.5 / LOGIT_CAP
    for block, layer in zip(blocks, layers, strict=True):
        q, k, v = jnp.split(inverse_rms(x) * (x @ block.qkv), 3, axis=-1)
        itself = jnp.exp(LOGIT_CAP * jnp.tanh((q * k) @ per_head))[:, :heads, None]
        sums = _over_context(q, layer, heads)
        brought = (sums[..., :-1] + itself * _by_head(v, heads)) / (sums[..., -1:] + itself)
        x = _feed_forward(block, _attended(block, x, brought))
    return x
