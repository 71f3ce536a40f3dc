"""Training of both models from batches of a log, in one compiled step; same batches and seed, same checkpoint."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from msgspec import Meta, Struct

from models.checkpoints import Origin
from models.compilation import use_cache
from models.config import PhoenixConfig
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures, batch_features
from models.inputs import ExampleBatch
from models.losses import (
    DWELL_CAP_S,
    PROBABILITY_HEADS,
    RankerLabels,
    RetrievalLabels,
    counts_of,
    ranker_loss,
    retrieval_labels,
    retrieval_loss,
)
from models.phoenix import Phoenix, PhoenixParameters, init_parameters
from models.ranker import OUTPUT_COLUMNS
from schemas.actions import DWELL_TIME

Share = Annotated[float, Meta(ge=0.0, le=1.0)]

# A run of this many steps in a row that are not finite will not recover: stop skipping and let it be seen.
SKIPS_IN_A_ROW_MAX: Final = 1000
REPORT_STEPS: Final = 20
ADAM_EPSILON: Final = 1e-12


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How to train; the optimiser's numbers are AdamW's in x-algorithm.md 3.5, the rest is chosen for minutes on a CPU.

    The learning rate is twice X's, whose runs are of 1e11 samples.
    `negatives` posts of other viewers are added to each example, each weighted 1 / its count among them times
    `negative_weight`. `identity_dropout` is the share of examples that do not see post and user ids, because posts
    and viewers never met in training must be served as well; `history_dropout` the share whose history retrieval does
    not see. The weights kept are an average over the last steps (`averaging` a step).
    """

    learning_rate: Annotated[float, Meta(gt=0.0)] = 4e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-3
    beta_1: Share = 0.95
    beta_2: Share = 0.98
    warm_up_steps: Annotated[int, Meta(ge=1)] = 50
    clip_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    negatives: Annotated[int, Meta(ge=0, le=1024)] = 8
    negative_weight: Annotated[float, Meta(ge=0.0)] = 1.0
    identity_dropout: Share = 0.2
    history_dropout: Share = 0.1
    soft_negatives: bool = True
    averaging: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.98


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How far training is: losses of the last step, and how many steps were skipped as not finite."""

    step: int
    examples: int
    examples_per_s: float
    ranker_loss: float
    retrieval_loss: float
    skipped: int


class StepInputs(NamedTuple):
    """All that one step reads, as arrays of fixed shapes."""

    context: ContextFeatures
    candidates: CandidateFeatures
    labels: RankerLabels
    retrieval_context: ContextFeatures
    entity: np.ndarray[Any, np.dtype[np.int32]]
    retrieval: RetrievalLabels


def fit(
    batches: Iterable[ExampleBatch],
    config: PhoenixConfig,
    seed: int = 0,
    progress: Callable[[TrainingReport], None] | None = None,
    training: TrainingConfig | None = None,
    origin: Origin | None = None,
) -> Phoenix:
    """Return a model trained on batches, which are read once, in order, and must all have one shape.

    Raises ValueError where there are no batches, where shapes differ, or where the history is longer than the
    configuration's.
    """
    use_cache()
    training = training or TrainingConfig()
    optimiser = _optimiser(training)
    parameters = init_parameters(config, seed)
    rng = np.random.default_rng(seed)
    step = partial(_step, config=config, training=training)
    started, examples, done = time.perf_counter(), 0, 0
    shape: tuple[int, int, int] | None = None
    state: Any = None
    average: PhoenixParameters | None = None
    losses = (jnp.float32(0.0), jnp.float32(0.0))
    for batch in batches:
        shape = _checked_shape(batch, shape, config)
        inputs = step_inputs(batch, config, training, rng)
        if state is None:
            fresh = at_base_rates(parameters, inputs.labels)
            # Copies, because a step gives the memory of its inputs to its outputs, and leaves may share theirs.
            parameters, average = jax.tree.map(jnp.copy, fresh), jax.tree.map(jnp.copy, fresh)
            state = optimiser.init(parameters)
        parameters, state, average, losses = step(parameters, state, average, jnp.float32(done), inputs)
        done += 1
        examples += shape[0]
        if progress is not None and done % REPORT_STEPS == 0:
            progress(_report(done, examples, started, losses, state))
    if average is None:
        raise ValueError("there are no training examples")
    if progress is not None:
        progress(_report(done, examples, started, losses, state))
    stated = origin or Origin(examples=examples, steps=done, seed=seed)
    return Phoenix(config, average, stated)


def at_base_rates(parameters: PhoenixParameters, labels: RankerLabels) -> PhoenixParameters:
    """Return the parameters with output biases at the base rates of some labels.

    Most actions are rare. Left to find that out, the first hundred steps push every weight of the ranker down and
    with them what tells candidates apart: measured on the tests' world, AUC .50 after 200 steps from zero biases and
    .90 from base rates.
    """
    bits = (labels.actions[..., None] >> np.arange(PROBABILITY_HEADS)) & 1
    weight = labels.weight[..., None]
    # One made-up happening in a hundred rows keeps the rate of what never happened above zero.
    rates = ((bits * weight).sum((0, 1)) + 0.01) / (weight.sum() + 1.0)
    seen = labels.seen * labels.weight
    dwell = ((labels.dwell * seen).sum() + 0.01) / (seen.sum() + 1.0)
    bias = np.zeros(OUTPUT_COLUMNS, np.float32)
    bias[:PROBABILITY_HEADS] = np.log(rates / (1.0 - rates))
    bias[DWELL_TIME] = np.log(np.expm1(dwell))
    return parameters._replace(ranker=parameters.ranker._replace(bias_outputs=jnp.asarray(bias)))


def _optimiser(training: TrainingConfig) -> optax.GradientTransformation:
    """Return AdamW with warm-up and clipping that passes over steps whose gradients are not finite, and counts them."""
    rate = optax.linear_schedule(0.0, training.learning_rate, training.warm_up_steps)
    # A loss averaged over rows and heads leaves single table rows gradients near 1e-8, optax's usual epsilon.
    adam = optax.adamw(rate, training.beta_1, training.beta_2, eps=ADAM_EPSILON, weight_decay=training.weight_decay)
    chain = optax.chain(optax.clip_by_global_norm(training.clip_norm), adam)
    return optax.apply_if_finite(chain, SKIPS_IN_A_ROW_MAX)


@partial(jax.jit, static_argnames=("config", "training"), donate_argnums=(0, 1, 2))
def _step(
    parameters: PhoenixParameters,
    state: Any,
    average: PhoenixParameters,
    number: Array,
    inputs: StepInputs,
    config: PhoenixConfig,
    training: TrainingConfig,
) -> tuple[PhoenixParameters, Any, PhoenixParameters, tuple[Array, Array]]:
    """Return parameters, optimiser state, averaged parameters and both losses after one step."""

    def loss(both: PhoenixParameters) -> tuple[Array, tuple[Array, Array]]:
        ranker = ranker_loss(both.ranker, config, inputs.context, inputs.candidates, inputs.labels)
        retrieval = retrieval_loss(both.two_tower, config, inputs.retrieval_context, inputs.entity, inputs.retrieval)
        return ranker + retrieval, (ranker, retrieval)

    gradients, losses = jax.grad(loss, has_aux=True)(parameters)
    updates, state = _optimiser(training).update(gradients, state, parameters)
    parameters = optax.apply_updates(parameters, updates)
    # Early on the average is over as many steps as there were.
    keep = jnp.minimum(training.averaging, number / (number + 1.0))
    average = jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, average, parameters)
    return parameters, state, average, losses


def step_inputs(
    batch: ExampleBatch, config: PhoenixConfig, training: TrainingConfig, rng: np.random.Generator
) -> StepInputs:
    """Return what a step reads of a batch: features, lent negatives, labels and weights."""
    context, own = batch_features(batch, config)
    entity = own.entity.reshape(-1, own.entity.shape[-1])
    hidden = rng.random(len(batch.viewer)) < training.identity_dropout
    lent, lent_weight = _lent_negatives(batch, training, rng)
    situation = own.situation.reshape(-1, own.situation.shape[-1])[lent]
    situation[..., 1] &= 2  # whether the borrowing viewer follows the author is not known: say no; video stays
    candidates = CandidateFeatures(
        np.concatenate([own.entity, entity[lent]], axis=1),
        np.concatenate([own.situation, situation], axis=1),
    )
    bare = context._replace(user=context.user.copy(), entity=context.entity.copy())
    bare.user[hidden] = 0
    bare.entity[hidden, :, :2] = 0
    candidates.entity[hidden, :, :2] = 0
    forgotten = rng.random(len(batch.viewer)) < training.history_dropout
    return StepInputs(
        context=bare,
        candidates=candidates,
        labels=_ranker_labels(batch, lent_weight * np.float32(training.negative_weight)),
        retrieval_context=context._replace(valid=context.valid & ~forgotten[:, None]),
        entity=entity,
        retrieval=retrieval_labels(
            batch.viewer, batch.post, batch.label_actions, batch.shown, batch.valid, training.soft_negatives
        ),
    )


def _lent_negatives(
    batch: ExampleBatch, training: TrainingConfig, rng: np.random.Generator
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return flat rows [B, N] of other viewers' candidates, and the weight of each.

    A post counts 1 / how often it was lent, so that frequent posts are not pushed down for being frequent. A row of
    the same viewer or a post among his own candidates weighs nothing.
    """
    examples, _, columns = batch.shape
    pool = np.flatnonzero(batch.valid)
    if len(pool) == 0 or training.negatives == 0:
        return np.zeros((examples, training.negatives), np.intp), np.zeros((examples, training.negatives), np.float32)
    lent = pool[rng.integers(0, len(pool), (examples, training.negatives))]
    post = batch.post.ravel()[lent]
    counts = counts_of(post.ravel()).reshape(post.shape)
    usable = batch.viewer[lent // columns] != batch.viewer[:, None]
    usable &= ~(post[:, :, None] == batch.post[:, None, :]).any(axis=2)
    return lent, np.where(usable, 1.0 / counts, 0.0).astype(np.float32)


def _ranker_labels(batch: ExampleBatch, lent_weight: np.ndarray[Any, np.dtype[np.float32]]) -> RankerLabels:
    """Return the labels of own and lent candidates; lent ones have no action."""
    nothing = np.zeros(lent_weight.shape, np.float32)
    seen = batch.valid & (batch.shown | (batch.label_actions != 0))
    dwell = np.minimum(batch.label_dwell_s, DWELL_CAP_S) / DWELL_SCALE_S
    return RankerLabels(
        actions=np.concatenate([batch.label_actions.view(np.int32), nothing.astype(np.int32)], axis=1),
        dwell=np.concatenate([dwell.astype(np.float32), nothing], axis=1),
        weight=np.concatenate([batch.valid.astype(np.float32), lent_weight], axis=1),
        seen=np.concatenate([seen.astype(np.float32), nothing], axis=1),
    )


def _checked_shape(
    batch: ExampleBatch, before: tuple[int, int, int] | None, config: PhoenixConfig
) -> tuple[int, int, int]:
    if before is not None and batch.shape != before:
        raise ValueError(f"a batch of shape {batch.shape} follows batches of {before}; all must be alike")
    if batch.shape[1] > config.history_max:
        raise ValueError(f"history of {batch.shape[1]}; the configuration allows {config.history_max}")
    return batch.shape


def _report(step: int, examples: int, started: float, losses: tuple[Array, Array], state: Any) -> TrainingReport:
    ranker, retrieval = (float(loss) for loss in losses)
    elapsed = max(time.perf_counter() - started, 1e-9)
    return TrainingReport(step, examples, examples / elapsed, ranker, retrieval, int(state.total_notfinite))
