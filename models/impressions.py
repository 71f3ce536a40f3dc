"""Training of the ranker alone, on impressions of which it is known what came of each: no negatives are lent.

All examples lie in memory and are read again in each epoch, in a new order. A step takes examples whose histories are
short or examples whose histories are long, so that most steps do not pay for the longest. The towers stay as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax import Array
from msgspec import Meta, Struct

from models.compilation import use_cache
from models.config import PhoenixConfig
from models.evaluation import predictions_of
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures, batch_features
from models.inputs import F32, ExampleBatch
from models.losses import DWELL_CAP_S, PROBABILITY_HEADS, RankerLabels, head_weights, ranker_loss
from models.metrics import PROBABILITY_MIN
from models.phoenix import Phoenix, PhoenixParameters, init_parameters
from models.ranker import RankerParameters
from models.training import ADAM_EPSILON, at_base_rates

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Told = Callable[[float, float], None]

HISTORY_PREFIX: Final = "history_"
# Slots of the short histories, a fit for 7 of 10 impressions of KuaiRand.
SHORT: Final = 8
# With the viewer in candidates, on the validation rows of KuaiRand: click .728 -> .732, profile .725 -> .734.
LOUD_DWELL: Final = 15.0
LOUD_AGE: Final = 7.0
# Below so many happenings the rate itself is known to a tenth only.
HAPPENED_MIN: Final = 100
# The mean of a logistic curve is found to rounding in a handful of steps from nearby.
NEWTON_STEPS: Final = 10
CALIBRATED_AT_ONCE: Final = 1024


class ImpressionTraining(Struct, frozen=True, forbid_unknown_fields=True):
    """How to train on impressions.

    The learning rate rises over the first steps and falls to nothing over all of them along a cosine. `head_balance`
    is the power to which rare actions weigh more (models/losses.py head_weights). `identity_dropout` is the share of
    examples that do not see ids of viewer and posts. The weights kept are an average over the last steps (`averaging`
    a step).
    """

    learning_rate: Annotated[float, Meta(gt=0.0)] = 4e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-3
    warm_up_steps: Annotated[int, Meta(ge=1)] = 50
    clip_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    examples_a_step: Annotated[int, Meta(ge=1)] = 256
    epochs: Annotated[int, Meta(ge=1)] = 2
    head_balance: Share = 0.5
    identity_dropout: Share = 0.5
    averaging: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.99
    seed: int = 0


class Inputs(NamedTuple):
    """What a step reads."""

    context: ContextFeatures
    candidates: CandidateFeatures
    labels: RankerLabels


class Learned(NamedTuple):
    """What a step changes."""

    parameters: RankerParameters
    state: Any
    average: RankerParameters


def fit_impressions(
    examples: ExampleBatch, config: PhoenixConfig, training: ImpressionTraining, progress: Told | None = None
) -> Phoenix:
    """Return a model whose ranker is trained on examples of posts that were shown; calls `progress(steps, of)`.

    Raises ValueError where there are fewer examples than a step takes.
    """
    use_cache()
    if len(examples.viewer) < training.examples_a_step:
        raise ValueError(f"{len(examples.viewer)} examples; a step takes {training.examples_a_step}")
    rng = np.random.default_rng(training.seed)
    drawn = [_epoch(examples.history_length, training, rng) for _ in range(training.epochs)]
    steps = [one for epoch in drawn for one in epoch]
    labels = _labels(examples)
    parameters = at_base_rates(_fresh(config, training.seed), labels)
    bits = (examples.label_actions[examples.valid][:, None] >> np.arange(PROBABILITY_HEADS)) & 1
    heads = head_weights(bits.mean(axis=0).astype(np.float32), training.head_balance)
    # Copies, because a step gives the memory of its inputs to its outputs, and leaves may share theirs.
    ranker, average = (jax.tree.map(jnp.array, parameters.ranker) for _ in range(2))
    learned = Learned(ranker, _optimiser(training, len(steps)).init(ranker), average)
    step = partial(_step, heads=heads, config=config, training=training, steps=len(steps))
    for done, inputs in enumerate(_inputs(examples, steps, config, training, rng), start=1):
        learned = step(learned, np.float32(done - 1), inputs)
        if progress is not None:
            progress(done, len(steps))
    return Phoenix(config, parameters._replace(ranker=learned.average))


def _fresh(config: PhoenixConfig, seed: int) -> PhoenixParameters:
    """Return fresh parameters whose ranker hears how long and how long ago an action was as loud as what it was about.

    At a tenth of that size it takes epochs to hear them, and here there are but few.
    """
    parameters = init_parameters(config, seed)
    around = parameters.ranker.around
    around = around._replace(dwell=LOUD_DWELL * around.dwell, history_age=LOUD_AGE * around.history_age)
    return parameters._replace(ranker=parameters.ranker._replace(around=around))


def at_rates_of(phoenix: Phoenix, examples: ExampleBatch) -> Phoenix:
    """Return the model with each output's bias moved so that it predicts what happened in these examples on average.

    Rates drift while a model trains on days of them: the newest of its examples say best what they are now. Actions
    that happened to fewer than HAPPENED_MIN of them stay as they are. The order of posts by any one output stays too.
    """
    parts = [
        predictions_of(phoenix, rows_of(examples, slice(start, start + CALIBRATED_AT_ONCE)))
        for start in range(0, len(examples.viewer), CALIBRATED_AT_ONCE)
    ]
    given = np.concatenate(parts)[examples.valid][:, :PROBABILITY_HEADS].astype(np.float64)
    bits = (examples.label_actions[examples.valid][:, None] >> np.arange(PROBABILITY_HEADS)) & 1
    bias = np.array(phoenix.parameters.ranker.bias_outputs)
    for head in np.flatnonzero(bits.sum(axis=0) >= HAPPENED_MIN):
        p = np.clip(given[:, head], PROBABILITY_MIN, 1 - PROBABILITY_MIN)
        logits, share, moved = np.log(p) - np.log1p(-p), bits[:, head].mean(), 0.0
        for _ in range(NEWTON_STEPS):
            p = 1.0 / (1.0 + np.exp(-logits - moved))
            moved += (share - p.mean()) / (p * (1.0 - p)).mean()
        bias[head] += moved
    ranker = phoenix.parameters.ranker._replace(bias_outputs=jnp.asarray(bias))
    return Phoenix(phoenix.config, phoenix.parameters._replace(ranker=ranker), phoenix.origin)


def rows_of(of: ExampleBatch, rows: npt.NDArray[np.intp] | slice, slots: int | None = None) -> ExampleBatch:
    """Return the examples at `rows`, in that order, with the newest `slots` groups of their histories.

    Raises ValueError where a history is longer than `slots`.
    """
    columns = {field.name: getattr(of, field.name) for field in fields(of)}
    some = {name: column[rows] if len(column) else column for name, column in columns.items()}
    if slots is not None:
        if (some["history_length"] > slots).any():
            raise ValueError(f"a history is longer than {slots}")
        for name in some.keys() - {"history_length"}:
            if name.startswith(HISTORY_PREFIX):
                some[name] = some[name][:, :slots]
    return ExampleBatch(**some)


def _epoch(
    lengths: npt.NDArray[np.int64], training: ImpressionTraining, rng: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each step of an epoch, in random order; what fills no step is left for the next epoch."""
    size, found = training.examples_a_step, []
    for rows in (np.flatnonzero(lengths <= SHORT), np.flatnonzero(lengths > SHORT)):
        order = rng.permutation(rows)
        found += [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    return [found[place] for place in rng.permutation(len(found))]


def _inputs(
    examples: ExampleBatch,
    steps: list[npt.NDArray[np.intp]],
    config: PhoenixConfig,
    training: ImpressionTraining,
    rng: np.random.Generator,
) -> Iterator[Inputs]:
    longest = examples.history_post.shape[1]
    for rows in steps:
        slots = SHORT if examples.history_length[rows].max() <= SHORT < longest else longest
        some = rows_of(examples, rows, slots)
        context, candidates = batch_features(some, config)
        hidden = rng.random(len(rows)) < training.identity_dropout
        context.user[hidden] = 0
        context.entity[hidden, :, :2] = 0
        candidates.entity[hidden, :, :2] = 0
        yield Inputs(context, candidates, _labels(some))


def _labels(examples: ExampleBatch) -> RankerLabels:
    dwell: F32 = (np.minimum(examples.label_dwell_s, DWELL_CAP_S) / DWELL_SCALE_S).astype(np.float32)
    shown = examples.valid.astype(np.float32)
    return RankerLabels(examples.label_actions.view(np.int32), dwell, shown, shown)


def _optimiser(training: ImpressionTraining, steps: int) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0, training.learning_rate, training.warm_up_steps, max(steps, training.warm_up_steps + 1)
    )
    adam = optax.adamw(rate, eps=ADAM_EPSILON, weight_decay=training.weight_decay)
    return optax.chain(optax.clip_by_global_norm(training.clip_norm), adam)


@partial(jax.jit, static_argnames=("config", "training", "steps"), donate_argnums=0)
def _step(
    learned: Learned,
    number: Array,
    inputs: Inputs,
    heads: F32,
    config: PhoenixConfig,
    training: ImpressionTraining,
    steps: int,
) -> Learned:
    """Return what is learned after one step, the `number`th from 0."""

    def loss(ranker: RankerParameters) -> Array:
        return ranker_loss(ranker, config, inputs.context, inputs.candidates, inputs.labels, heads)

    gradients = jax.grad(loss)(learned.parameters)
    updates, state = _optimiser(training, steps).update(gradients, learned.state, learned.parameters)
    parameters = optax.apply_updates(learned.parameters, updates)
    # Early on the average is over as many steps as there were.
    keep = jnp.minimum(training.averaging, number / (number + 1.0))
    average = jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, learned.average, parameters)
    return Learned(parameters, state, average)
