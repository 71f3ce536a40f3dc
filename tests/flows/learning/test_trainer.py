"""A model learns from the stream, is judged before it learns, and is published only where it is good enough."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flows.learning.trainer import ContinuousTrainer, Interval
from models.checkpoints import CheckpointRefused
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from models.registry import Registry
from operators.parameters.learning import LearningSettings
from tests.conftest import shaken
from tests.flows.learning.streams import CONFIG, SECOND_MS, SETTINGS, stream
from tests.models.toy_world import HOUR_MS, START_MS


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Interval], Registry]:
    """Return twelve intervals of a trainer that begins with fresh weights."""
    registry = Registry(tmp_path_factory.mktemp("registry"), keep=3)
    trainer = ContinuousTrainer(registry, CONFIG, SETTINGS, seed=1)
    return trainer.take(stream(12 * 64)), registry


def test_what_is_foretold_gets_better_interval_by_interval(learned: tuple[list[Interval], Registry]) -> None:
    intervals, _ = learned
    assert [one.number for one in intervals] == list(range(1, 13))
    assert {(one.examples, one.rows) for one in intervals} == {(64, 64 * 12)}
    assert (intervals[0].from_ms, intervals[0].to_ms) == (START_MS, START_MS + 63 * SECOND_MS)
    assert intervals[0].trained is None, "nothing is foretold before anything was learned"
    fits = [one.trained for one in intervals[1:] if one.trained is not None]
    assert len(fits) == 11
    aucs = [fit.auc["favorite"] or 0.0 for fit in fits]
    assert np.mean(aucs[-3:]) > 0.7
    assert np.mean(aucs[-3:]) > np.mean(aucs[:3]) + 0.1
    assert np.mean([fit.loss for fit in fits[-3:]]) < 0.9 * np.mean([fit.loss for fit in fits[:3]])
    errors = [fit.calibration_error["favorite"] for fit in fits]
    assert np.mean(errors[-3:]) < 0.1
    assert fits[0].auc["report"] is None, "nobody reports in the toy world"


def test_the_first_model_is_published_and_then_better_ones_with_where_they_come_from(
    learned: tuple[list[Interval], Registry],
) -> None:
    intervals, registry = learned
    assert intervals[0].published is None
    assert intervals[0].reason == "nothing was learned yet"
    first = intervals[1].published
    assert first is not None
    assert first.facts.parent == ""
    # It was judged on the second interval and has learned from the first alone.
    assert (first.facts.from_ms, first.facts.to_ms) == (START_MS, START_MS + 63 * SECOND_MS)
    assert (first.facts.examples, first.facts.steps) == (64, 4)
    fit = intervals[1].trained
    assert fit is not None
    assert first.facts.metrics["auc.favorite"] == fit.auc["favorite"]
    assert first.facts.training["learning_rate"] == SETTINGS.learning_rate
    published = [one.published for one in intervals if one.published is not None]
    assert len(published) > 5
    assert [one.facts.parent for one in published[1:]] == [one.version for one in published[:-1]]
    assert registry.entries() == published[-3:]
    assert registry.load(published[-1]).origin.to_ms == published[-1].facts.to_ms
    for one in intervals[2:]:
        assert one.compared is not None
        assert (one.published is None) == bool(one.reason)


def test_a_model_made_worse_on_purpose_is_not_published(
    learned: tuple[list[Interval], Registry], tmp_path: Path
) -> None:
    good = learned[1].load(learned[1].entries()[-1])
    registry = Registry(tmp_path / "registry", keep=3)
    ContinuousTrainer(registry, CONFIG, SETTINGS, start=good)
    assert [one.version for one in registry.entries()] == [good.version], "what it starts from is the first entry"
    trainer = ContinuousTrainer(registry, CONFIG, SETTINGS, start=shaken(good, seed=1))
    intervals = trainer.take(stream(3 * 64, 5))
    assert [one.published for one in intervals] == [None, None, None]
    for one in intervals[1:]:
        assert one.compared is not None
        assert one.compared.ranker > SETTINGS.publish_margin
        assert one.reason.startswith("worse: the ranker's loss by ")
    assert [one.version for one in registry.entries()] == [good.version]


def test_one_that_passes_though_worse_is_not_what_the_next_is_compared_with(
    learned: tuple[list[Interval], Registry], tmp_path: Path
) -> None:
    good = learned[1].load(learned[1].entries()[-1])
    told = []
    for name, margin in (("lax", 100.0), ("strict", SETTINGS.publish_margin)):
        settings = msgspec.structs.replace(SETTINGS, publish_margin=margin)
        registry = Registry(tmp_path / name, keep=1)
        ContinuousTrainer(registry, CONFIG, settings, start=good)
        trainer = ContinuousTrainer(registry, CONFIG, settings, start=shaken(good, seed=1))
        told.append(trainer.take(stream(3 * 64, 5)))
        trainer.save(tmp_path / "run", {})
        ContinuousTrainer.resumed(tmp_path / "run", registry, CONFIG, settings)  # the best one is kept for that
    lax, strict = told
    assert [one.published is not None for one in lax] == [False, True, True]
    assert [one.published for one in strict] == [None, None, None]
    assert [one.best for one in lax] == [one.best for one in strict]
    assert lax[2].published is not None
    assert lax[1].published is not None
    assert lax[2].published.facts.parent == lax[1].published.version


def test_with_too_few_positives_intervals_are_counted_together(
    learned: tuple[list[Interval], Registry], tmp_path: Path
) -> None:
    good = learned[1].load(learned[1].entries()[-1])
    examples = stream(5 * 64, 7)
    likes = [int((one.actions != 0).sum()) for one in examples]
    # As many as the second and third interval have together: two are too few, three suffice.
    needed = sum(likes[64 : 3 * 64])
    settings = msgspec.structs.replace(SETTINGS, positives_min=needed, publish_margin=1.0)
    intervals = ContinuousTrainer(Registry(tmp_path, 3), CONFIG, settings, start=good).take(examples)
    assert intervals[1].reason == f"too few to tell: {sum(likes[64:128])} of {needed} posts acted on"
    assert [one.published is not None for one in intervals[1:3]] == [False, True]
    assert intervals[3].reason.startswith("too few to tell"), "after a verdict it is counted anew"


def test_examples_that_come_twice_late_or_broken_change_nothing(tmp_path: Path) -> None:
    examples = stream(4 * 64)
    plain = ContinuousTrainer(Registry(tmp_path / "plain", 9), CONFIG, SETTINGS).take(examples)
    broken = replace(examples[3], dwell_s=np.full(12, np.nan, np.float32))
    empty = replace(examples[4], posts=examples[4].posts.take(slice(0, 0)))
    late = stream(1, seed=9, start_ms=START_MS - 2 * HOUR_MS)
    mixed = [*examples[:70], *examples[:66], broken, empty, *late, *examples[70:], *examples[200:]]
    told = ContinuousTrainer(Registry(tmp_path / "mixed", 9), CONFIG, SETTINGS).take(mixed)
    assert [msgspec.structs.astuple(one.passed) for one in told] == [(0, 0, 0), (66, 1, 2), (0, 0, 0), (0, 0, 0)]
    assert [one.published and one.published.sha256 for one in told] == [
        one.published and one.published.sha256 for one in plain
    ]
    assert told[-1].published is not None


def test_a_lists_borders_and_the_order_within_an_interval_change_nothing(tmp_path: Path) -> None:
    examples = stream(3 * 64)
    plain = ContinuousTrainer(Registry(tmp_path / "plain", 9), CONFIG, SETTINGS).take(examples)
    trainer = ContinuousTrainer(Registry(tmp_path / "turned", 9), CONFIG, SETTINGS)
    told = []
    for start in range(0, len(examples), 16):
        told += trainer.take(examples[start : start + 16][::-1])
    assert told[2].published is not None
    assert plain[2].published is not None
    assert told[2].published.sha256 == plain[2].published.sha256


def test_more_posts_than_fit_are_cut(tmp_path: Path) -> None:
    intervals = ContinuousTrainer(Registry(tmp_path, 9), CONFIG, SETTINGS).take(stream(64, shown=15))
    assert intervals[0].rows == 64 * SETTINGS.posts_max


def test_posts_below_the_last_one_acted_on_were_not_seen(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, seen_only=True)
    examples = [replace(one, actions=one.actions.copy()) for one in stream(65)]
    for one in examples:
        one.actions[:] = 0
        one.actions[[2, 6]] = 1  # seven of twelve posts were seen
    # Nobody looked at the second feed at all: it says nothing.
    examples[1].actions[:] = 0
    (interval,) = ContinuousTrainer(Registry(tmp_path, 9), CONFIG, settings).take(examples)
    assert (interval.examples, interval.rows, interval.positives) == (64, 64 * 7, 64 * 2)
    assert interval.passed.unusable == 1


# Further passes over the interval itself, or over what is left of the two before.
@pytest.mark.parametrize(("passes", "rehearsed"), [(1, 0), (2, 150)])
def test_a_run_goes_on_from_disk_to_the_bit(tmp_path: Path, passes: int, rehearsed: int) -> None:
    settings = msgspec.structs.replace(SETTINGS, positives_min=700, publish_margin=1.0)  # three intervals a verdict
    settings = msgspec.structs.replace(settings, passes=passes, rehearsed=rehearsed)
    examples = stream(8 * 64)
    whole = ContinuousTrainer(Registry(tmp_path / "whole", 3), CONFIG, settings).take(examples)
    registry, run = Registry(tmp_path / "parts", 3), tmp_path / "run"
    trainer = ContinuousTrainer(registry, CONFIG, settings)
    told = trainer.take(examples[:64])
    for number in range(1, 8):
        trainer.save(run, {"examples": number * 64})
        # Killed in the middle of an interval: what waited is read again.
        assert trainer.take(examples[number * 64 : number * 64 + 30]) == []
        assert trainer.waiting == 30
        with pytest.raises(ValueError, match="30 examples wait"):
            trainer.save(run, {})
        trainer, position = ContinuousTrainer.resumed(run, registry, CONFIG, settings)
        assert position == {"examples": number * 64}
        told += trainer.take(examples[number * 64 : (number + 1) * 64])
    facts = [[msgspec.structs.replace(one, published=None) for one in many] for many in (told, whole)]
    assert facts[0] == facts[1]
    published = [[one.published for one in many if one.published is not None] for many in (told, whole)]
    assert [one.facts for one in published[0]] == [one.facts for one in published[1]]
    assert [one.sha256 for one in published[0]] == [one.sha256 for one in published[1]]
    assert len(published[0]) > 1
    if rehearsed:
        kept = sorted(path.name for path in run.with_name("run.rehearsed").iterdir())
        assert kept == ["examples-000006.parquet", "examples-000007.parquet"]
        run.with_name("run.rehearsed").joinpath(kept[0]).unlink()
        with pytest.raises(CheckpointRefused, match="is missing"):
            ContinuousTrainer.resumed(run, registry, CONFIG, settings)


def test_a_kill_between_publishing_and_saving_publishes_the_same_model_once(tmp_path: Path) -> None:
    examples = stream(3 * 64)
    registry, run = Registry(tmp_path / "registry", 9), tmp_path / "run"
    trainer = ContinuousTrainer(registry, CONFIG, SETTINGS)
    trainer.take(examples[:64])
    trainer.save(run, {})
    (published,) = trainer.take(examples[64:128])
    assert published.published is not None
    manifest = (registry.folder / "manifest.json").read_bytes()
    again, _ = ContinuousTrainer.resumed(run, registry, CONFIG, SETTINGS)
    assert again.take(examples[64:128]) == [published]
    assert (registry.folder / "manifest.json").read_bytes() == manifest


def test_a_trainer_that_starts_from_the_registry_learns_nothing_twice(
    learned: tuple[list[Interval], Registry], tmp_path: Path
) -> None:
    registry = Registry(tmp_path, 9)
    ContinuousTrainer(registry, CONFIG, SETTINGS).take(stream(3 * 64))
    newest = registry.latest()
    assert newest is not None
    assert newest.facts.to_ms == START_MS + 127 * SECOND_MS
    # The second model has a parent: its span counts.
    intervals = ContinuousTrainer(registry, CONFIG, SETTINGS).take(stream(5 * 64)[100:])
    assert [one.passed.late for one in intervals] == [28, 0, 0]
    assert intervals[0].best == intervals[0].trained is not None


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Registry, Path]:
    """Return the registry and the state of a run that has published once."""
    registry, run = Registry(tmp_path / "registry", 9), tmp_path / "run"
    trainer = ContinuousTrainer(registry, CONFIG, SETTINGS)
    trainer.take(stream(128))
    trainer.save(run, {})
    return registry, run


def test_what_cannot_be_gone_on_with_is_refused(saved: tuple[Registry, Path], tiny: PhoenixConfig) -> None:
    registry, run = saved
    with pytest.raises(CheckpointRefused, match="another configuration than is to be trained"):
        ContinuousTrainer(registry, tiny, SETTINGS)
    with pytest.raises(CheckpointRefused, match="another configuration than is to be trained"):
        ContinuousTrainer(registry, CONFIG, SETTINGS, start=Phoenix.untrained(tiny))
    with pytest.raises(CheckpointRefused, match="other settings: begin anew"):
        ContinuousTrainer.resumed(run, registry, CONFIG, msgspec.structs.replace(SETTINGS, learning_rate=1.0))
    with pytest.raises(CheckpointRefused, match="there is no run to go on with"):
        ContinuousTrainer.resumed(run.with_name("other"), registry, CONFIG, SETTINGS)
    newest = registry.latest()
    assert newest is not None
    with pytest.raises(CheckpointRefused, match=f"there is no model {newest.version}"):
        ContinuousTrainer.resumed(run, Registry(registry.folder / "empty", 9), CONFIG, SETTINGS)
    whole = newest.path.read_bytes()
    newest.path.write_bytes(whole.replace(b'"format":1', b'"format":2'))
    with pytest.raises(CheckpointRefused, match=r"it is not what manifest\.json says"):
        ContinuousTrainer(registry, CONFIG, SETTINGS)
    state = run.read_bytes()
    run.write_bytes(state[:-40])
    newest.path.write_bytes(whole)
    with pytest.raises(CheckpointRefused, match="cut off or damaged"):
        ContinuousTrainer.resumed(run, registry, CONFIG, SETTINGS)


def test_settings_that_do_not_fit_are_refused() -> None:
    for wrong in ({"interval_examples": 100}, {"interval_examples": 64, "examples_a_step": 64}):
        with pytest.raises(ValueError, match="is not two or more whole steps"):
            LearningSettings(**wrong)
