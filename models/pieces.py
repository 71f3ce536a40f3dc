"""Batches worked off in pieces that fit a CPU's cache: the same numbers to rounding, in two thirds of the time.

A function is given the parameters its piece shares with all others, and a piece's rows: those that a gradient is wanted
for (`tracked`) and those that none is (`fixed`), all with the piece's rows leading. An accelerator takes a batch whole.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array

# Measured on two cores (d 64, history 64, 24 candidates): 8 to 32 examples take 0.36 s of CPU time for 256, 64 take
# 0.53 s: their attention weights no longer fit a core's second cache.
PIECE: Final = 16

Tree = Any
Function = Callable[[Tree, Tree, Tree], Array]


def piece_of(rows: int) -> int:
    """Return how many rows a piece has: the largest divisor of `rows` up to PIECE, or all of them."""
    if jax.default_backend() != "cpu":
        return rows
    found = next(size for size in range(min(PIECE, rows), 0, -1) if rows % size == 0)
    return found if 4 * found >= PIECE else rows


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def summed(function: Function, shared: Tree, tracked: Tree, fixed: Tree) -> Array:
    """Return the sum of `function` (a number for each piece) over the pieces of a batch."""
    return jnp.sum(jax.lax.map(lambda piece: function(shared, *piece), _cut((tracked, fixed))))


def _summed_forward(function: Function, shared: Tree, tracked: Tree, fixed: Tree) -> tuple[Array, Tree]:
    """Return the sum and all gradients: while a piece is in the cache, its way back costs least."""

    def step(total: Tree, piece: Tree) -> tuple[Tree, Tree]:
        value, (of_shared, of_piece) = jax.value_and_grad(function, argnums=(0, 1))(shared, *piece)
        return jax.tree.map(jnp.add, total, (value, of_shared)), of_piece

    nothing = (jnp.float32(0.0), jax.tree.map(jnp.zeros_like, shared))
    (value, of_shared), of_pieces = jax.lax.scan(step, nothing, _cut((tracked, fixed)))
    return value, (of_shared, _joined(of_pieces))


def _summed_backward(_: Function, gradients: Tree, value: Array) -> tuple[Tree, Tree, None]:
    of_shared, of_tracked = jax.tree.map(lambda leaf: leaf * value, gradients)
    return of_shared, of_tracked, None


summed.defvjp(_summed_forward, _summed_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def stacked(function: Function, shared: Tree, tracked: Tree, fixed: Tree) -> Array:
    """Return what `function` says of each row of a batch, piece by piece; the way back computes it once more."""
    rows: Array = _joined(jax.lax.map(lambda piece: function(shared, *piece), _cut((tracked, fixed))))
    return rows


def _stacked_forward(function: Function, shared: Tree, tracked: Tree, fixed: Tree) -> tuple[Array, Tree]:
    return stacked(function, shared, tracked, fixed), (shared, tracked, fixed)


def _stacked_backward(function: Function, given: Tree, rows: Array) -> tuple[Tree, Tree, None]:
    shared, tracked, fixed = given

    def step(total: Tree, piece: Tree) -> tuple[Tree, Tree]:
        (part, rest), its_rows = piece
        _, back = jax.vjp(lambda shared, part: function(shared, part, rest), shared, part)
        of_shared, of_piece = back(its_rows)
        return jax.tree.map(jnp.add, total, of_shared), of_piece

    nothing = jax.tree.map(jnp.zeros_like, shared)
    of_shared, of_pieces = jax.lax.scan(step, nothing, _cut(((tracked, fixed), rows)))
    return of_shared, _joined(of_pieces), None


stacked.defvjp(_stacked_forward, _stacked_backward)


def _cut(batch: Tree) -> Tree:
    size = piece_of(len(jax.tree.leaves(batch)[0]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), batch)


def _joined(pieces: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), pieces)
