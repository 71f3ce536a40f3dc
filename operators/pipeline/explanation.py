"""Why a post is where it is: in numbers that add up to its score exactly, and in words."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.pipeline.candidates import SOURCES, CandidateTable
from operators.pipeline.scorers import HEADS, ScoreTable, head_maxima
from operators.pipeline.scorers.steps import OPERATIONS
from schemas.actions import DWELL_TIME
from schemas.feeds import ScoreExplanation, ScoreStep


def explain(
    scores: ScoreTable,
    probabilities: npt.NDArray[np.float32],
    ranks: npt.NDArray[np.intp],
    maxima: dict[str, float],
    row: int,
    failed: tuple[str, ...] = (),
) -> ScoreExplanation:
    """Return how the score of one candidate came about; `failed` names the components that failed on it.

    `ranks` and `maxima`, the largest output of each head, are those of all the request's candidates.
    Summing the contributions in their order gives `weighted`, and taking the steps in theirs gives the score: both
    exactly, in double precision.
    """
    return ScoreExplanation(
        probabilities={head: float(value) for head, value in zip(HEADS, probabilities[row], strict=True)},
        contributions={head: float(value) for head, value in zip(HEADS, scores.contributions[:, row], strict=True)},
        weighted=float(scores.weighted[row]),
        steps=tuple(ScoreStep(step.name, step.operation, float(step.value[row])) for step in scores.steps),
        rank_before=int(ranks[row]),
        head_maxima=maxima,
        failed=failed,
    )


def maxima_of(probabilities: npt.NDArray[np.float32] | None) -> dict[str, float]:
    """Return the largest output of each head over a request's candidates, by name; nothing without a model's word."""
    if probabilities is None:
        return {}
    return dict(zip(HEADS, head_maxima(probabilities).tolist(), strict=True))


def why(
    table: CandidateTable, scores: ScoreTable | None, chosen: npt.NDArray[np.intp], ranked: bool = True
) -> list[str]:
    """Return in a few words where each chosen post came from, and what it is expected to draw or was raised for.

    Of a feed that is not `ranked` nobody expected the model to answer.
    """
    origins = [_origin(table, row) for row in chosen.tolist()]
    if not ranked:
        return origins
    if scores is None:
        return [f"{origin}; the model did not answer, newest first" for origin in origins]
    contributions = scores.contributions[:, chosen]
    strongest = contributions.argmax(axis=0)
    helps = contributions.max(axis=0, initial=0.0) > 0
    said = [
        f"{origin}; {_IN_WORDS[head]} adds most to its score" if help else origin
        for origin, head, help in zip(origins, strongest.tolist(), helps.tolist(), strict=True)
    ]
    for place, reason in _raised(scores, chosen):
        said[place] = f"{origins[place]}; {reason}"
    return said


def _raised(scores: ScoreTable, chosen: npt.NDArray[np.intp]) -> Iterator[tuple[int, str]]:
    """Yield the places of chosen posts that a scorer raised, and why it did."""
    value = scores.weighted[chosen]
    for step in scores.steps:
        before, value = value, OPERATIONS[step.operation](value, step.value[chosen])
        if step.name in _RAISED:
            yield from ((place, _RAISED[step.name]) for place in np.flatnonzero(value > before).tolist())


def _origin(table: CandidateTable, row: int) -> str:
    if table.in_network[row]:
        return "reposted by somebody you follow" if table.is_repost[row] else "from somebody you follow"
    return _OUT_OF_NETWORK[SOURCES[table.source[row]]]


_OUT_OF_NETWORK: Final = {
    "thunder": "from your network",
    "phoenix_retrieval": "close to what you engage with",
    "simclusters": "from a circle that interests you",
    "co_likers": "liked by people who liked what you liked",
    "popular": "popular",
    "fresh": "new",
    "requested": "asked for",
    "topics": "on a topic asked for",
}
_RAISED: Final = {"author_cold_start": "raised because few know its author"}
_IN_WORDS: Final = ["a long look" if head == DWELL_TIME else name.replace("_", " ") for head, name in enumerate(HEADS)]
