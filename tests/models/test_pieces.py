"""A batch worked off in pieces gives the losses and gradients of the batch as a whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import pieces
from models.losses import ranker_loss, retrieval_loss, viewer_vectors
from models.phoenix import Phoenix
from models.training import TrainingConfig, step_inputs
from models.two_tower import viewer_vector
from tests.models.toy_world import batch


def losses(small: Phoenix, examples: int) -> tuple[Any, Any]:
    """Return both losses and the gradients of their sum, compiled anew."""
    inputs = step_inputs(batch(1, examples, 32, 4), small.config, TrainingConfig(), np.random.default_rng(0))

    def both(parameters: Any) -> Any:
        ranker = ranker_loss(parameters.ranker, small.config, inputs.context, inputs.candidates, inputs.labels)
        towers = retrieval_loss(
            parameters.two_tower, small.config, inputs.retrieval_context, inputs.entity, inputs.retrieval
        )
        return ranker + towers, (ranker, towers)

    gradients, found = jax.jit(jax.grad(both, has_aux=True))(small.parameters)
    return found, gradients


def test_pieces_give_the_losses_and_gradients_of_the_whole(small: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 2)
    found, gradients = losses(small, 6)
    monkeypatch.setattr(pieces, "PIECE", 6)
    whole, whole_gradients = losses(small, 6)
    assert np.allclose(found, whole, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(whole_gradients), strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-6)
        assert np.isfinite(one).all()
    assert any(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradients))


def test_viewers_have_the_vectors_that_serving_gives_them(small: Phoenix) -> None:
    inputs = step_inputs(batch(1, 4, 32, 4), small.config, TrainingConfig(), np.random.default_rng(0))
    vectors = jax.vmap(viewer_vector, in_axes=(None, None, 0))(
        small.parameters.two_tower, small.config, inputs.retrieval_context
    )
    found = viewer_vectors(small.parameters.two_tower, small.config, inputs.retrieval_context)
    assert np.allclose(found, vectors, atol=1e-5)


def test_a_batch_is_cut_evenly_or_not_at_all() -> None:
    assert [pieces.piece_of(rows) for rows in (64, 100, 12, 17, 22)] == [16, 10, 12, 17, 11]
    cubes = pieces.summed(lambda scale, x, y: jnp.sum(scale * x**3 * y), jnp.float32(2.0), jnp.arange(6.0), jnp.ones(6))
    assert float(cubes) == 2 * sum(x**3 for x in range(6))
