"""Losses on batches that a model does not learn from: the same losses as in training, with nothing left to chance."""

from collections.abc import Iterable
from functools import partial

import jax
import msgspec
import numpy as np
from jax import Array

from models.config import PhoenixConfig
from models.inputs import ExampleBatch
from models.losses import ranker_loss, retrieval_loss
from models.phoenix import PhoenixParameters
from models.step_inputs import StepInputs, step_inputs
from models.training import Trainer


def held_out_losses(trainer: Trainer, batches: Iterable[ExampleBatch]) -> tuple[float, float]:
    """Return the mean losses, ranker and retrieval, of the model so far on batches: no ids and histories are dropped.

    Posts are lent as in training, the same ones to the same model and to a later one. Raises ValueError where there are
    no batches, or nothing was learned yet.
    """
    phoenix = trainer.phoenix()
    assert trainer.learned is not None  # or there would be no model
    settings = msgspec.structs.replace(trainer.training, identity_dropout=0.0, history_dropout=0.0)
    rng = np.random.default_rng(trainer.seed)
    found = []
    for batch in batches:
        inputs = step_inputs(batch, trainer.config, settings, rng, phoenix.semantic)
        losses = _losses(phoenix.parameters, inputs, trainer.learned.head_weights, trainer.config, settings.retrieval)
        found.append([float(loss) for loss in losses])
    if not found:
        raise ValueError("there are no batches to validate with")
    ranker, retrieval = np.mean(found, axis=0).tolist()
    return ranker, retrieval


@partial(jax.jit, static_argnames=("config", "retrieval"))
def _losses(
    parameters: PhoenixParameters, inputs: StepInputs, heads: Array, config: PhoenixConfig, retrieval: bool
) -> tuple[Array, Array]:
    ranker = ranker_loss(parameters.ranker, config, inputs.context, inputs.candidates, inputs.labels, heads)
    if not retrieval:
        return ranker, jax.numpy.float32(0.0)
    towers = retrieval_loss(parameters.two_tower, config, inputs.retrieval_context, inputs.entity, inputs.retrieval)
    return ranker, towers
