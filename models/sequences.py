"""Training of the causal user tower on whole histories: every action is the goal of what came before it.

One pass over a history of S actions gives S examples, where the tower that averages a history gives one; this is what
makes the retrieval of next posts trainable on a CPU. Both towers are trained, the ranker is left as it is. An action in
the middle of a history stands nearer to the viewer's own token here than the newest one does in serving; the rest is
alike.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import numpy.typing as npt
import optax
from jax import Array
from msgspec import Meta, Struct

from models.compilation import use_cache
from models.config import PhoenixConfig
from models.features import I32, ContextFeatures, entity_rows, sequence_rows
from models.hashing import USER, hash_rows
from models.inputs import F32, U16, U64, Context
from models.optimiser import ADAM_EPSILON
from models.phoenix import Phoenix, init_parameters
from models.ranker import entity_tokens
from models.softmax import softmax_loss
from models.two_tower import TEMPERATURE_START, TwoTowerParameters, post_vectors, vectors_after

Share = Annotated[float, Meta(ge=0.0, lt=1.0)]

# A run of this many steps in a row that are not finite will not recover: stop skipping and let it be seen.
SKIPS_IN_A_ROW_MAX: Final = 1000
# Up to so many posts the loss against all of them costs about as much as all the rest of a step (MovieLens 1M has
# 3,706), and finds more than the one against a part of them (docs/results/movielens.md).
CATALOGUE_WHOLE: Final = 8192
NEGATIVES: Final = 512


class SequenceTraining(Struct, frozen=True, forbid_unknown_fields=True):
    """How to train on histories.

    Learning rates (`table_rate` is that of hashed tables) rise over the first steps and fall to nothing over all of
    them along a cosine.
    Each goal is set against `negatives` posts of the catalogue, drawn anew each step and shared by the batch, in
    proportion to how often they were acted on to the power `popularity`; their logits are corrected by `log_q` times
    the log of how often each is expected among them. 0 sets it against all posts; None does so where there are no more
    than CATALOGUE_WHOLE, and draws NEGATIVES where there are.
    `temperature` is where the learned one starts. `token_dropout` is the share of numbers in a history's tokens that a
    step does not see, `identity_dropout` the share of histories whose viewer's id it does not see. The weights kept
    are an average over the last steps (`averaging` a step).
    """

    learning_rate: Annotated[float, Meta(gt=0.0)] = 2e-3
    table_rate: Annotated[float, Meta(gt=0.0)] = 1e-2
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-3
    warm_up_steps: Annotated[int, Meta(ge=1)] = 200
    clip_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    histories_a_step: Annotated[int, Meta(ge=1)] = 64
    negatives: Annotated[int, Meta(ge=0)] | None = None
    popularity: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    log_q: Annotated[float, Meta(ge=0.0)] = 1.0
    temperature: Annotated[float, Meta(gt=0.0)] = TEMPERATURE_START
    token_dropout: Share = 0.2
    identity_dropout: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    averaging: Share = 0.0
    seed: int = 0


class Catalogue(NamedTuple):
    """The posts that may be recommended: `post`, `author` u64[N] and `terms` u16[N, 4]."""

    post: U64
    author: U64
    terms: U16


class SequenceInputs(NamedTuple):
    """What one step reads, right-aligned in S slots.

    `user` i32[B, 2]; `place` i32[B, S] the actions' rows of the catalogue, `situation` i32[B, S, 3], `actions` i32 and
    `dwell` f32[B, S] as in ContextFeatures; `goal` i32[B, S] the catalogue's row of the next action, -1 where there is
    none; `negatives` i32[K].
    """

    user: I32
    place: I32
    situation: I32
    actions: I32
    dwell: F32
    goal: I32
    negatives: I32


class Histories:
    """The histories of many viewers as columns, one behind the other."""

    def __init__(self, contexts: Sequence[Context], catalogue: Catalogue, config: PhoenixConfig) -> None:
        """Raises ValueError for a post that is not in the catalogue, and where no history has two actions."""
        lengths = [len(context.history) for context in contexts]
        if max(lengths, default=0) < 2:
            raise ValueError("no history has two actions: there is nothing to learn from")
        posts = np.concatenate([context.history.post for context in contexts])
        order = np.argsort(catalogue.post)
        found = np.minimum(np.searchsorted(catalogue.post[order], posts), len(order) - 1)
        self.place = order[found].astype(np.int32)
        unknown = np.flatnonzero(catalogue.post[self.place] != posts)
        if len(unknown):
            raise ValueError(f"post {posts[unknown[0]]} of a history is not in the catalogue")
        self.start = np.cumsum([0, *lengths])
        rows = [sequence_rows(context.history) for context in contexts]
        self.situation, self.actions, self.dwell = (np.concatenate(column) for column in zip(*rows, strict=True))
        keys = np.array([context.key for context in contexts], np.uint64)
        self.user = hash_rows(keys, USER, config.user_buckets)

    def windows(self, slots: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return viewer, first action and end of the pieces that an epoch reads, int64[n, 3], in random order.

        A piece has `slots` + 1 actions: all but the last are read, all but the first are goals. The newest piece of a
        history is whole; where the others are cut changes from epoch to epoch.
        """
        found = []
        for viewer, (first, last) in enumerate(zip(self.start[:-1].tolist(), self.start[1:].tolist(), strict=True)):
            end = last
            while end - first >= 2:
                found.append((viewer, max(first, end - slots - 1), end))
                if end - slots - 1 <= first:
                    break
                end = last - int(rng.integers(1, slots + 1)) if end == last else end - slots
        return np.array(found, np.int64)[rng.permutation(len(found))]

    def batches(self, slots: int, training: SequenceTraining, rng: np.random.Generator) -> Iterator[SequenceInputs]:
        """Yield the steps of an epoch, with the first `negatives` still to be drawn."""
        windows, size = self.windows(slots, rng), training.histories_a_step
        for start in range(0, len(windows) - size + 1, size):
            some = windows[start : start + size]
            inputs = SequenceInputs(
                user=self.user[some[:, 0]],
                place=np.zeros((size, slots), np.int32),
                situation=np.zeros((size, slots, 3), np.int32),
                actions=np.zeros((size, slots), np.int32),
                dwell=np.zeros((size, slots), np.float32),
                goal=np.full((size, slots), -1, np.int32),
                negatives=np.zeros(0, np.int32),
            )
            for row, (_, first, end) in enumerate(some.tolist()):
                read, slot = slice(first, end - 1), slice(slots - (end - first - 1), slots)
                inputs.place[row, slot] = self.place[read]
                inputs.situation[row, slot] = self.situation[read]
                inputs.actions[row, slot] = self.actions[read]
                inputs.dwell[row, slot] = self.dwell[read]
                inputs.goal[row, slot] = self.place[first + 1 : end]
            inputs.user[rng.random(size) < training.identity_dropout] = 0
            yield inputs


def sequence_loss(
    parameters: TwoTowerParameters,
    config: PhoenixConfig,
    training: SequenceTraining,
    entity: Array,
    log_q: Array,
    inputs: SequenceInputs,
    key: Array,
) -> Array:
    """Return the softmax loss of each action's post against the negatives, mean over actions.

    `entity` i32[N, 8] are the catalogue's rows, `log_q` f32[N] the logs of how often each post is expected among the
    negatives. The goal itself is no negative.
    """
    valid = inputs.goal >= 0
    context = ContextFeatures(
        user=inputs.user,
        request=np.zeros((len(inputs.user), 2), np.int32),
        entity=inputs.place,
        situation=inputs.situation,
        actions=inputs.actions,
        dwell=inputs.dwell,
        valid=valid,
    )
    # Every post of the catalogue once, then a row for each action: an action costs no projection of its own.
    tokens = entity_tokens(parameters.entities, entity, config.retrieval_post_ids)[inputs.place]

    def vectors(history: Array, one: ContextFeatures, its: Array) -> Array:
        return vectors_after(parameters, config, history, one, training.token_dropout, its)

    viewers = jax.vmap(vectors)(tokens, context, jax.random.split(key, len(inputs.user)))[:, 1:]
    scale = jnp.exp(-parameters.log_temperature)
    posts = post_vectors(parameters, config, entity)
    count = jnp.maximum(jnp.sum(valid), 1)
    if not training.negatives:
        wanted = jnp.where(valid, inputs.goal, -1).reshape(-1)
        return softmax_loss((viewers * scale).reshape(-1, viewers.shape[-1]), posts, wanted) / count
    goal = jnp.einsum("bsd,bsd->bs", viewers, posts[inputs.goal]) * scale
    rivals = viewers @ posts[inputs.negatives].T * scale - training.log_q * log_q[inputs.negatives]
    rivals = jnp.where(inputs.negatives == inputs.goal[..., None], -jnp.inf, rivals)
    each = jnp.logaddexp(goal, jax.nn.logsumexp(rivals, axis=-1)) - goal
    return jnp.sum(jnp.where(valid, each, 0.0)) / count


def fit_sequences(
    contexts: Sequence[Context],
    catalogue: Catalogue,
    config: PhoenixConfig,
    epochs: int,
    training: SequenceTraining | None = None,
    judge: Callable[[int, float, float, Phoenix], float] | None = None,
    patience: int | None = None,
) -> Phoenix:
    """Return a model whose towers are trained on histories; the same histories and seed give the same one.

    `judge` is told the epoch, its mean loss, its seconds and the model so far, and says how good that is: the best
    model is returned, and training ends after `patience` epochs without a better one. Raises ValueError for a tower
    that is not causal, and as Histories does.
    """
    if not config.retrieval_causal:
        raise ValueError("only a causal tower learns from whole histories: set retrieval_causal")
    use_cache()
    training = training or SequenceTraining()
    if training.negatives is None:
        drawn_a_step = 0 if len(catalogue.post) <= CATALOGUE_WHOLE else NEGATIVES
        training = msgspec.structs.replace(training, negatives=drawn_a_step)
    negatives = training.negatives or 0
    histories = Histories(contexts, catalogue, config)
    rng = np.random.default_rng(training.seed)
    chance = (np.bincount(histories.place, minlength=len(catalogue.post)) + 1.0) ** training.popularity
    chance /= chance.sum()
    everything = np.arange(len(chance))
    step = partial(
        _step,
        entity=jnp.asarray(entity_rows(*catalogue, config)),
        log_q=jnp.asarray(np.log(chance * negatives) if negatives else 0 * chance, jnp.float32),
        config=config,
        training=training,
        steps=epochs * (len(histories.windows(config.history_max, rng)) // training.histories_a_step),
    )
    initial = init_parameters(config, training.seed)
    key = jax.random.key(training.seed, impl="unsafe_rbg")  # a third of a step is drawing dropout with the default
    parameters = average = initial.two_tower._replace(log_temperature=jnp.log(jnp.float32(training.temperature)))
    state = _optimiser(training, step.keywords["steps"]).init(parameters)
    best, best_said, best_epoch, done = average, -np.inf, 0, 0
    for epoch in range(epochs):
        start_s, losses = time.perf_counter(), []
        for batch in histories.batches(config.history_max, training, rng):
            drawn = rng.choice(len(chance), negatives, p=chance) if negatives else everything
            inputs = batch._replace(negatives=drawn.astype(np.int32))
            parameters, state, average, loss = step(
                parameters, state, average, float(done), inputs, jax.random.fold_in(key, done)
            )
            losses.append(loss)
            done += 1
        said = float(epoch)
        if judge is not None:
            so_far = Phoenix(config, initial._replace(two_tower=average))
            said = judge(epoch, float(np.mean(losses)), time.perf_counter() - start_s, so_far)
        if said > best_said:
            best, best_said, best_epoch = average, said, epoch
        elif patience is not None and epoch - best_epoch >= patience:
            break
    return Phoenix(config, initial._replace(two_tower=best))


def _optimiser(training: SequenceTraining, steps: int) -> optax.GradientTransformation:
    def adam(rate: float, decay: float) -> optax.GradientTransformation:
        warm_up = training.warm_up_steps
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warm_up, max(steps, warm_up + 1))
        return optax.adamw(schedule, 0.9, 0.98, eps=ADAM_EPSILON, weight_decay=decay)

    # A table's rows are seen now and then: they move faster, and don't wither meanwhile.
    kinds = {"table": adam(training.table_rate, 0.0), "dense": adam(training.learning_rate, training.weight_decay)}
    chain = optax.chain(optax.clip_by_global_norm(training.clip_norm), optax.multi_transform(kinds, _kinds))
    return optax.apply_if_finite(chain, SKIPS_IN_A_ROW_MAX)


def _kinds(parameters: TwoTowerParameters) -> Any:
    """Return "table" or "dense" for each leaf."""
    kinds = jax.tree.map(lambda _: "dense", parameters)
    return kinds._replace(
        entities=kinds.entities._replace(post="table", author="table", term="table"),
        around=kinds.around._replace(user="table"),
    )


@partial(jax.jit, static_argnames=("config", "training", "steps"))
def _step(
    parameters: TwoTowerParameters,
    state: Any,
    average: TwoTowerParameters,
    number: float,
    inputs: SequenceInputs,
    key: Array,
    entity: Array,
    log_q: Array,
    config: PhoenixConfig,
    training: SequenceTraining,
    steps: int,
) -> tuple[TwoTowerParameters, Any, TwoTowerParameters, Array]:
    """Return parameters, optimiser state, averaged parameters and the loss after one step."""
    loss, gradients = jax.value_and_grad(sequence_loss)(parameters, config, training, entity, log_q, inputs, key)
    updates, state = _optimiser(training, steps).update(gradients, state, parameters)
    parameters = optax.apply_updates(parameters, updates)
    keep = jnp.minimum(training.averaging, number / (number + 1.0))
    average = jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, average, parameters)
    return parameters, state, average, loss
