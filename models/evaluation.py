"""A model against held-out examples, through the same `Phoenix.rank` that serves."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from models.config import PhoenixConfig
from models.features import DWELL_SCALE_S, CandidateFeatures, ContextFeatures, batch_features
from models.inputs import F32, U32, U64, ExampleBatch
from models.metrics import (
    CalibrationBin,
    auc,
    average_precision,
    by_group,
    calibration,
    calibration_error,
    log_loss,
    relative_cross_entropy,
)
from models.phoenix import Phoenix
from models.ranker import RankerParameters, predictions, rank_logits
from schemas.actions import ACTIONS, DWELL_TIME


@dataclass(frozen=True, slots=True)
class ActionResult:
    """One action's fit: how often it happened, how well it is told apart over all rows and within viewers, calibration.

    `pr_auc` is average precision, `relative_loss` the log loss over that of the share that happened; `calibration` has
    ten bins of equally many rows, `calibration_error` is over them.
    """

    action: str
    rows: int
    happened: int
    auc: float | None
    pr_auc: float | None
    viewer_auc: float | None
    log_loss: float
    relative_loss: float | None
    calibration_error: float
    predicted: float
    observed: float
    calibration: list[CalibrationBin]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every action's result in the order of ACTIONS without dwell_time, and the dwell seconds."""

    rows: int
    actions: list[ActionResult]
    dwell_mean_error_s: float
    dwell_predicted_s: float
    dwell_observed_s: float


def evaluate(
    phoenix: Phoenix,
    batches: Iterable[ExampleBatch],
    shown_only: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Return how well a model ranks held-out examples: the rows that were shown, or with `shown_only` off all valid.

    Calls `progress(examples so far)` after each batch. Raises ValueError where there is no row to judge by.
    """
    scores, labels, dwell, viewers = [], [], [], []
    examples = 0
    for batch in batches:
        judged = batch.valid & batch.shown if shown_only else batch.valid
        for example in range(len(batch.viewer)):
            rows = np.flatnonzero(judged[example])
            if len(rows) == 0:
                continue
            scores.append(phoenix.rank(batch.context(example), batch.candidates(example).take(rows)))
            labels.append(batch.label_actions[example, rows])
            dwell.append(batch.label_dwell_s[example, rows])
            viewers.append(np.full(len(rows), batch.viewer[example]))
        examples += len(batch.viewer)
        if progress is not None:
            progress(examples)
    if not scores:
        raise ValueError("there are no rows to evaluate on")
    given, bits, viewer = np.concatenate(scores), np.concatenate(labels), np.concatenate(viewers)
    seconds = np.concatenate(dwell)
    predicted = given[:, DWELL_TIME]
    return Evaluation(
        len(given),
        action_results(given, bits, viewer),
        float(np.abs(predicted - seconds).mean()),
        float(predicted.mean()),
        float(seconds.mean()),
    )


def predictions_of(phoenix: Phoenix, batch: ExampleBatch) -> F32:
    """Return float32[B, M, 19], what a model predicts of a batch, padding included: `Phoenix.rank` to rounding.

    Some twenty times as fast as asking for one example after the other, and not the same to the bit.
    """
    context, candidates = batch_features(batch, phoenix.config, phoenix.semantic)
    return np.asarray(_predict(phoenix.parameters.ranker, phoenix.config, context, candidates))


@partial(jax.jit, static_argnames="config")
def _predict(
    ranker: RankerParameters, config: PhoenixConfig, context: ContextFeatures, candidates: CandidateFeatures
) -> Array:
    logits = jax.vmap(rank_logits, in_axes=(None, None, 0, 0))(ranker, config, context, candidates)
    return predictions(logits, DWELL_SCALE_S)


def action_results(given: NDArray[np.floating], bits: U32, viewer: U64) -> list[ActionResult]:
    """Return the fit of each action, dwell_time left out, to probabilities [n, 18 or more] in the order of ACTIONS.

    `bits` u32[n] are the actions that happened, `viewer` u64[n] whose rows they are.
    """
    results = []
    for column, action in enumerate(ACTIONS[:DWELL_TIME]):
        happened = (bits >> np.uint32(column)) & np.uint32(1) == 1
        p = given[:, column]
        results.append(
            ActionResult(
                action=action,
                rows=len(p),
                happened=int(happened.sum()),
                auc=auc(happened, p),
                pr_auc=average_precision(happened, p),
                viewer_auc=by_group(viewer, happened, p),
                log_loss=log_loss(happened, p),
                relative_loss=relative_cross_entropy(happened, p),
                calibration_error=calibration_error(happened, p),
                predicted=float(p.mean()),
                observed=float(happened.mean()),
                calibration=calibration(happened, p),
            )
        )
    return results
