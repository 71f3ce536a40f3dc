"""`simulate --closed-loop`: models learn and take over while people live, and one page tells what came of it."""

import json
import shlex
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from typer.testing import CliRunner

from flows.closed_loop import command, study
from flows.closed_loop.command import MODELS, REPORT
from flows.closed_loop.plots import bars, lines
from flows.closed_loop.study import BEGUN, FIGURES, LEARNED, LOG, VARIANTS, Figures
from flows.replay import SERVED, Replay, replay
from infra.logs import LogReader
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from models.registry import Registry
from operators.parameters import DEFAULTS
from run_flow import app
from schemas.codec import decode
from schemas.events import ModelAnnounced, Served

# Two intervals are judged, so that models take over; tiny worlds, so that it ends soon.
WORLD = {"people": 14, "sessions_per_person_day": 5, "posts_per_person_day": 12, "follows_per_person": 4}
LEARNING = {"interval_examples": 16, "examples_a_step": 8, "passes": 1, "publish_margin": 1.0, "positives_min": 1}
SETTINGS = [
    *(part for name, value in WORLD.items() for part in ("--set", f"{name}={value}")),
    *(part for name, value in LEARNING.items() for part in ("--learning", f"{name}={value}")),
    *("--days", "1", "--model", "tiny", "--judge", "2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: PhoenixConfig) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", tiny)
        for name in ("one", "two"):
            result = CliRunner().invoke(
                app, ["simulate", "--closed-loop", str(folder / name), *SETTINGS, "--no-compare", "--json"]
            )
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def figures(folder: Path) -> Figures:
    (found,) = msgspec.json.decode((folder / "one" / FIGURES).read_bytes(), type=list[Figures])
    return found


def test_models_take_over_while_people_live(figures: Figures, folder: Path) -> None:
    versions = [version for _, version in figures.models]
    assert len(versions) == len(set(versions)) >= 3
    days = [day for day, _ in figures.models]
    assert days == sorted(days)
    assert 0 == days[0] < days[-1] < 1
    published = [one.version for one in Registry(folder / "one" / MODELS, keep=20).entries()]
    assert published == versions[1:]
    assert Phoenix.load(folder / "one" / LEARNED).version == versions[-1]
    assert figures.feeds > 60


def test_the_same_seed_learns_the_same_models_from_the_same_life(folder: Path) -> None:
    for name in (LOG, LEARNED):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_the_log_of_a_loop_that_learns_replays_to_the_same_feeds_of_the_same_models(
    folder: Path, figures: Figures, tmp_path: Path
) -> None:
    log = folder / "one" / LOG
    events = [decode(raw) for batch in LogReader(log).batches() for raw in batch.raw]
    announced = [one for one in events if isinstance(one, ModelAnnounced)]
    assert [one.model for one in announced] == [version for _, version in figures.models[1:]]
    assert [one.checkpoint for one in announced] == [f"{MODELS}/{one.model}.phoenix" for one in announced]
    shown = [(one.request, one.posts, one.model) for one in events if isinstance(one, Served)]
    assert {model for *_, model in shown} == {version for _, version in figures.models}
    summary = replay(Replay(log, tmp_path / "out", folder / "one" / BEGUN, DEFAULTS, threads=1))
    assert summary.dead_letters == {}
    lines = (tmp_path / "out" / SERVED).read_bytes().splitlines()
    again = [msgspec.json.decode(line, type=Served) for line in lines]
    # The last feed's own `served` would stand behind the end of the log.
    assert [(one.request, one.posts, one.model) for one in again[: len(shown)]] == shown
    assert len(again) - len(shown) <= 1


def test_the_page_is_whole_and_names_its_command(figures: Figures, folder: Path) -> None:
    html = (folder / "one" / REPORT).read_text()
    body = html.removeprefix("<!doctype html>").replace('<meta charset="utf-8">', "")
    found = ElementTree.fromstring(body)
    assert len(found.findall(".//{http://www.w3.org/2000/svg}svg")) >= 4
    assert not found.findall(".//script")
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert figures.command in html
    assert "--people 14 --days 1 --checkpoint untrained --model tiny" in figures.command
    assert "--learning interval_examples=16" in figures.command
    assert figures.command.endswith("--no-compare")


def test_figures_hold_together(figures: Figures) -> None:
    assert [one.day for one in figures.utility] == [0.0]
    assert figures.utility[0].regret > 0
    assert {one.action for one in figures.calibration} == {"favorite", "reply", "retweet", "click", "dwell"}
    assert all(0 < one.effective_topics <= 16 for one in figures.concentration)
    assert 0 <= figures.reach.gini_posts <= 1


def test_the_command_below_a_variant_lives_the_same_life(
    folder: Path, tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    monkeypatch.setattr(study, "SMALL_PEOPLE", 10)
    monkeypatch.setattr(study, "SMALL_DAYS", 0.5)
    monkeypatch.setattr(command, "VARIANTS", VARIANTS[:2])
    begun = ["--checkpoint", str(folder / "one" / LEARNED), "--no-learn"]
    result = CliRunner().invoke(app, ["simulate", "--closed-loop", str(folder / "compared"), *SETTINGS, *begun])
    assert result.exit_code == 0, result.output
    main, as_it_is, changed = msgspec.json.decode((folder / "compared" / FIGURES).read_bytes(), type=list[Figures])
    html = (folder / "compared" / REPORT).read_text()
    for one in (main, as_it_is, changed):
        assert escape(one.command) in html
    again = shlex.split(changed.command.removeprefix("run_flow.py ").replace(str(folder), str(folder / "again")))
    again[again.index("--checkpoint") + 1] = str(folder / "compared" / LEARNED)
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 0, result.output
    logs = [(at / "compared" / "no-diversity" / LOG).read_bytes() for at in (folder, folder / "again")]
    assert logs[0] == logs[1] != (folder / "compared" / "as-it-is" / LOG).read_bytes()
    assert "--job dpp.enabled=false" in changed.command


def test_a_folder_with_models_of_an_earlier_run_is_refused(folder: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", "--closed-loop", str(folder / "one"), "--no-compare"])
    assert result.exit_code == 2
    assert "holds models of an earlier run: remove it, or name another folder" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "huge"], "no model is called huge"),
        (["--learning", "interval_examples=7"], "not two or more whole steps"),
        (["--learning", "speed=7"], "unknown field `speed`"),
        (["--job", "scoring.magic=1"], "scoring.magic"),
        (["--checkpoint", "none.phoenix"], "none.phoenix"),
        (["--preset", "moon"], "no world is called moon"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments: list[str], reason: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", "--closed-loop", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2, result.output
    assert reason in " ".join(result.output.split())


def test_variants_change_parameters_that_there_are() -> None:
    from operators.parameters import DEFAULTS

    changed = [DEFAULTS.overridden(one.changes) for one in VARIANTS]
    assert changed[0] == DEFAULTS
    assert all(one != DEFAULTS for one in changed[1:])


def test_plots_are_drawn_to_scale() -> None:
    drawn = ElementTree.fromstring(lines({"a & b": [(0.0, 0.0), (1.0, 2.0)], "c": [(0.5, 1.0)]}, "day", "share", [0.5]))
    space = "{http://www.w3.org/2000/svg}"
    first = drawn.find(f"{space}polyline")
    assert first is not None
    (left, floor), (right, top) = (map(float, point.split(",")) for point in first.attrib["points"].split())
    middle = drawn.findall(f"{space}circle")[-1].attrib
    assert float(middle["cx"]) == pytest.approx((left + right) / 2)
    assert float(middle["cy"]) == pytest.approx((floor + top) / 2)
    widths = [
        float(one.attrib["width"])
        for one in ElementTree.fromstring(bars([("x", 1.0), ("y", 2.0)])).iter(f"{space}rect")
    ]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert json.dumps(lines({}, "day", "share")) == '"<p>Nothing to draw.</p>"'
