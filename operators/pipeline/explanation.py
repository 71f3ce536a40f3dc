"""Why a post is where it is: in numbers that add up to its score exactly, and in words."""

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import THUNDER, CandidateTable
from operators.pipeline.scorers import HEADS, ScoreTable
from schemas.actions import DWELL_TIME
from schemas.feeds import Factor, ScoreExplanation


def explain(
    scores: ScoreTable, probabilities: npt.NDArray[np.float32], ranks: npt.NDArray[np.intp], row: int
) -> ScoreExplanation:
    """Return how the score of one candidate came about.

    Summing the contributions in their order gives `weighted`, and multiplying `offset_score` by the factors in their
    order gives the score: both exactly, in double precision.
    """
    return ScoreExplanation(
        probabilities={head: float(value) for head, value in zip(HEADS, probabilities[row], strict=True)},
        contributions={head: float(value) for head, value in zip(HEADS, scores.contributions[:, row], strict=True)},
        weighted=float(scores.weighted[row]),
        offset_score=float(scores.offset_score[row]),
        factors=(
            Factor("author_diversity", float(scores.diversity[row])),
            Factor("out_of_network", float(scores.oon[row])),
        ),
        rank_before=int(ranks[row]),
    )


def why(table: CandidateTable, scores: ScoreTable | None, row: int) -> str:
    """Return in a few words where a post came from and which action it is expected to draw."""
    if table.in_network[row]:
        reason = "reposted by somebody you follow" if table.is_repost[row] else "from somebody you follow"
    elif table.source[row] == THUNDER:
        reason = "from your network"
    else:
        reason = "close to what you engage with"
    if scores is None:
        return f"{reason}; the model did not answer, newest first"
    strongest = int(np.argmax(scores.contributions[:, row]))
    if scores.contributions[strongest, row] <= 0:
        return reason
    expected = "a long look" if strongest == DWELL_TIME else f"{HEADS[strongest].replace('_', ' ')}"
    return f"{reason}; {expected} adds most to its score"
