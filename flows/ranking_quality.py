"""How good a model is on what a log says was served."""

from itertools import chain, islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from flows.training_examples import batches, examples
from flows.training_sources import POSTS_MAX, Told, intake_for
from infra.logs.reader import LogReader
from models.evaluation import Evaluation
from models.evaluation import evaluate as evaluate_model
from models.phoenix import Phoenix
from operators.clusters import Clusters
from operators.parameters import ParameterRefused, Parameters

EXAMPLES_AT_ONCE: Final = 64


class ActionQuality(Struct):
    """How well one action is told apart (AUC over all rows, and within viewers) and how well it is calibrated."""

    action: str
    rows: int
    happened: int
    auc: float | None
    viewer_auc: float | None
    log_loss: float
    predicted: float
    observed: float


class RankingQuality(Struct):
    """A model on what was really served; dwell times in seconds."""

    model: str
    rows: int
    table: list[ActionQuality]
    dwell_mean_error_s: float
    dwell_predicted_s: float
    dwell_observed_s: float


def ranking_quality(
    log: Path, checkpoint: Path, parameters: Parameters, after_ms: int, progress: Told
) -> RankingQuality:
    """Rank what a log says was served from `after_ms` on, and compare with what came of it.

    Raises LogRefused, CheckpointRefused, and ParameterRefused where nothing was served by then.
    """
    phoenix = Phoenix.load(checkpoint)
    Clusters(phoenix).check_groups(parameters.history.groups_max)
    made = examples(LogReader(log), intake_for(parameters, phoenix.config.co_likers), POSTS_MAX, progress=progress)
    late = (example for example in made if example.context.at_ms >= after_ms)
    padded = batches(late, EXAMPLES_AT_ONCE, phoenix.config.groups_read, POSTS_MAX, rest=True)
    first = list(islice(padded, 1))
    if not first:
        raise ParameterRefused(f"{log} says of nothing that it was served after that time")
    found: Evaluation = evaluate_model(phoenix, chain(first, padded))
    names = ActionQuality.__struct_fields__
    table = [ActionQuality(*(getattr(one, name) for name in names)) for one in found.actions if one.happened]
    return RankingQuality(
        phoenix.version, found.rows, table, found.dwell_mean_error_s, found.dwell_predicted_s, found.dwell_observed_s
    )
