"""An experiment in a closed loop: arms live side by side, and the loop ends once it is clear what to do."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from flows.closed_loop.memory import MemoryLoop
from flows.closed_loop.trial import LOOK_MS, Look, Trial
from flows.experiments.outcomes import Metric
from flows.terminal import Refusal
from infra.logs import LogReader, LogWriter
from infra.world import Crowd, WorldParameters
from models.config import PRESETS, PhoenixConfig
from models.phoenix import Phoenix
from operators.experiments import Arm, Experiments
from operators.parameters import DEFAULTS, ParameterRefused
from run_flow import app
from schemas.codec import decode
from schemas.events import Engagement, Served
from schemas.feeds import Feed, FeedItem

START = 1_767_571_200_000
# Who is shown one post a time finds less to like.
SHORT = Experiments({"length": {"usual": Arm(0.5), "short": Arm(0.5, {"selection.result_size": 1})}})
BUSY = WorldParameters(
    people=130, days=3.0, follows_per_person=6.0, sessions_per_person_day=4.0, posts_per_person_day=4.0
)


def test_a_trial_looks_four_times_a_day_and_says_what_is_known_by_then() -> None:
    trial = Trial(SHORT, Metric("favorite"), START)
    for viewer in range(200):
        arm = "usual" if viewer % 2 else "short"
        item = FeedItem(viewer + 1, 9, 1.0, "fresh", False, "why")
        trial.take_feed(Feed(START + viewer, viewer + 1, viewer + 1, "m", (item,), (), experiments={"length": arm}))
        # Of the usual arm four of five like it, of the short one every fifth.
        liked = (viewer // 2) % 5 < (4 if arm == "usual" else 1)
        acts = [Engagement(START + viewer + 1, viewer + 1, viewer + 1, "favorite")] if liked else []
        trial.take_acts(acts, START + viewer + 1)
    assert trial.looks == []
    assert not trial.decided
    trial.take_acts([], START + LOOK_MS)
    trial.take_acts([], START + LOOK_MS + 1)
    (look,) = trial.looks
    assert look.day == 0.25
    assert [(arm.name, arm.viewers, arm.mean) for arm in look.comparison.arms] == [
        ("usual", 100, 0.8), ("short", 100, 0.2),
    ]  # fmt: skip
    assert look.comparison.contrasts[0].decision == "control better"
    assert trial.decided


def test_nobody_looks_before_there_is_somebody_in_each_arm() -> None:
    trial = Trial(SHORT, Metric("favorite"), START)
    trial.take_acts([], START + LOOK_MS)
    assert trial.looks == []


def test_the_loop_ends_at_the_decision(checkpoint: Path, tmp_path: Path) -> None:
    trial = Trial(SHORT, Metric("favorite"), BUSY.start_ms)
    with LogWriter(tmp_path / "log.jsonl") as writer:
        lived = MemoryLoop(
            Crowd(BUSY), DEFAULTS, Phoenix.load(checkpoint), judge_every=1000, written=writer.write, trial=trial
        ).run(lambda *_: None)
    decisions = [look.comparison.contrasts[0].decision for look in trial.looks]
    assert decisions[-1] == "control better"
    assert set(decisions[:-1]) <= {"go on"}
    assert max(feed.at_ms for feed in lived.feeds) < Crowd(BUSY).end_ms - LOOK_MS, "it ended before the world did"
    events = [decode(raw) for batch in LogReader(tmp_path / "log.jsonl").batches() for raw in batch.raw]
    sizes = {
        (dict(SHORT.exposures(int(one.viewer)))["length"], len(one.posts)) for one in events if isinstance(one, Served)
    }
    assert {size for arm, size in sizes if arm == "short"} <= {0, 1}
    assert max(size for arm, size in sizes if arm == "usual") > 1


def test_what_is_no_trial_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    two = Experiments({"a": {"x": Arm(1.0)}, "b": {"y": Arm(0.5), "z": Arm(0.5)}})
    with pytest.raises(
        Refusal, match=r"takes one experiment of two arms or more, and the file has a \(x\), b \(y, z\)"
    ):
        Trial(two, Metric("favorite"), START)
    unknown = Experiments({"m": {"old": Arm(0.5), "new": Arm(0.5, {"models.cluster": "new"})}})
    with pytest.raises(ParameterRefused, match=r"experiment m, arm new: .*no cluster is called new"):
        MemoryLoop(Crowd(BUSY), DEFAULTS, Phoenix.load(checkpoint), trial=Trial(unknown, Metric("favorite"), START))


def test_two_models_side_by_side_by_the_command(
    checkpoint: Path, tmp_path: Path, tiny: PhoenixConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    file = tmp_path / "arms.toml"
    file.write_text(
        '[model]\nold = { share = 0.5 }\nnew = { share = 0.5, parameters = { "models.cluster" = "new" } }\n'
    )
    asked = [
        "--no-learn",
        "--no-compare",
        "--model",
        "tiny",
        "--cluster",
        f"new={checkpoint}",
        "--experiment",
        str(file),
    ]
    world = ["--people", "16", "--days", "1", "--set", "follows_per_person=4", "--metric", "dwell_s"]
    result = CliRunner().invoke(app, ["simulate", "--closed-loop", str(tmp_path / "out"), *asked, *world, "--json"])
    assert result.exit_code == 0, result.output
    (figures,) = json.loads(result.stdout)
    looks = msgspec.convert(figures["looks"], list[Look])
    assert looks[-1].comparison.contrasts[0].decision == "go on", "sixteen people decide nothing"
    assert [arm.name for arm in looks[-1].comparison.arms] == ["old", "new"]
    assert all(arm.mean > 0 for arm in looks[-1].comparison.arms)
    assert sum(arm.viewers for arm in looks[-1].comparison.arms) <= 16
    assert f"--cluster new={checkpoint} --experiment {file} --metric dwell_s" in figures["command"]
    assert "Arms side by side" in (tmp_path / "out" / "report.html").read_text()
    refused = CliRunner().invoke(app, ["simulate", "--closed-loop", str(tmp_path / "x"), *asked, "--metric", "likes"])
    assert refused.exit_code == 2
    assert "no metric is called likes" in " ".join(refused.output.split())
