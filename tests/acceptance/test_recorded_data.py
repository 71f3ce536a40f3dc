"""The beginning of each real log, imported and replayed: feeds for real people, and no line refused."""

from pathlib import Path

import polars as pl
import pytest

from infra.importers import DATA_FOLDER_VARIABLE, run
from infra.importers.base import data_folder
from tests.acceptance.playing import Player

DAY_S = 86_400


def source(name: str) -> Path:
    """Return a file of recorded data; skips the test, visibly, where it is not there."""
    path = data_folder() / name
    if not path.exists():
        pytest.skip(f"{name} is not there: set {DATA_FOLDER_VARIABLE} to the folder that holds it")
    return path


def beginning(path: Path, rows: int, folder: Path) -> Path:
    """Write the first rows of a table, and return where."""
    if path.suffix == ".parquet":
        pl.read_parquet(path).sort("time_ms").head(rows).write_parquet(folder / path.name)
        return folder / path.name
    out = folder / path.name.removesuffix(".gz")
    pl.read_csv(path).head(rows).write_csv(out)
    return out


def test_twitter_2010_beginning(play: Player, tmp_path: Path) -> None:
    cascades = beginning(source("twitter2010_cascades.csv.gz"), 1000, tmp_path)
    summary = run("twitter2010", [cascades], tmp_path / "log.jsonl", {"requests_from": "0.8"})
    played = play.log(summary.log)
    assert played.summary.events == summary.events
    assert played.summary.feeds == summary.kinds["feed_request"] > 100
    assert played.summary.items > 1000
    assert played.summary.in_network_items == 0, "there are no follows"
    assert played.dead_letters == []
    assert played.summary.degraded == {}


def test_douban_beginning(play: Player, tmp_path: Path) -> None:
    cascades = beginning(source("douban_cascades.csv.gz"), 3000, tmp_path)
    people = pl.read_csv(cascades).select("user").unique()
    edges = pl.read_csv(source("douban_edges_subset.csv.gz"))
    edges = edges.join(people, left_on="src", right_on="user", how="semi")
    edges = edges.join(people, left_on="dst", right_on="user", how="semi")
    edges.write_csv(tmp_path / "edges.csv")
    log = tmp_path / "log.jsonl"
    summary = run("douban", [cascades, tmp_path / "edges.csv"], log, {"requests_from": "0.97"})
    played = play.log(summary.log)
    assert played.summary.events == summary.events
    assert played.summary.feeds == summary.kinds["feed_request"] > 20
    assert 0 < played.summary.in_network_items < played.summary.items
    assert played.dead_letters == []


def test_kuairand_beginning(play: Player, tmp_path: Path) -> None:
    impressions = beginning(source("kuairand_pure_0425_0508_impressions.parquet"), 2000, tmp_path)
    summary = run("kuairand", [impressions], tmp_path / "log.jsonl", {"test_rows": "500", "requests_from": "0.9"})
    parameters = {"posts.retention_s": 60 * DAY_S, "filters.age_s": 60 * DAY_S}
    played = play.log(summary.log, parameters)
    assert played.summary.events == summary.events
    assert played.summary.feeds == summary.kinds["feed_request"] > 100
    assert played.summary.items > 1000
    assert played.dead_letters == []
    # Videos are weeks old when they are shown: with 48 hours of retention hardly one would be left.
    assert play.log(summary.log).summary.items < played.summary.items / 2
