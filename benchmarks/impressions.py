"""KuaiRand's impressions as a table: what happened, the constant rate, smoothed rates, and gradient-boosted trees.

The rows are those of the log that infra/importers/kuairand.py writes, in its order.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.past_statistics import HOUR_MS, Impressions, features, past
from infra.importers.base import find_sources, read_table
from infra.importers.kuairand import ACTIONS_OF, CHINA, COLUMNS, FILES, Options
from models.inputs import U32, U64
from schemas.actions import ACTION_INDEX, SURFACES, Action

F64 = NDArray[np.float64]

# The share of the training rows, its last, that chooses epochs, rounds and calibration.
VALIDATION: Final = 0.15
# Outcomes in this order; those before `reply` are frequent enough for the statistics of small groups.
OUTCOMES: Final = ("click", "vqv", "favorite", "profile_click", "dwell", "play share", "reply", "share",
                   "follow_author", "not_interested")  # fmt: skip
FREQUENT: Final = 6
ACTIONS_JUDGED: Final[tuple[Action, ...]] = ("dwell", *ACTIONS_OF.values())
PAIRS: Final = (("viewer", "surface"), ("viewer", "tag"), ("viewer", "length"), ("video", "surface"),
                ("tag", "surface"))  # fmt: skip
LENGTHS_S: Final = (5, 8, 11, 15, 20, 30, 45, 60, 90, 120, 180, 300)
# Small trees with strong smoothing, as suits a few thousand positives; rounds are chosen for each action.
TREES: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.07,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,
    "verbose": -1,
}
ROUNDS_MAX: Final = 2000
PATIENCE_ROUNDS: Final = 60
# Made-up impressions in the smoothed rates: a viewer has 7 impressions and a video 26 to show what they are.
SMOOTHING_VIEWER: Final = 5.0
SMOOTHING_VIDEO: Final = 20.0
RATE_MIN: Final = 1e-5


class Table:
    """Impressions in order of time, those from `end` on to be judged; bits of ACTIONS in `actions` u32[n].

    These are the test rows, or for `validation` the last of those before, and then the test rows are not there at all.
    """

    def __init__(self, validation: bool = False, test_rows: int = Options().test_rows) -> None:
        """Raises ImportRefused where the data is missing or of another form."""
        (path,) = find_sources([], FILES)
        table = (
            read_table(path, COLUMNS)
            .filter(pl.col("tab").is_between(0, SURFACES - 1))
            .sort("time_ms", maintain_order=True)
        )
        self.end = table.height - test_rows
        if validation:
            table, self.end = table[: self.end], int(self.end * (1 - VALIDATION))
        self.frame = table
        self.viewer: U64 = table["user_id"].to_numpy().astype(np.uint64)
        play_ms = table["play_time_ms"].to_numpy()
        happened = {action: table[column].to_numpy() > 0 for column, action in ACTIONS_OF.items()}
        happened["dwell"] = play_ms >= Options().dwell_s * 1000
        self.actions: U32 = np.zeros(table.height, np.uint32)
        for action, flags in happened.items():
            self.actions |= flags.astype(np.uint32) << np.uint32(ACTION_INDEX[action])
        shares = np.minimum(play_ms / np.maximum(table["duration_ms"].to_numpy(), 1), 2) / 2
        self.impressions = _impressions(table, happened | {"play share": shares}, play_ms)

    def happened(self, action: str) -> NDArray[np.bool_]:
        """Return whether an action came of each row."""
        bits: U32 = (self.actions >> np.uint32(ACTION_INDEX[action])) & np.uint32(1)
        return bits.astype(np.bool_)


def _impressions(table: pl.DataFrame, outcomes: dict[str, Any], play_ms: NDArray[np.int64]) -> Impressions:
    at_ms = table["time_ms"].to_numpy().astype(np.int64)
    midnight = pl.col("upload_dt").str.to_datetime("%Y-%m-%d").dt.replace_time_zone(None).dt.epoch("ms")
    offset_ms = CHINA.utcoffset(None).total_seconds() * 1000
    uploaded_ms = table.select(midnight)["upload_dt"].to_numpy() - offset_ms
    length_s = table["duration_ms"].to_numpy() / 1000
    surface, hour = table["tab"].to_numpy().astype(np.int64), at_ms // HOUR_MS % 24
    tag, tags = _numbers(table["tag"].str.split(",").list.first()), table["tag"].str.split(",").list.len().to_numpy()
    return Impressions(
        at_ms=at_ms,
        # As the importer logs them: when the video had been played.
        known_ms=at_ms + np.maximum(play_ms, 1),
        outcomes=np.stack([outcomes[name].astype(np.float64) for name in OUTCOMES], axis=1),
        groups={
            "viewer": _numbers(table["user_id"]),
            "video": _numbers(table["video_id"]),
            "author": _numbers(table["author_id"]),
            "tag": tag,
            "surface": surface,
            "length": np.digitize(length_s, LENGTHS_S).astype(np.int64),
            "hour": hour,
        },
        own=np.stack([hour, (at_ms - uploaded_ms) / HOUR_MS, length_s, surface, tag, tags], axis=1),
        outcome_names=OUTCOMES,
        own_names=("hour of day", "age in hours", "length in seconds", "surface", "tag", "tags"),
    )


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    return column.rank("dense").to_numpy().astype(np.int64) - 1


def constant_rates(table: Table) -> dict[str, F64]:
    """Return the share of the training rows for every row that is judged, by action."""
    return {
        action: np.full(len(table.actions) - table.end, table.happened(action)[: table.end].mean())
        for action in ACTIONS_JUDGED
    }


def smoothed_rates(table: Table) -> dict[str, F64]:
    """Return the odds of a viewer's rate times those of the video's over those of all, each as of the impression."""
    rows = table.impressions
    kinds = np.stack([table.happened(action) for action in ACTIONS_JUDGED], axis=1).astype(np.float64)
    everything = np.zeros(len(rows.at_ms), np.int64)
    overall = past(everything, rows.at_ms, rows.known_ms, kinds).rates(np.full_like(kinds, 0.1))
    logits = -_logit(overall)
    for group, smoothing in (("viewer", SMOOTHING_VIEWER), ("video", SMOOTHING_VIDEO)):
        known = past(rows.groups[group], rows.at_ms, rows.known_ms, kinds)
        logits += _logit(known.rates(overall, smoothing))
    given = 1.0 / (1.0 + np.exp(-logits[table.end :]))
    return {action: given[:, column] for column, action in enumerate(ACTIONS_JUDGED)}


def _logit(rates: F64) -> F64:
    p = np.clip(rates, RATE_MIN, 1 - RATE_MIN)
    return np.log(p) - np.log1p(-p)


def trees(table: Table, seed: int, progress: Callable[[float, float], None]) -> dict[str, F64]:
    """Return what LightGBM gives the rows that are judged, by action; the end of the training rows chooses the rounds.

    Features see only what was known at each row (benchmarks/past_statistics.py).
    """
    import lightgbm

    found, names = features(table.impressions, PAIRS, ("viewer", "video"), FREQUENT)
    found = found.astype(np.float32)
    start = int(table.end * (1 - VALIDATION))
    fitted, chosen = slice(0, start), slice(start, table.end)
    given: dict[str, F64] = {}
    for done, action in enumerate(ACTIONS_JUDGED):
        labels = table.happened(action)
        parameters = TREES | {"seed": seed}
        first = lightgbm.Dataset(found[fitted], labels[fitted], feature_name=names)
        judge = lightgbm.Dataset(found[chosen], labels[chosen], reference=first)
        stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
        rounds = lightgbm.train(parameters, first, ROUNDS_MAX, [judge], callbacks=[stop]).best_iteration
        # More rows carry more rounds.
        rounds = max(1, round(rounds / (1 - VALIDATION)))
        model = lightgbm.train(parameters, lightgbm.Dataset(found[: table.end], labels[: table.end]), rounds)
        given[action] = np.asarray(model.predict(found[table.end :]), np.float64)
        progress(done + 1, len(ACTIONS_JUDGED))
    return given
