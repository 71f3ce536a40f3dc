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
    """What candidates see of the context in one layer: for each head one matrix of keys and one of values."""

    keys: tuple[Array, ...]  # [D/H, T], rotated to the candidates' position, scaled by attention scale / cap
    values: tuple[Array, ...]  # [T, D/H + 1], the last column ones; masked slots hold zeros


def feed_width(width: int) -> int:
    """Return the inner width of the gated feed-forward: 2 x width x 2/3 (x-algorithm.md 3.1), in whole vectors."""
    return -(-(2 * width * 2 // 3) // VECTOR) * VECTOR


def init_block(key: Array, width: int, layers: int) -> Block:
    """Return a fresh layer: matrices by fan-in, norms at one, those after a block smaller the more layers there are.

    X initialises both norms at zero, so that an untrained model prints 0.500 for everything (x-algorithm.md 3.1);
    at 1 / sqrt(2 layers) the residual stream keeps its size and gradients reach every leaf from the first step.
    """
    inner = feed_width(width)
    shapes = ((width, 3 * width), (width, width), (width, 2 * inner), (inner, width))
    qkv, output, gate_up, down = (
        jax.random.normal(one, shape) * shape[0] ** -0.5
        for one, shape in zip(jax.random.split(key, 4), shapes, strict=True)
    )
    # Keys start as queries: a token first attends to its like, which is what a taste for an author or a topic needs.
    qkv = qkv.at[:, width : 2 * width].set(qkv[:, :width])
    one, small = jnp.ones(width), jnp.full(width, (2 * layers) ** -0.5)
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


def _attended(block: Block, x: Array, heads: list[Array]) -> Array:
    """Return x + norm(attention output), from what the heads brought."""
    out = jnp.concatenate(heads, axis=-1) @ block.output
    return x + inverse_rms(out) * out * block.norm_attended


def _context_layer(k: Array, v: Array, mask: Array, heads: int) -> ContextLayer:
    """Return a layer's keys and values from rotated keys and values [T, D]; `mask` [T, 1] is 1 for real slots."""
    scale = (k.shape[1] // heads) ** -0.5 / LOGIT_CAP
    keys = tuple((part * scale).T for part in jnp.split(k, heads, axis=-1))
    masked = jnp.split(v * mask, heads, axis=-1)
    return ContextLayer(keys, tuple(jnp.concatenate([part, mask], axis=-1) for part in masked))


def encode_context(
    blocks: tuple[Block, ...], tokens: Array, mask: Array, positions: Array, heads: int, full: bool = False
) -> tuple[list[ContextLayer], Array]:
    """Return what candidates need of each layer, and the context's own outputs [T, D].

    `tokens` [T, D], `mask` f32[T] (1 real, 0 padding), `positions` [T] relative to the candidates' (the newest action
    is -1). Attention is bidirectional over the real slots (x-algorithm.md 8.5). Blocks are folded. Unless `full`, the
    last layer stops at its keys and values, which is all that candidates read.
    """
    x = tokens
    cos_sin = rotary(positions, tokens.shape[1] // heads)
    layers = []
    for number, block in enumerate(blocks):
        q, k, v = jnp.split(inverse_rms(x) * (x @ block.qkv), 3, axis=-1)
        layer = _context_layer(rotate(k, cos_sin, heads), v, mask[:, None], heads)
        layers.append(layer)
        if number == len(blocks) - 1 and not full:
            break
        brought = []
        for head, part in enumerate(jnp.split(rotate(q, cos_sin, heads), heads, axis=-1)):
            weights = jnp.exp(LOGIT_CAP * jnp.tanh(part @ layer.keys[head]))
            sums = weights @ layer.values[head]
            width = part.shape[1]
            brought.append(sums[:, :width] / sums[:, width : width + 1])
        x = _feed_forward(block, _attended(block, x, brought))
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
        itself = jnp.exp(LOGIT_CAP * jnp.tanh((q * k) @ per_head))
        brought = []
        for head in range(heads):
            own = slice(head * head_width, (head + 1) * head_width)
            weights = jnp.exp(LOGIT_CAP * jnp.tanh(q[:, own] @ layer.keys[head]))
            sums = weights @ layer.values[head]
            above, below = sums[:, :head_width], sums[:, head_width : head_width + 1]
            weight = itself[:, head : head + 1]
            brought.append((above + weight * v[:, own]) / (below + weight))
        x = _feed_forward(block, _attended(block, x, brought))
    return x
