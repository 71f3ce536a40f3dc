"""Models beside each other by shadow scores: what each foretold of the posts that were shown, against what happened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from flows.experiments.analysis import Comparison, Rules, Sums, compare_paired
from flows.experiments.outcomes import DWELL, Outcomes
from flows.terminal import Refusal
from schemas.feeds import ShadowScores
from schemas.ids import key_of

Values = npt.NDArray[np.float64]

# Scores have six digits: what is said to be impossible costs as much as one in a million.
LEAST: Final = 1e-6
# Per viewer and model: pairs in the right order, pairs; error, posts.
Row = npt.NDArray[np.float64]


class ShadowComparison(Struct, frozen=True):
    """Models beside each other over the same posts, the one that requests asked for first; None where it can't be said.

    `order` is the share of a request's pairs of unlike outcome that a model has in the right order (AUC within a
    request, ties a half), `error` what it is off a post: log loss, or seconds of `dwell_s`.
    """

    requests: int
    posts: int
    order: Comparison | None
    error: Comparison | None


def read_shadow_scores(path: Path) -> list[ShadowScores]:
    """Return the shadow scores of a file of JSON Lines. Raises Refusal."""
    decoder, found = msgspec.json.Decoder(ShadowScores), []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found.append(decoder.decode(line))
            except msgspec.MsgspecError as error:
                raise Refusal(f"{path}:{number} are no shadow scores: {error}") from None
    return found


def compare_shadows(scores: Sequence[ShadowScores], outcomes: Outcomes, rules: Rules) -> ShadowComparison:
    """Return the models of shadow scores beside each other, by viewer, over posts that were shown and scored by all."""
    shown, action = outcomes.posts(), outcomes.metric.action
    first = scores[0].cluster
    models = [first, *sorted({name for one in scores for name in one.models} - {first})]
    by_viewer: dict[int, Row] = {}
    requests = posts = 0
    for one in scores:
        columns = [one.scores.get(f"phoenix.{name}.{action}") for name in models]
        seen = shown.get(one.request, set())
        rows = [place for place, post in enumerate(one.posts) if key_of(post) in seen]
        if not rows or None in columns:
            continue
        values = outcomes.of.get(one.request, {})
        happened = np.array([values.get(key_of(one.posts[place]), 0.0) for place in rows])
        found = np.array([_row(np.array(column)[rows], happened, outcomes.metric.name) for column in columns])
        viewer = key_of(one.viewer)
        by_viewer[viewer] = by_viewer.get(viewer, np.zeros((len(models), 4))) + found
        requests, posts = requests + 1, posts + len(rows)
    # Whatever is foretold, who has more in order and errs less is better.
    more, less = (replace(rules, lower_is_better=lower) for lower in (False, True))
    return ShadowComparison(requests, posts, _beside(models, by_viewer, 0, more), _beside(models, by_viewer, 2, less))


def _row(foretold: Values, happened: Values, metric: str) -> Row:
    """Return the pairs in the right order, the pairs, the error and the posts of one request."""
    unlike = happened[:, None] > happened[None, :]
    right = (foretold[:, None] > foretold[None, :]) + 0.5 * (foretold[:, None] == foretold[None, :])
    if metric == DWELL:
        error = np.abs(foretold - happened)
    else:
        sure = np.clip(foretold, LEAST, 1 - LEAST)
        error = -np.where(happened > 0, np.log(sure), np.log1p(-sure))
    return np.array([(right * unlike).sum(), unlike.sum(), error.sum(), len(happened)], np.float64)


def _beside(models: Sequence[str], by_viewer: dict[int, Row], column: int, rules: Rules) -> Comparison | None:
    """Return models beside each other by one ratio, over the viewers it is known of; None where nothing is."""
    known = [row for row in by_viewer.values() if row[0, column + 1] > 0]
    if len(models) < 2 or not known:
        return None
    rows = np.stack(known)
    return compare_paired(
        {name: Sums(rows[:, place, column], rows[:, place, column + 1]) for place, name in enumerate(models)}, rules
    )
