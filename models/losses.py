"""What training lowers: the ranker's loss over all heads and the retrieval model's softmax (x-algorithm.md 3.5)."""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from models.config import PhoenixConfig
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures
from models.inputs import F32, U64, Bools
from models.pieces import stacked, summed
from models.ranker import OUTPUTS, RankerParameters, example_tokens, token_logits
from models.two_tower import TwoTowerParameters, mean_vector, post_vectors, viewer_tokens, viewer_vector
from schemas.actions import ACTION_INDEX, DWELL_TIME, NEGATIVE_ACTIONS

PROBABILITY_HEADS: Final = DWELL_TIME  # columns 0 to 17; column 18 is continuous
DWELL_WEIGHT: Final = 0.1  # x-algorithm.md 3.5
DWELL_CAP_S: Final = 300.0  # x-algorithm.md 3.5
HEAD_RATE_MIN: Final = 1e-4
LOGQ_SCALE: Final = 2.0  # x-algorithm.md 3.5
# Keeps the gradient of the square root finite: a hundredth of a second.
DWELL_MIN: Final = 0.01 / DWELL_SCALE_S

NEGATIVE_HEADS: Final = np.array([action in NEGATIVE_ACTIONS for action in tuple(ACTION_INDEX)][:PROBABILITY_HEADS])
NEGATIVE_BITS: Final = sum(1 << ACTION_INDEX[action] for action in NEGATIVE_ACTIONS)
PROBABILITY_BITS: Final = (1 << PROBABILITY_HEADS) - 1


class RankerLabels(NamedTuple):
    """What happened to the candidates of a batch [B, C]: M of its own and the negatives lent by other viewers.

    `actions` the bits; `dwell` in units of 30 s; `weight` of each row (0 for padding); `seen` 1 where the viewer had
    the post before him or acted on it, so that his silence on the negative-feedback and dwell heads means something.
    """

    actions: NDArray[np.int32]
    dwell: F32
    weight: F32
    seen: F32


class RetrievalLabels(NamedTuple):
    """Which of the batch's N = B M posts are the examples' goals and which their rivals.

    `positive` f32[B, N]; `negative` bool[B, N]; `log_count` f32[N], the log of how often each post stands in the batch.
    """

    positive: F32
    negative: Bools
    log_count: F32


def ranker_loss(
    parameters: RankerParameters,
    config: PhoenixConfig,
    context: ContextFeatures,
    candidates: CandidateFeatures,
    labels: RankerLabels,
    heads: F32 | Array | None = None,
) -> Array:
    """Return binary cross-entropy over all heads, sum per row and head, plus 0.1 x the dwell loss.

    `heads` f32[PROBABILITY_HEADS] says what each head's cross-entropy counts, all alike without it.

    It is divided by the weights of rows and heads: dividing by rows alone would let the number of heads set the
    learning rate.

    Dwell uses the Tweedie deviance (power 1.5), one of the two forms X trains with: its minimum is the mean, the
    expected seconds that serving promises, where the absolute error's is the median, which is 0 in most feeds.
    """
    entropy_weight, dwell_weight = _ranker_weights(labels)
    scales = (
        1.0 / jnp.maximum(jnp.sum(entropy_weight), 1.0),
        DWELL_WEIGHT / jnp.maximum(jnp.sum(dwell_weight), 1.0),
    )
    tokens = jax.vmap(example_tokens, in_axes=(None, None, 0, 0))(parameters, config, context, candidates)

    def of_piece(shared: tuple[RankerParameters, tuple[Array, Array]], tokens: Any, given: Any) -> Array:
        (history, posts), (valid, labels) = tokens, given
        logits = jax.vmap(token_logits, in_axes=(None, None, 0, 0, 0))(shared[0], config, history, posts, valid)
        entropy, dwell = _ranker_sums(logits, labels, heads)
        return entropy * shared[1][0] + dwell * shared[1][1]

    core = _without_tables(parameters, "blocks", "norm", "outputs", "bias_outputs")
    return summed(of_piece, (core, scales), tokens, jax.tree.map(jnp.asarray, (context.valid, labels)))


def _ranker_weights(labels: RankerLabels) -> tuple[Array, Array]:
    """Return the weights of rows and heads [B, C, PROBABILITY_HEADS], and of dwell times [B, C]."""
    seen, weight = jnp.asarray(labels.seen), jnp.asarray(labels.weight)
    return weight[..., None] * jnp.where(NEGATIVE_HEADS, seen[..., None], 1.0), seen * weight


def _ranker_sums(logits: Array, labels: RankerLabels, counted: F32 | Array | None) -> tuple[Array, Array]:
    """Return the weighted sums of cross-entropy and of the dwell deviance over logits [B, C, OUTPUT_COLUMNS]."""
    entropy_weight, dwell_weight = _ranker_weights(labels)
    bits = (jnp.asarray(labels.actions)[..., None] >> jnp.arange(PROBABILITY_HEADS)) & 1
    heads = logits[..., :PROBABILITY_HEADS]
    entropy = jax.nn.softplus(heads) - bits * heads
    if counted is not None:
        entropy *= counted
    mean = jax.nn.softplus(logits[..., OUTPUTS - 1]) + DWELL_MIN
    root = jnp.sqrt(mean)
    deviance = 2.0 * jnp.asarray(labels.dwell) / root + 2.0 * root
    return jnp.sum(entropy_weight * entropy), jnp.sum(dwell_weight * deviance)


def head_weights(rates: F32, balance: float) -> F32:
    """Return what heads of these base rates count f32[PROBABILITY_HEADS], so that rare actions are learned as well.

    A head counts 1 / its entropy to the power `balance`: with 1 all heads that can be told apart weigh alike, whose
    entropies differ by a factor of fifty between a view and a follow. The sum over all stays what it was, and what
    happens in fewer than one of 10,000 rows counts as if it were as rare as that.
    """
    p = np.clip(rates.astype(np.float64), HEAD_RATE_MIN, 1.0 - HEAD_RATE_MIN)
    entropy = -p * np.log(p) - (1.0 - p) * np.log1p(-p)
    weights = entropy**-balance
    even: F32 = (weights * entropy.sum() / (weights * entropy).sum()).astype(np.float32)
    return even


def retrieval_loss(
    parameters: TwoTowerParameters,
    config: PhoenixConfig,
    context: ContextFeatures,
    entity: NDArray[np.int32],
    labels: RetrievalLabels,
) -> Array:
    """Return the softmax loss of each positive against the example's rivals, mean per example, then over examples.

    `entity` int32[N, 8] are the batch's posts. A post's logit is corrected by 2 log(its count in the batch), so that
    posts many viewers act on are not pushed away for being common among the rivals.
    """
    viewers = viewer_vectors(parameters, config, context)
    posts = post_vectors(parameters, config, jnp.asarray(entity))
    logits = viewers @ posts.T * jnp.exp(-parameters.log_temperature) - LOGQ_SCALE * jnp.asarray(labels.log_count)
    rivals = jnp.where(labels.negative, logits, -jnp.inf)
    # The largest logit is taken off first: there is no cap here.
    top = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    against = jnp.sum(jnp.exp(rivals - top), axis=1, keepdims=True)
    shifted = logits - top
    # The tiny number keeps the log finite for posts that are no goals, which weigh nothing.
    each = jnp.log(jnp.exp(shifted) + against + np.finfo(np.float32).tiny) - shifted
    positive = jnp.asarray(labels.positive)
    count = jnp.sum(positive, axis=1)
    mean = jnp.sum(positive * each, axis=1) / jnp.maximum(count, 1.0)
    return jnp.sum(mean) / jnp.maximum(jnp.sum(count > 0), 1.0)


def viewer_vectors(parameters: TwoTowerParameters, config: PhoenixConfig, context: ContextFeatures) -> Array:
    """Return the unit vectors [B, D] of a batch of contexts."""
    if config.retrieval_causal:
        return jax.vmap(viewer_vector, in_axes=(None, None, 0))(parameters, config, context)

    def of_piece(core: TwoTowerParameters, tokens: Array, valid: Array) -> Array:
        return jax.vmap(mean_vector, in_axes=(None, None, 0, 0))(core, config, tokens, valid)

    tokens = jax.vmap(viewer_tokens, in_axes=(None, None, 0))(parameters, config, context)
    core = _without_tables(parameters, "blocks", "norm", "to_viewer")
    return stacked(of_piece, core, tokens, jnp.asarray(context.valid))


def _without_tables(parameters: Any, *kept: str) -> Any:
    """Return the parameters that act on tokens alone: no piece of a batch needs gradients of a table's size."""
    return parameters._replace(**{name: None for name in parameters._fields if name not in kept})


def counts_of(keys: U64) -> NDArray[np.int64]:
    """Return how often each key of a flat column stands in it."""
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return sizes[group]


def retrieval_labels(
    viewer: U64, post: U64, actions: NDArray[np.uint32], shown: Bools, valid: Bools, soft_negatives: bool
) -> RetrievalLabels:
    """Return goals and rivals of a batch with candidates [B, M].

    Goals: own posts with a positive action and no negative one. Rivals: what other viewers acted on, and own posts
    with negative feedback; with `soft_negatives` also own posts that were shown and passed over. A post that is one
    of the viewer's goals is never a rival.
    """
    examples, columns = post.shape
    bits = actions & np.uint32(PROBABILITY_BITS)
    disliked = (bits & np.uint32(NEGATIVE_BITS)) != 0
    goal = valid & (bits != 0) & ~disliked
    against = valid & disliked
    if soft_negatives:
        against |= valid & shown & (bits == 0)
    flat = post.ravel()
    positive = np.zeros((examples, examples * columns), np.float32)
    negative = (viewer[:, None] != viewer[None, :]).repeat(columns, axis=1) & goal.ravel()[None, :]
    for example in range(examples):
        own = slice(example * columns, (example + 1) * columns)
        positive[example, own] = goal[example]
        negative[example, own] = against[example]
        negative[example] &= ~np.isin(flat, post[example][goal[example]])
    counted = goal.ravel()
    log_count = np.zeros(len(flat), np.float32)
    log_count[counted] = np.log(counts_of(flat[counted]))
    return RetrievalLabels(positive, negative, log_count)
