"""Tables whose unread rows rest learn what dense ones learn, and what a step does not read it does not touch."""

from functools import cache

import jax
import msgspec
import numpy as np
import pytest

from models.config import DEMO, PhoenixConfig
from models.losses import PROBABILITY_HEADS
from models.optimiser import begin, tables_of
from models.phoenix import init_parameters
from models.recipe import TrainingConfig
from models.step_inputs import compacted, rows_read, step_inputs, table_sizes
from models.training import Trainer
from tests.models.toy_world import batch

STEPS = 12


@pytest.fixture(scope="module")
def toy_config() -> PhoenixConfig:
    """Return a configuration that compiles fast, with room in its tables for rows that nobody reads."""
    return msgspec.structs.replace(
        DEMO, layers=1, heads=2, history_max=32, author_buckets=512, user_buckets=4096, term_buckets=512
    )


@cache
def learned(config: PhoenixConfig, tables: str) -> Trainer:
    """Return a trainer after STEPS steps of 8 examples, half of them of the same viewers as before."""
    training = TrainingConfig(warm_up_steps=4, averaging=0.8, tables=tables)  # type: ignore[arg-type]
    trainer = Trainer(config, seed=1, training=training)
    trainer.learn(batch(seed % 6, 8, 32, 4) for seed in range(STEPS))
    return trainer


def test_lazy_adam_does_what_dense_adam_does(toy_config: PhoenixConfig) -> None:
    lazy, dense = learned(toy_config, "adam"), learned(toy_config, "dense")
    assert lazy.losses[0] == pytest.approx(dense.losses[0], rel=1e-5)
    assert lazy.losses[-1] == pytest.approx(dense.losses[-1], rel=0.02)
    assert lazy.losses[-1][0] < 0.9 * lazy.losses[0][0]
    fresh = Trainer(toy_config, seed=1, training=lazy.training)
    fresh.learn([batch(0, 8, 32, 4)])  # the first step's learning rate is nothing
    for part in ("ranker", "two_tower"):
        ours, theirs, before = (tables_of(getattr(one.phoenix().parameters, part)) for one in (lazy, dense, fresh))
        for name, found, wanted, start in zip(ours._fields, ours, theirs, before, strict=True):
            way = np.asarray(wanted) - np.asarray(start)
            # How far the lazy table ends from the dense one, against how far that one went.
            assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(way) + 1e-6, name


@pytest.mark.parametrize("tables", ["adam", pytest.param("adagrad", marks=pytest.mark.full)])
def test_rows_that_no_step_reads_stay_as_they_were(toy_config: PhoenixConfig, tables: str) -> None:
    trainer = learned(toy_config, tables)
    assert trainer.learned is not None
    assert trainer.learned.rows is not None
    read = np.zeros(sum(table_sizes(toy_config)) + 1, bool)
    rng = np.random.default_rng(0)
    for seed in range(6):
        numbers, _ = compacted(step_inputs(batch(seed, 8, 32, 4), toy_config, trainer.training, rng), toy_config)
        read[numbers] = True
    assert trainer.learned.rows.last.shape == read[:-1].shape
    assert ((np.asarray(trainer.learned.rows.last) > 0) == read[:-1]).all()
    users, read = np.asarray(trainer.learned.rows.weights)[-toy_config.user_buckets :, 0], read[:-1][-4096:]
    assert 0 < read.sum() < len(read) / 2
    assert not users[~read].any()
    assert users[read].any(axis=1).mean() > 0.8  # the ranker does not see the ids of a fifth
    assert np.isfinite(users).all()


@pytest.mark.parametrize("looked_up", [2**22, 1])
def test_places_stand_for_the_rows_they_were(
    toy_config: PhoenixConfig, monkeypatch: pytest.MonkeyPatch, looked_up: int
) -> None:
    monkeypatch.setattr("models.step_inputs.LOOKED_UP_ROWS", looked_up)
    inputs = step_inputs(batch(3, 8, 32, 4), toy_config, TrainingConfig(), np.random.default_rng(0))
    numbers, places = compacted(inputs, toy_config)
    sizes, most = table_sizes(toy_config), rows_read((8, 32, 4), toy_config)
    assert len(numbers) == sum(most)
    starts, offsets = np.cumsum([0, *most]), np.cumsum([0, *sizes])
    post, author, term, user = (
        numbers[start:end] - offset for start, end, offset in zip(starts, starts[1:], offsets, strict=False)
    )
    assert (user[places.context.user] == inputs.context.user).all()
    for columns, table in ((slice(0, 2), post), (slice(2, 4), author), (slice(4, 8), term)):
        for small, whole in (
            (places.context.entity, inputs.context.entity),
            (places.candidates.entity, inputs.candidates.entity),
            (places.retrieval_context.entity, inputs.retrieval_context.entity),
            (places.entity, inputs.entity),
        ):
            assert (table[small[..., columns]] == whole[..., columns]).all()
    distinct = numbers[numbers < sum(sizes)]
    assert len(set(distinct.tolist())) == len(distinct)


def test_momentum_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match="beta_1 squared below beta_2"):
        TrainingConfig(beta_1=0.99, beta_2=0.9)


def test_the_first_step_is_given_what_later_steps_return(toy_config: PhoenixConfig) -> None:
    """Or every run would compile its step twice."""
    first = begin(init_parameters(toy_config, 0), TrainingConfig(), np.ones(PROBABILITY_HEADS, np.float32))
    assert not [leaf for leaf in jax.tree.leaves(first) if leaf.weak_type]
