"""What training lowers: the ranker's loss over all heads and the retrieval model's softmax (x-algorithm.md 3.5)."""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from models.config import PhoenixConfig
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures
from models.inputs import F32, U64, Bools
from models.ranker import OUTPUTS, RankerParameters, rank_logits
from models.two_tower import TwoTowerParameters, post_vectors, viewer_vector
from schemas.actions import ACTION_INDEX, DWELL_TIME, NEGATIVE_ACTIONS

PROBABILITY_HEADS: Final = DWELL_TIME  # columns 0 to 17; column 18 is continuous
DWELL_WEIGHT: Final = 0.1  # x-algorithm.md 3.5
DWELL_CAP_S: Final = 300.0  # x-algorithm.md 3.5
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
) -> Array:
    """Return binary cross-entropy over all heads, sum over sum of weights, plus 0.1 x the dwell loss.

    Dwell uses the Tweedie deviance (power 1.5), one of the two forms X trains with: its minimum is the mean, the
    expected seconds that serving promises, where the absolute error's is the median, which is 0 in most feeds.
    """
    logits = jax.vmap(rank_logits, in_axes=(None, None, 0, 0))(parameters, config, context, candidates)
    bits = (jnp.asarray(labels.actions)[..., None] >> jnp.arange(PROBABILITY_HEADS)) & 1
    heads = logits[..., :PROBABILITY_HEADS]
    entropy = jax.nn.softplus(heads) - bits * heads
    seen = jnp.asarray(labels.seen)
    weight = jnp.asarray(labels.weight)[..., None] * jnp.where(NEGATIVE_HEADS, seen[..., None], 1.0)
    # Per row and head; dividing by rows alone would let the number of heads set the learning rate.
    loss = jnp.sum(weight * entropy) / jnp.maximum(jnp.sum(weight), 1.0)
    mean = jax.nn.softplus(logits[..., OUTPUTS - 1]) + DWELL_MIN
    root = jnp.sqrt(mean)
    deviance = 2.0 * jnp.asarray(labels.dwell) / root + 2.0 * root
    seen_weight = seen * labels.weight
    dwell = jnp.sum(seen_weight * deviance) / jnp.maximum(jnp.sum(seen_weight), 1.0)
    return loss + DWELL_WEIGHT * dwell


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
    viewers = jax.vmap(viewer_vector, in_axes=(None, None, 0))(parameters, config, context)
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
