"""The softmax loss against a whole catalogue, in pieces that stay in a core's cache.

Logits of all positions of a batch against all posts are some hundred MB a step: written, read several times, and kept
for the gradients. Here each piece of positions is gone through once, and leaves its loss and its gradients behind.
"""

from typing import Final

import jax
import jax.numpy as jnp
from jax import Array

# Positions of a piece: with 4,000 posts its logits take 8 MB.
PIECE: Final = 512


@jax.custom_vjp
def softmax_loss(viewers: Array, posts: Array, goal: Array) -> Array:
    """Return the summed softmax loss of n viewers' vectors [n, D] over all posts [P, D]: f32[].

    `goal` i32[n] is the row of the post that each is to find, less than 0 where there is none.
    """
    return _gone_through(viewers, posts, goal)[0]


def _gone_through(viewers: Array, posts: Array, goal: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return the loss, and its gradients by viewers and by posts."""
    count, width = viewers.shape
    size = min(PIECE, count)
    filled = -count % size
    pieces = (
        jnp.pad(viewers, ((0, filled), (0, 0))).reshape(-1, size, width),
        jnp.pad(goal, (0, filled), constant_values=-1).reshape(-1, size),
    )

    def of_piece(so_far: tuple[Array, Array], piece: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        loss, by_posts = so_far
        its, wanted = piece
        logits = its @ posts.T
        most = logits.max(axis=-1, keepdims=True)
        odds = jnp.exp(logits - most)
        total = odds.sum(axis=-1, keepdims=True)
        counts = (wanted >= 0).astype(jnp.float32)
        at_goal = jnp.take_along_axis(logits, jnp.maximum(wanted, 0)[:, None], axis=-1)
        loss += jnp.sum(counts * (most + jnp.log(total) - at_goal)[:, 0])
        # A softmax pulls towards the posts by their chances, and away from the goal.
        chances = odds * (counts[:, None] / total)
        weighted = its * counts[:, None]
        by_posts += (chances.T @ its).at[jnp.maximum(wanted, 0)].add(-weighted)
        return (loss, by_posts), chances @ posts - posts[jnp.maximum(wanted, 0)] * counts[:, None]

    (loss, by_posts), by_viewers = jax.lax.scan(of_piece, (jnp.float32(0.0), jnp.zeros_like(posts)), pieces)
    return loss, (by_viewers.reshape(-1, width)[:count], by_posts)


def _backward(gradients: tuple[Array, Array], loss: Array) -> tuple[Array, Array, None]:
    by_viewers, by_posts = gradients
    return by_viewers * loss, by_posts * loss, None


softmax_loss.defvjp(_gone_through, _backward)
