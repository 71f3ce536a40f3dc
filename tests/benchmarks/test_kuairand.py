"""KuaiRand's examples by columns are those of its log, and rates are given for the rows judged."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.impression_examples import examples_of
from benchmarks.impressions import ACTIONS_JUDGED, Table, constant_rates, smoothed_rates
from benchmarks.kuairand import DAY_MS, days, known
from flows.intake import Intake
from flows.training_examples import batch, examples
from infra.importers import run
from infra.importers.base import DATA_FOLDER_VARIABLE
from infra.importers.kuairand import ACTIONS_OF, FILES
from infra.logs.reader import LogReader
from models.inputs import ExampleBatch
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts

ROWS, TEST_ROWS, SLOTS = 240, 30, 32


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out impressions of a few viewers, three at the same millisecond, the later viewer first."""
    rng = np.random.default_rng(8)
    at_ms = 1_651_000_000_000 + np.arange(ROWS) // 3 * 90_000
    columns = {
        "time_ms": at_ms,
        "user_id": np.arange(ROWS)[::-1] % 7,
        "video_id": np.arange(ROWS) % 41,
        "author_id": np.arange(ROWS) % 41 % 5 + 900,
        "tab": rng.integers(0, 3, ROWS),
        "play_time_ms": rng.integers(0, 20_000, ROWS) * (rng.random(ROWS) < 0.4),
        "duration_ms": np.full(ROWS, 12_000),
        "upload_dt": ["2022-04-09"] * ROWS,
        "tag": ["39,43"] * ROWS,
    }
    columns |= {name: (rng.random(ROWS) < 0.05).astype(np.int64) for name in ACTIONS_OF}
    pl.DataFrame(columns).write_parquet(tmp_path / FILES[0])
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))


@pytest.mark.usefixtures("data")
def test_examples_by_columns_are_those_of_the_log(tmp_path: Path) -> None:
    options = {"gap_minutes": 0, "posts_a_request": 1, "requests_from": 1, "test_rows": TEST_ROWS}
    log = run("kuairand", [], tmp_path / "log.jsonl", options).log
    parameters = DEFAULTS.overridden({"posts.retention_s": 40 * 86_400})
    intake = Intake(MemoryState(parameters, live_posts(parameters)), parameters, Ownership())
    followed = batch(list(examples(LogReader(log), intake, 1)), SLOTS, 1)
    table = Table(test_rows=TEST_ROWS)
    found = examples_of(table.frame, table.actions, SLOTS)
    order, wanted = (np.lexsort((one.viewer, one.at_ms)) for one in (found, followed))
    for name in (field.name for field in fields(ExampleBatch)):
        mine, its = getattr(found, name), getattr(followed, name)
        if len(mine):
            np.testing.assert_array_equal(mine[order], its[wanted], err_msg=name)
    assert found.history_length.max() > SLOTS / 2
    assert found.followed.any()
    assert found.viewer_counts[:, -1].max() > 1


@pytest.mark.usefixtures("data")
def test_rates_are_given_for_the_rows_judged() -> None:
    table = Table(test_rows=TEST_ROWS)
    happened = table.happened("click")
    assert constant_rates(table)["click"].tolist() == [happened[: ROWS - TEST_ROWS].mean()] * TEST_ROWS
    smoothed = smoothed_rates(table)
    assert set(smoothed) == set(ACTIONS_JUDGED)
    assert all(((column > 0) & (column < 1)).all() and len(column) == TEST_ROWS for column in smoothed.values())


def test_biases_of_a_day_are_set_by_what_was_known_before_it() -> None:
    at_ms = np.array([0, 10, 20, DAY_MS + 19, DAY_MS + 20, 3 * DAY_MS + 21], np.int64)
    assert [(one.start, one.stop) for one in days(at_ms, 2)] == [(2, 4), (4, 5), (5, 6)]
    known_ms = at_ms + np.array([5, DAY_MS, 5, 5, 5, 5])
    assert known(known_ms, DAY_MS + 10, 2).tolist() == [0, 2]
    assert known(known_ms, DAY_MS + 11, 2).tolist() == [1, 2]


@pytest.mark.usefixtures("data")
def test_validation_rows_come_from_the_training_part() -> None:
    table, whole = Table(validation=True, test_rows=TEST_ROWS), Table(test_rows=TEST_ROWS)
    assert (len(table.actions), table.end) == (whole.end, int(whole.end * 0.85))
    assert table.impressions.at_ms.tolist() == whole.impressions.at_ms[: whole.end].tolist()
