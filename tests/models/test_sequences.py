"""The causal user tower: it reads forwards, serves what it was trained as, and learns what follows what."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from jax import Array

from models import softmax
from models.config import DEMO, PhoenixConfig
from models.features import entity_rows, sequence_features
from models.inputs import F32, Context, History
from models.phoenix import Phoenix
from models.ranker import entity_tokens
from models.sequences import Catalogue, Histories, SequenceTraining, fit_sequences, sequence_loss
from models.two_tower import TwoTowerParameters, vectors_after
from tests.models.conftest import random_context, shaken

POSTS = 30
CATALOGUE = Catalogue(
    np.arange(1, POSTS + 1, dtype=np.uint64),
    np.arange(101, 101 + POSTS, dtype=np.uint64),
    np.zeros((POSTS, 4), np.uint16),
)


@pytest.fixture(scope="module")
def causal() -> PhoenixConfig:
    return msgspec.structs.replace(
        DEMO,
        width=32,
        heads=2,
        layers=1,
        history_max=32,
        retrieval_width=32,
        retrieval_layers=2,
        retrieval_heads=2,
        retrieval_post_ids=True,
        retrieval_causal=True,
    )


@pytest.fixture(scope="module")
def tower(causal: PhoenixConfig) -> Phoenix:
    return shaken(Phoenix.untrained(causal))


def history_of(rows: list[int], start_ms: int = 1_767_225_600_000) -> History:
    """Return a history of likes of posts by their rows, a minute apart."""
    index = np.array(rows)
    return History(
        CATALOGUE.post[index],
        CATALOGUE.author[index],
        CATALOGUE.terms[index],
        np.ones(len(rows), np.uint32),
        np.zeros(len(rows), np.float32),
        np.zeros(len(rows), np.uint8),
        start_ms + 60_000 * np.arange(len(rows)),
    )


def rows_of(tower: Phoenix, context: Context) -> F32:
    """Return what the tower says before the first slot and after each of 32, in one pass."""
    parameters, features = tower.parameters.two_tower, sequence_features(context, 32, tower.config)
    tokens = entity_tokens(parameters.entities, jnp.asarray(features.entity), post_ids=True)
    return np.asarray(vectors_after(parameters, tower.config, tokens, features))


def test_it_reads_forwards(tower: Phoenix) -> None:
    context, other = random_context(20, 1), random_context(20, 2)
    now = tower.embed_viewer(context)
    later = replace(context, at_ms=context.at_ms + 10**9, surface=3)
    assert (tower.embed_viewer(later) == now).all(), "when it is asked says nothing"
    before = rows_of(tower, context)
    np.testing.assert_allclose(before[-1], now, atol=2e-6)
    # The last eight of twenty actions are others: nothing before them is said differently.
    pairs = zip(columns(context), columns(other), strict=True)
    mixed = History(*(np.concatenate([one[:12], two[12:]]) for one, two in pairs))
    after = rows_of(tower, replace(context, history=mixed))
    np.testing.assert_allclose(after[: 33 - 8], before[: 33 - 8], atol=2e-6)
    assert np.abs(after[33 - 8 :] - before[33 - 8 :]).max(axis=1).min() > 1e-3


def columns(context: Context) -> list[np.ndarray[Any, Any]]:
    return [getattr(context.history, name) for name in History.__dataclass_fields__]


def test_a_viewer_without_history_has_a_vector(tower: Phoenix) -> None:
    nobody = tower.embed_viewer(Context(7, History.empty(), 0, 0))
    assert np.linalg.norm(nobody) == pytest.approx(1, abs=1e-5)


def test_an_epoch_has_every_action_as_a_goal(causal: PhoenixConfig) -> None:
    lengths = (1, 2, 9, 10, 33, 100)
    contexts = [Context(7, history_of([n % POSTS for n in range(length)]), 0, 0) for length in lengths]
    histories = Histories(contexts, CATALOGUE, causal)
    rng = np.random.default_rng(0)
    epochs = [histories.windows(8, rng) for _ in range(3)]
    for windows in epochs:
        assert (windows[:, 2] - windows[:, 1]).min() >= 2
        assert (windows[:, 2] - windows[:, 1]).max() == 9
        for viewer, length in enumerate(lengths):
            first = int(histories.start[viewer])
            goals = {goal for one, begin, end in windows.tolist() if one == viewer for goal in range(begin + 1, end)}
            assert goals == set(range(first + 1, first + length))
    assert len({tuple(sorted(map(tuple, windows.tolist()))) for windows in epochs}) == 3, "cut elsewhere each time"


def test_the_loss_is_that_of_its_formula(tower: Phoenix) -> None:
    rows, negatives = [3, 1, 4, 1, 5], np.array([5, 9, 2, 6], np.int32)
    context = Context(7, history_of(rows), 0, 0)
    training = SequenceTraining(histories_a_step=1, token_dropout=0.0, negatives=len(negatives))
    (inputs,) = Histories([context], CATALOGUE, tower.config).batches(32, training, np.random.default_rng(0))
    log_q = np.linspace(-1, 1, POSTS, dtype=np.float32)
    entity = jnp.asarray(entity_rows(*CATALOGUE, tower.config))
    parameters = tower.parameters.two_tower
    drawn = inputs._replace(negatives=negatives)
    loss = sequence_loss(parameters, tower.config, training, entity, jnp.asarray(log_q), drawn, jax.random.key(0))

    posts, scale = tower.embed_posts(*CATALOGUE), float(np.exp(-parameters.log_temperature))
    each = []
    said = rows_of(tower, replace(context, key=0, history=context.history.part(0, len(rows) - 1)))[-len(rows) + 1 :]
    for viewer, goal in zip(said, rows[1:], strict=True):
        against = [float(posts[one] @ viewer) * scale - float(log_q[one]) for one in negatives if one != goal]
        right = float(posts[goal] @ viewer) * scale
        each.append(np.log(np.exp(right) + np.exp(against).sum()) - right)
    assert float(loss) == pytest.approx(np.mean(each), rel=1e-4)


def test_the_loss_against_all_posts_is_that_against_each_of_them(tower: Phoenix) -> None:
    contexts = [Context(7, history_of([3, 1, 4, 1, 5]), 0, 0), Context(8, history_of([2, 7]), 0, 0)]
    training = SequenceTraining(histories_a_step=2, token_dropout=0.0, negatives=0)
    (inputs,) = Histories(contexts, CATALOGUE, tower.config).batches(32, training, np.random.default_rng(0))
    one_by_one = inputs._replace(negatives=np.arange(POSTS, dtype=np.int32))
    entity, log_q = jnp.asarray(entity_rows(*CATALOGUE, tower.config)), jnp.zeros(POSTS)

    def told(settings: SequenceTraining) -> tuple[Array, TwoTowerParameters]:
        def loss(parameters: TwoTowerParameters) -> Array:
            return sequence_loss(parameters, tower.config, settings, entity, log_q, one_by_one, jax.random.key(0))

        return jax.jit(jax.value_and_grad(loss))(tower.parameters.two_tower)

    whole, by_whole = told(training)
    each, by_each = told(msgspec.structs.replace(training, negatives=POSTS, log_q=0.0))
    assert float(whole) == pytest.approx(float(each), rel=1e-5)
    assert float(whole) > 1.0
    for mine, its in zip(jax.tree.leaves(by_whole), jax.tree.leaves(by_each), strict=True):
        np.testing.assert_allclose(mine, its, atol=2e-6)


@pytest.mark.parametrize("count", [5, softmax.PIECE, softmax.PIECE + 3])
def test_a_softmax_in_pieces_is_a_softmax(count: int) -> None:
    rng = np.random.default_rng(count)
    viewers, posts = (jnp.asarray(rng.normal(size=(n, 8)), jnp.float32) for n in (count, 11))
    goal = jnp.asarray(rng.integers(-1, 11, count), jnp.int32)

    def plain(viewers: Array, posts: Array) -> Array:
        chances = jax.nn.log_softmax(viewers @ posts.T)
        return -jnp.where(goal >= 0, chances[jnp.arange(count), goal], 0.0).sum()

    wanted, its = jax.value_and_grad(plain, (0, 1))(viewers, posts)
    found, mine = jax.value_and_grad(lambda *of: softmax.softmax_loss(*of, goal), (0, 1))(viewers, posts)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    for one, other in zip(mine, its, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_it_learns_what_follows_what_and_the_same_again(causal: PhoenixConfig) -> None:
    rng = np.random.default_rng(1)
    starts = rng.integers(0, POSTS, 64)
    contexts = [Context(7, history_of([(start + n) % POSTS for n in range(20)]), 0, 0) for start in starts]
    training = SequenceTraining(learning_rate=1e-2, warm_up_steps=5, histories_a_step=32, negatives=16)
    found = fit_sequences(contexts, CATALOGUE, causal, 20, training)
    posts = found.embed_posts(*CATALOGUE)
    best = [int(np.argmax(posts @ found.embed_viewer(context))) for context in contexts]
    right = np.mean([one == (start + 20) % POSTS for one, start in zip(best, starts.tolist(), strict=True)])
    assert right > 0.8
    assert fit_sequences(contexts, CATALOGUE, causal, 20, training).version == found.version


@pytest.mark.full
def test_the_best_epoch_is_kept_and_patience_ends(causal: PhoenixConfig) -> None:
    contexts = [Context(7, history_of([1, 2, 3]), 0, 0)] * 4
    said = iter([1.0, 3.0, 2.0, 2.0, 9.0])
    seen: list[str] = []

    def judge(_epoch: int, _loss: float, _seconds: float, phoenix: Phoenix) -> float:
        seen.append(phoenix.version)
        return next(said)

    training = SequenceTraining(histories_a_step=2, negatives=4)
    kept = fit_sequences(contexts, CATALOGUE, causal, 5, training, judge, patience=2)
    assert len(seen) == 4
    assert kept.version == seen[1]


def test_what_can_not_be_trained_on_is_refused(causal: PhoenixConfig) -> None:
    context = Context(7, history_of([1, 2]), 0, 0)
    with pytest.raises(ValueError, match="retrieval_causal"):
        fit_sequences([context], CATALOGUE, DEMO, 1)
    with pytest.raises(ValueError, match="post 2 of a history is not in the catalogue"):
        Histories([context], Catalogue(*(column[2:] for column in CATALOGUE)), causal)
    with pytest.raises(ValueError, match="two actions"):
        Histories([replace(context, history=context.history.part(0, 1))], CATALOGUE, causal)
