"""Two models beside each other on examples that neither has learned from: how much worse one is, and how sure that is.

The ranker's loss is its log loss, weighted as in training, without posts lent by others: only what was served counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import jax
import numpy as np
from jax import Array
from msgspec import Struct
from numpy.typing import NDArray

from models.config import PhoenixConfig
from models.evaluation import predictions_of
from models.features import I32, ContextFeatures, batch_features
from models.inputs import F32, ExampleBatch
from models.losses import NEGATIVE_HEADS, PROBABILITY_HEADS, RetrievalLabels, retrieval_labels, retrieval_loss
from models.metrics import PROBABILITY_MIN, auc, calibration_error
from models.phoenix import Phoenix
from models.two_tower import TwoTowerParameters
from schemas.actions import ACTIONS

F64 = NDArray[np.float64]
HEADS: Final = ACTIONS[:PROBABILITY_HEADS]


class Fit(Struct, frozen=True):
    """How well a model foretold what came of posts that were shown: losses, and by action AUC and calibration error.

    `loss` is the ranker's, in nats a head; `retrieval_loss` None where the towers do not learn. An action's AUC is None
    where it never happened, or always.
    """

    loss: float
    retrieval_loss: float | None
    auc: dict[str, float | None]
    calibration_error: dict[str, float]


@dataclass(frozen=True, slots=True)
class Foretold:
    """What a model loses on n examples in b batches, and its fit: `loss` f64[n], `retrieval` f64[b] or f64[0]."""

    loss: F64
    retrieval: F64
    fit: Fit


def foretold(phoenix: Phoenix, batches: Sequence[ExampleBatch], heads: F32, retrieval: bool) -> Foretold:
    """Return what a model says of batches of one shape; `heads` f32[18] is what each action counts in training."""
    losses, weights, given, bits, towers = [], [], [], [], []
    for batch in batches:
        predicted = predictions_of(phoenix, batch)
        loss, weight = example_losses(predicted, batch, heads)
        losses.append(loss)
        weights.append(weight)
        shown = batch.valid & batch.shown
        given.append(predicted[shown])
        bits.append(batch.label_actions[shown])
        if retrieval:
            towers.append(batch_retrieval_loss(phoenix, batch))
    each, said, did = np.concatenate(losses), np.concatenate(given), np.concatenate(bits)
    happened = {action: (did >> np.uint32(column)) & np.uint32(1) == 1 for column, action in enumerate(HEADS)}
    fit = Fit(
        loss=float(each.sum() / np.concatenate(weights).sum()),
        retrieval_loss=float(np.mean(towers)) if retrieval else None,
        auc={action: auc(happened[action], said[:, column]) for column, action in enumerate(HEADS)},
        calibration_error={
            action: calibration_error(happened[action], said[:, column]) for column, action in enumerate(HEADS)
        },
    )
    return Foretold(each, np.array(towers, np.float64), fit)


def example_losses(predicted: F32, batch: ExampleBatch, heads: F32) -> tuple[F64, F64]:
    """Return the weighted cross-entropy of each example f64[B] over its posts and heads, and the weights f64[B].

    `predicted` f32[B, M, 19]; a post that was not shown says nothing of negative actions that are absent.
    """
    happened = (batch.label_actions[..., None] >> np.arange(PROBABILITY_HEADS, dtype=np.uint32)) & np.uint32(1) == 1
    p = np.clip(predicted[..., :PROBABILITY_HEADS].astype(np.float64), PROBABILITY_MIN, 1 - PROBABILITY_MIN)
    entropy = -np.where(happened, np.log(p), np.log1p(-p))
    seen = batch.valid & (batch.shown | (batch.label_actions != 0))
    counts = np.where(NEGATIVE_HEADS, seen[..., None], batch.valid[..., None])
    return (entropy * counts * heads).sum((1, 2)), counts.sum((1, 2)).astype(np.float64)


def batch_retrieval_loss(phoenix: Phoenix, batch: ExampleBatch) -> float:
    """Return the towers' loss on a batch, as in training, with whole histories."""
    context, own = batch_features(batch, phoenix.config, phoenix.semantic)
    labels = retrieval_labels(batch.viewer, batch.post, batch.label_actions, batch.shown, batch.valid, True)
    entity = own.entity.reshape(-1, own.entity.shape[-1])
    return float(_retrieval(phoenix.parameters.two_tower, phoenix.config, context, entity, labels))


@partial(jax.jit, static_argnames="config")
def _retrieval(
    towers: TwoTowerParameters, config: PhoenixConfig, context: ContextFeatures, entity: I32, labels: RetrievalLabels
) -> Array:
    return retrieval_loss(towers, config, context, entity, labels)


class Paired(Struct):
    """Sums of a loss under two models on the same examples (or batches): how much worse the second is than the first.

    Differences of pairs, not of means: what is hard to foretell is hard for both, and falls out.
    """

    count: int = 0
    first: float = 0.0
    difference: float = 0.0
    squares: float = 0.0

    def add(self, first: F64, second: F64) -> None:
        """Take in losses f64[n] of the first model and of the second."""
        apart = second - first
        self.count += len(apart)
        self.first += float(first.sum())
        self.difference += float(apart.sum())
        self.squares += float((apart**2).sum())

    @property
    def worse(self) -> float:
        """By what share the second model's loss is larger than the first one's; below 0 it is the better one."""
        return self.difference / self.first if self.first else 0.0

    @property
    def error(self) -> float:
        """The standard error of `worse`; infinite for fewer than two pairs."""
        if self.count < 2 or not self.first:
            return math.inf
        spread = max(self.squares - self.difference**2 / self.count, 0.0) / (self.count - 1)
        return math.sqrt(spread * self.count) / self.first
