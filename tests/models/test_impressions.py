"""Training of the ranker alone: it learns tastes, is calibrated without more, and repeats itself exactly."""

from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest

from models.config import DEMO
from models.evaluation import action_results, predictions_of
from models.impressions import SHORT, ImpressionTraining, at_rates_of, fit_impressions, rows_of
from models.inputs import ExampleBatch
from models.phoenix import Phoenix
from schemas.actions import ACTION_INDEX
from tests.models.toy_world import batch

CONFIG = msgspec.structs.replace(DEMO, layers=1, heads=2, history_max=32, author_buckets=1024, user_buckets=64)
TRAINING = ImpressionTraining(examples_a_step=64, epochs=3, warm_up_steps=10, averaging=0.9)


@pytest.fixture(scope="module")
def examples() -> ExampleBatch:
    """Return 1,280 examples of the toy world, a half of them with short histories."""
    made = [batch(seed) for seed in range(20)]
    joined = ExampleBatch(
        **{field.name: np.concatenate([getattr(one, field.name) for one in made]) for field in fields(made[0])}
    )
    short = np.arange(len(joined.viewer)) % 2 == 0
    return replace(
        joined, history_length=np.where(short, np.minimum(joined.history_length, SHORT), joined.history_length)
    )


@pytest.mark.full
def test_it_learns_what_is_liked_and_how_often(examples: ExampleBatch) -> None:
    told: list[tuple[float, float]] = []
    phoenix = fit_impressions(examples, CONFIG, TRAINING, lambda done, of: told.append((done, of)))
    # 640 examples each of short and of long histories, three times.
    assert told == [(step, 60) for step in range(1, 61)]
    held_out = batch(10_000)
    given, bits = predictions_of(phoenix, held_out)[held_out.valid], held_out.label_actions[held_out.valid]
    favorite = action_results(given, bits, held_out.viewer.repeat(held_out.valid.sum(axis=1)))[0]
    assert favorite.auc is not None
    assert favorite.auc > 0.7
    assert favorite.predicted == pytest.approx(favorite.observed, rel=0.25)
    again = fit_impressions(examples, CONFIG, TRAINING)
    assert again.version == phoenix.version


def test_outputs_are_moved_to_the_rates_of_the_newest(examples: ExampleBatch, small: Phoenix) -> None:
    newest = rows_of(examples, slice(0, 300))
    moved = at_rates_of(small, newest)
    bits = newest.label_actions[newest.valid]
    before, after = (
        action_results(predictions_of(one, newest)[newest.valid], bits, np.zeros(len(bits), np.uint64))
        for one in (small, moved)
    )
    favorite, report = ACTION_INDEX["favorite"], ACTION_INDEX["report"]
    assert abs(before[favorite].predicted - before[favorite].observed) > 0.05
    assert after[favorite].predicted == pytest.approx(after[favorite].observed, abs=1e-3)
    assert after[favorite].auc == pytest.approx(before[favorite].auc, abs=1e-4)
    # Nobody reports in the toy world: nothing says what that rate is.
    assert before[report].happened == 0
    assert after[report].predicted == pytest.approx(before[report].predicted, abs=1e-4)


def test_too_few_examples_are_refused(examples: ExampleBatch) -> None:
    few = rows_of(examples, slice(0, 63))
    with pytest.raises(ValueError, match="63 examples; a step takes 64"):
        fit_impressions(few, CONFIG, TRAINING)


def test_rows_keep_their_histories_or_are_refused(examples: ExampleBatch) -> None:
    some = rows_of(examples, np.array([4, 2]), SHORT)
    assert some.viewer.tolist() == examples.viewer[[4, 2]].tolist()
    assert some.history_post.shape == (2, SHORT)
    assert some.context(0).history.post.tobytes() == examples.context(4).history.post.tobytes()
    with pytest.raises(ValueError, match=f"longer than {SHORT}"):
        rows_of(examples, np.array([1]), SHORT)
