"""What moves the weights: AdamW for what every step reads, and for hashed tables only the rows that a step read.

A step costs by the rows of its batch, not by the size of the tables. Adam's momentum would move a row in the steps that
do not read it as well; here those movements, a geometric series, are made up for when the row is next read, so that
the lazy form does what the dense one does, to rounding of the learning rate's schedule and of the bias corrections.
The average over steps is kept up the same way. `settled` brings every row up to date.

While a model learns, its tables lie in one array: tables below each other, the ranker's beside the towers', because
both read the same rows. One gather reads what a step needs, one scatter writes it back.
"""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from models.inputs import F32
from models.phoenix import PhoenixParameters
from models.recipe import TrainingConfig

# A loss averaged over rows and heads leaves single table rows gradients near 1e-8, optax's usual epsilon.
ADAM_EPSILON: Final = 1e-12
ADAGRAD_RATE: Final = 0.1  # x-algorithm.md 3.5

Tree = Any


class Tables(NamedTuple):
    """Something for each hashed table of a model: its weights [buckets, E], its row numbers, how many it has."""

    post: Any
    author: Any
    term: Any
    user: Any


class Rows(NamedTuple):
    """Rows of all tables: weights and their average [N, 2, E] (ranker, towers), moments, and who read them last.

    Adam: `first` and `second` moments [N, 2, E]. AdaGrad: `first` [0], `second` [N, 2, 1]. `last` i32[N] is the step
    that last read a row, 0 for none.
    """

    weights: Array
    average: Array
    first: Array
    second: Array
    last: Array


class Learned(NamedTuple):
    """All that a step changes. `step` counts the steps taken, `skipped` those left out, `in_a_row` the latest of them.

    `head_weights` f32[18] are those of the ranker's loss, settled by the first batch.
    `parameters` and `average` are without tables, which lie in `rows`; where `rows` is None they hold theirs.
    """

    parameters: Tree
    average: Tree
    adam: Tree
    rows: Rows | None
    step: Array
    skipped: Array
    in_a_row: Array
    head_weights: Array


def tables_of(part: Any) -> Tables:
    """Return the hashed tables of a ranker's or a tower's parameters."""
    return Tables(part.entities.post, part.entities.author, part.entities.term, part.around.user)


def with_tables(parameters: Tree, ranker: Tables | None, towers: Tables | None) -> Tree:
    """Return parameters of both models with these tables in place of their own; None for no tables."""
    parts = []
    for part, its in ((parameters.ranker, ranker), (parameters.two_tower, towers)):
        post, author, term, user = its or (None, None, None, None)
        entities = part.entities._replace(post=post, author=author, term=term)
        parts.append(part._replace(entities=entities, around=part.around._replace(user=user)))
    return parameters._replace(ranker=parts[0], two_tower=parts[1])


def split(joined: Array, sizes: Tables) -> tuple[Tables, Tables]:
    """Return the tables of the ranker and of the towers that lie in one array [N, 2, E]."""
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    cut = [joined[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return Tables(*(part[:, 0] for part in cut)), Tables(*(part[:, 1] for part in cut))


def begin(parameters: PhoenixParameters, training: TrainingConfig, head_weights: F32) -> Learned:
    """Return the state before the first step; it has no codebook, which is not learned by steps."""
    # Copies, because a step gives the memory of its inputs to its outputs.
    parameters = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), parameters._replace(codebook=None))
    rows: Rows | None = None
    dense: Tree = parameters
    if training.tables != "dense":
        both = (jnp.concatenate(tables_of(part)) for part in (parameters.ranker, parameters.two_tower))
        weights = jnp.stack(tuple(both), axis=1)
        adagrad = training.tables == "adagrad"
        second = jnp.zeros((len(weights), 2, 1)) if adagrad else jnp.zeros_like(weights)
        first = jnp.zeros(0) if adagrad else jnp.zeros_like(weights)
        rows = Rows(weights, jnp.array(weights), first, second, jnp.zeros(len(weights), jnp.int32))
        dense = with_tables(parameters, None, None)
    average = jax.tree.map(jnp.array, dense)
    step, skipped, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return Learned(
        dense, average, _adam(training).init(dense), rows, step, skipped, in_a_row, jnp.asarray(head_weights)
    )


def _fraction(training: TrainingConfig, step: Array) -> Array:
    """Return the share of its learning rate that a step (from 1) takes: it rises over the warm-up, and may fall."""
    share = jnp.minimum((step - 1) / training.warm_up_steps, 1.0)
    if training.decay_steps is not None:
        share *= 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(step / training.decay_steps, 1.0))
    return share


def _rate(training: TrainingConfig, step: Array) -> Array:
    """Return the tables' learning rate at a step."""
    rate = training.table_rate or (ADAGRAD_RATE if training.tables == "adagrad" else training.learning_rate)
    return rate * _fraction(training, step)


def _adam(training: TrainingConfig) -> optax.GradientTransformation:
    return optax.adamw(
        lambda count: training.learning_rate * _fraction(training, count + 1),
        training.beta_1,
        training.beta_2,
        eps=ADAM_EPSILON,
        weight_decay=training.weight_decay,
    )


def read(
    learned: Learned, numbers: Array | None, sizes: Tables, training: TrainingConfig
) -> tuple[PhoenixParameters, Rows | None]:
    """Return parameters whose tables hold only the rows of these numbers, up to date, and what `write` needs of them.

    `sizes` says how many of the numbers are of each table; numbers beyond all tables stand for nothing. Without
    `numbers` the parameters are returned as they are.
    """
    if learned.rows is None or numbers is None:
        return learned.parameters, None
    taken = _caught_up(_some(learned.rows, numbers), learned.step, training)
    parameters: PhoenixParameters = with_tables(learned.parameters, *split(taken.weights, sizes))
    return parameters, taken


def _some(rows: Rows, numbers: Array) -> Rows:
    return Rows(*(column.at[numbers].get(mode="clip") if column.size else column for column in rows))


def _caught_up(rows: Rows, step: Array, training: TrainingConfig) -> Rows:
    """Return rows as they are after `step`, which did not read them since `last`."""
    missed = (step - rows.last).astype(jnp.float32)[:, None, None]
    # The warm-up and the bias corrections are those in the middle of the steps missed.
    middle = 0.5 * (rows.last + 1 + step).astype(jnp.float32)[:, None, None]
    rate = _rate(training, middle)
    if training.tables == "adagrad":
        first, moved = rows.first, jnp.float32(0.0)
        second = rows.second * 0.5 ** (missed / training.table_half_life_steps)
    else:
        fall = training.beta_1 / training.beta_2**0.5
        # What momentum still moves in k steps: fall + fall^2 + ... + fall^k of the last movement.
        far = fall * (1.0 - fall**missed) / (1.0 - fall)
        moved = far * rate * _direction(rows.first, rows.second, middle, training)
        first = rows.first * training.beta_1**missed
        second = rows.second * training.beta_2**missed
    weights = (rows.weights - moved) * (1.0 - rate * training.weight_decay) ** missed
    kept = jnp.where(rows.last > 0, _kept(rows.last, step, training.averaging), 0.0)[:, None, None]
    return Rows(weights, kept * rows.average + (1.0 - kept) * weights, first, second, rows.last)


def _direction(first: Array, second: Array, step: Array, training: TrainingConfig) -> Array:
    """Return Adam's movement at rate 1 after a step, with its bias corrections."""
    mean = first / (1.0 - training.beta_1**step)
    square = second / (1.0 - training.beta_2**step)
    return mean / (jnp.sqrt(square) + ADAM_EPSILON)


def _kept(last: Array, step: Array, averaging: float) -> Array:
    """Return the share of the average after step `last` that is left in the one after `step`.

    Step n (from 0) keeps min(averaging, n / (n + 1)), so that early on the average is over as many steps as there were.
    """
    turn = max(averaging / (1.0 - averaging), 1.0)
    early = jnp.minimum(jnp.maximum(last, 1), turn) / jnp.minimum(jnp.maximum(step, 1), turn)
    late = averaging ** (jnp.maximum(step - turn, 0.0) - jnp.maximum(last - turn, 0.0))
    return early * late


def write(
    learned: Learned,
    numbers: Array | None,
    taken: Rows | None,
    gradients: PhoenixParameters,
    training: TrainingConfig,
) -> Learned:
    """Return the state after a step; where a gradient is not finite the step is left out and counted.

    `taken` is what `read` returned beside the parameters, `gradients` are those of the parameters.
    """
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradients)))
    finite = jnp.isfinite(norm)
    scale = jnp.where(norm > training.clip_norm, training.clip_norm / norm, 1.0)
    gradients = jax.tree.map(lambda one: one * scale, gradients)
    step = learned.step + 1
    keep = jnp.minimum(training.averaging, (step - 1) / step)
    rows, its = learned.rows, gradients
    if rows is not None and numbers is not None and taken is not None:
        both = (jnp.concatenate(tables_of(part)) for part in (gradients.ranker, gradients.two_tower))
        moved = _moved(taken, jnp.stack(tuple(both), axis=1), step, keep, training)
        # Nothing is written where the step is left out: row numbers beyond the tables are dropped.
        where = jnp.where(finite, numbers, len(rows.last))
        rows = Rows(
            *(
                column.at[where].set(new, mode="drop") if column.size else column
                for column, new in zip(rows, moved, strict=True)
            )
        )
        its = with_tables(gradients, None, None)
    updates, adam = _adam(training).update(its, learned.adam, learned.parameters)
    after = optax.apply_updates(learned.parameters, updates)
    mean = jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, learned.average, after)
    parameters, average, adam = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (after, mean, adam),
        (learned.parameters, learned.average, learned.adam),
    )
    wrong = 1 - finite.astype(jnp.int32)
    return Learned(
        parameters,
        average,
        adam,
        rows,
        step - wrong,
        learned.skipped + wrong,
        wrong * (learned.in_a_row + 1),
        learned.head_weights,
    )


def _moved(rows: Rows, gradient: Array, step: Array, keep: Array, training: TrainingConfig) -> Rows:
    """Return rows after a step that read them."""
    rate = _rate(training, step)
    if training.tables == "adagrad":
        first, second = rows.first, rows.second + jnp.mean(gradient**2, axis=2, keepdims=True)
        movement = gradient / (jnp.sqrt(second) + ADAM_EPSILON)
    else:
        first = training.beta_1 * rows.first + (1.0 - training.beta_1) * gradient
        second = training.beta_2 * rows.second + (1.0 - training.beta_2) * gradient**2
        movement = _direction(first, second, step, training)
    weights = rows.weights * (1.0 - rate * training.weight_decay) - rate * movement
    average = keep * rows.average + (1.0 - keep) * weights
    return Rows(weights, average, first, second, jnp.full(len(weights), step))


def settled(learned: Learned, sizes: Tables, training: TrainingConfig) -> PhoenixParameters:
    """Return the averaged parameters with every row up to date; `sizes` are the tables' buckets."""
    found: PhoenixParameters = learned.average
    if learned.rows is not None:
        found = with_tables(found, *split(_caught_up(learned.rows, learned.step, training).average, sizes))
    return found
