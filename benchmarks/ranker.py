"""The ranker's speed, as ratios in one process: factorised against full attention, and against a matrix product.

    python -m benchmarks.ranker [--quick]

The naive form is the same model as X's January release lays it out (x-algorithm.md 3.1): one sequence [user | history
| candidates], full attention with a mask, a position for each candidate; jitted, fed the same tokens. All sides are
measured in turns, so that a busy machine slows all alike.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.console import Console
from rich.table import Table

from models.config import STANDARD, PhoenixConfig
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures, candidate_features, context_features
from models.inputs import TERMS, Candidates, Context, History
from models.phoenix import Phoenix
from models.ranker import (
    OUTPUTS,
    RankerParameters,
    example_tokens,
    mask_and_positions,
    output_logits,
    predictions,
)
from models.transformer import LOGIT_CAP, Block, inverse_rms, rotary, rotate
from schemas.actions import SURFACE_HOME

SIZES: Final = (64, 512, 1500)
AT_MS: Final = 1_767_225_600_000  # an arbitrary moment: 1 January 2026
MATRIX: Final = 1024
ROUNDS: Final = 30
ROUNDS_QUICK: Final = 7


def naive_attention(x: Array, block: Block, allowed: Array, positions: Array, heads: int) -> Array:
    """Return attention's output [T, D] over one whole sequence, softmax with its maximum taken off."""
    length, width = x.shape
    normed = inverse_rms(x) * x * block.norm_attention
    q, k, v = jnp.split(normed @ block.qkv, 3, axis=-1)
    cos_sin = rotary(positions, width // heads)
    q, k = rotate(q, cos_sin, heads), rotate(k, cos_sin, heads)
    q, k, v = (one.reshape(length, heads, -1) for one in (q, k, v))
    logits = jnp.einsum("qhd,khd->hqk", q, k) * (width // heads) ** -0.5
    capped = LOGIT_CAP * jnp.tanh(logits / LOGIT_CAP)
    weights = jax.nn.softmax(jnp.where(allowed, capped, -1e30), axis=-1)
    return jnp.einsum("hqk,khd->qhd", weights, v).reshape(length, width) @ block.output


@partial(jax.jit, static_argnames=("config", "shared_position"))
def naive(
    parameters: RankerParameters,
    context_tokens: Array,
    valid: Array,
    candidate_tokens: Array,
    config: PhoenixConfig,
    shared_position: bool,
) -> Array:
    """Return the 19 outputs [C, 19] by full attention over [context | candidates].

    With `shared_position` all candidates stand where the factorised form has them; otherwise one after the other.
    """
    slots, count = context_tokens.shape[0], candidate_tokens.shape[0]
    mask, context_positions = mask_and_positions(valid, config.history_max)
    own = jnp.zeros(count, jnp.int32) if shared_position else jnp.arange(count)
    positions = jnp.concatenate([context_positions, own])
    total = slots + count
    is_context = jnp.arange(total) < slots
    allowed = (is_context & (jnp.pad(mask, (0, count)) > 0))[None, :] | (
        jnp.eye(total, dtype=bool) & ~is_context[None, :]
    )
    x = jnp.concatenate([context_tokens, candidate_tokens])
    for block in parameters.blocks:
        out = naive_attention(x, block, allowed, positions, config.heads)
        x += inverse_rms(out) * out * block.norm_attended
        normed = inverse_rms(x) * x * block.norm_feed
        gate, up = jnp.split(normed @ block.gate_up, 2, axis=-1)
        fed = (jax.nn.gelu(gate) * up) @ block.down
        x += inverse_rms(fed) * fed * block.norm_fed
    return predictions(output_logits(parameters, x[slots:]), DWELL_SCALE_S)


@partial(jax.jit, static_argnames="config")
def naive_tokens(
    parameters: RankerParameters, context: ContextFeatures, candidates: CandidateFeatures, config: PhoenixConfig
) -> tuple[Array, Array]:
    """Return the tokens of context and candidates, straight from the parameters."""
    return example_tokens(parameters, config, context, candidates)


def rank_naively(
    phoenix: Phoenix, context: Context, candidates: Candidates, shared_position: bool
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return what `Phoenix.rank` returns, by full attention; the history must be as long as the configuration's."""
    config, parameters = phoenix.config, phoenix.parameters.ranker
    features = context_features(context, config.history_max, config)
    rows = candidate_features(candidates, context, config)
    tokens, x = naive_tokens(parameters, features, rows, config)
    return np.asarray(naive(parameters, tokens, jnp.asarray(features.valid), x, config, shared_position))


def useful_flops(config: PhoenixConfig, candidates: int) -> int:
    """Return the floating-point operations of the factorised form's matrix products for one request.

    Counted without padding, and without the sums of rows that make a token.
    """
    width, slots = config.width, config.history_max + 1
    inner = 2 * width * 2 // 3
    layer = 2 * width * (3 * width + width + 3 * inner)
    attention = 4 * width * slots
    a_candidate = config.layers * (layer + attention) + 2 * width * OUTPUTS
    whole_layers = (config.layers - 1) * (layer + attention)
    return candidates * a_candidate + slots * (whole_layers + 2 * width * 2 * width)


def some_request(config: PhoenixConfig, candidates: int, seed: int) -> tuple[Context, Candidates]:
    """Return a viewer with a full history and `candidates` posts, all random."""
    rng = np.random.default_rng(seed)
    n = config.history_max

    def keys(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        return rng.integers(1, 2**63, count, dtype=np.uint64)

    def terms(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
        return rng.integers(0, 2**16, (count, TERMS), dtype=np.uint16)

    def times(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return np.sort(AT_MS - rng.integers(0, 172_800_000, count))

    history = History(
        keys(n),
        keys(n),
        terms(n),
        rng.integers(0, 2**18, n, dtype=np.uint32),
        rng.uniform(0, 60, n).astype(np.float32),
        np.full(n, SURFACE_HOME, np.uint8),
        times(n),
    )
    posts = Candidates(
        keys(candidates),
        keys(candidates),
        terms(candidates),
        times(candidates),
        rng.random(candidates) < 0.3,
        rng.random(candidates) < 0.3,
    )
    return Context(int(keys(1)[0]), history, AT_MS, SURFACE_HOME), posts


def timed(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each work, run in turns; the first run of each compiles and is not counted."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def run(quick: bool = False) -> list[dict[str, object]]:
    """Return one row for each number of candidates: medians, quartiles, the ratio, the share of a matrix product."""
    phoenix = Phoenix.untrained(STANDARD)
    square = jnp.asarray(np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32))
    product = jax.jit(jnp.matmul)
    rows: list[dict[str, object]] = []
    for count in SIZES:
        context, posts = some_request(STANDARD, count, seed=count)
        times = timed(
            {
                "factorised": partial(phoenix.rank, context, posts),
                "naive": partial(rank_naively, phoenix, context, posts, shared_position=False),
                "product": lambda: product(square, square).block_until_ready(),
            },
            ROUNDS_QUICK if quick else ROUNDS,
        )
        median = {name: float(np.median(values)) for name, values in times.items()}
        flops_per_ms = useful_flops(STANDARD, count) / median["factorised"]
        peak_per_ms = 2 * MATRIX**3 / median["product"]
        rows.append(
            {
                "candidates": count,
                "history": STANDARD.history_max,
                "factorised_ms": median["factorised"],
                "factorised_quartiles_ms": [float(q) for q in np.percentile(times["factorised"], (25, 75))],
                "naive_ms": median["naive"],
                "naive_quartiles_ms": [float(q) for q in np.percentile(times["naive"], (25, 75))],
                "ratio": median["naive"] / median["factorised"],
                "product_gflops": peak_per_ms / 1e6,
                "share_of_product": flops_per_ms / peak_per_ms,
            }
        )
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the ranker against full attention and a matrix product.")
    parser.add_argument("--quick", action="store_true", help=f"{ROUNDS_QUICK} rounds instead of {ROUNDS}")
    rows = run(parser.parse_args().quick)
    table = Table(title="Ranker, one request, S 128, d 128, 2 layers, 4 heads (median, quartiles; ms)")
    for heading in ("candidates", "factorised", "naive", "ratio", "f32 product, GF/s", "share of it"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['candidates']}",
            f"{row['factorised_ms']:.2f} {_range(row['factorised_quartiles_ms'])}",
            f"{row['naive_ms']:.2f} {_range(row['naive_quartiles_ms'])}",
            f"{row['ratio']:.2f}",
            f"{row['product_gflops']:.0f}",
            f"{row['share_of_product']:.0%}",
        )
    Console().print(table)


def _range(quartiles: object) -> str:
    low, high = quartiles if isinstance(quartiles, list) else (0.0, 0.0)
    return f"({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
