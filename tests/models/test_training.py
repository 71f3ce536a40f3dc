"""Training on the toy world: it learns tastes, shows the behaviours the documents name, and repeats itself exactly."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.config import DEMO, PhoenixConfig
from models.evaluation import Evaluation, evaluate
from models.inputs import Context, ExampleBatch, History
from models.phoenix import Phoenix
from models.training import TrainingConfig, TrainingReport, fit, step_inputs
from schemas.actions import ACTION_INDEX
from tests.models.toy_world import (
    BLOCK,
    DISLIKE,
    DWELL,
    FAVORITE,
    HOUR_MS,
    START_MS,
    TOPICS,
    batch,
    candidates_of,
    history_of,
    some_posts,
)

STEPS = 100
SHORT = TrainingConfig(warm_up_steps=10, averaging=0.9)
LIKE = FAVORITE | DWELL
# The documents say higher and lower; a fifth keeps a difference by chance from passing for one.
MARGIN = 1.2


@pytest.fixture(scope="module")
def toy_config() -> PhoenixConfig:
    """Return a configuration that compiles fast and still holds the toy world."""
    return msgspec.structs.replace(DEMO, layers=1, heads=2, history_max=32, author_buckets=1024, user_buckets=64)


@pytest.fixture(scope="module")
def reports() -> list[TrainingReport]:
    """Hold what training said of itself."""
    return []


@pytest.fixture(scope="module")
def trained(toy_config: PhoenixConfig, reports: list[TrainingReport]) -> Phoenix:
    """Return a model after 100 steps on the toy world."""
    batches = (batch(seed) for seed in range(STEPS))
    return fit(batches, toy_config, seed=0, progress=reports.append, training=SHORT)


@pytest.fixture(scope="module")
def held_out(trained: Phoenix) -> Evaluation:
    """Return the model's results on viewers it has not met."""
    return evaluate(trained, [batch(10_000 + seed) for seed in range(2)])


def past(topics: list[int], actions: list[int], seed: int) -> History:
    """Return a history of one post an hour on given topics, with given actions, oldest first."""
    rng = np.random.default_rng(seed)
    posts = [some_posts(1, rng, topic) for topic in topics]
    joined = replace(
        posts[0],
        **{
            name: np.concatenate([getattr(one, name) for one in posts]) for name in ("post", "author", "terms", "topic")
        },
    )
    at_ms = START_MS + HOUR_MS * (np.arange(len(topics)) - len(topics))
    return history_of(joined, np.array(actions, np.uint32), at_ms)


def chance(phoenix: Phoenix, history: History, topic: int, action: str = "favorite") -> float:
    """Return the mean probability of an action on 64 new posts of a topic."""
    posts = candidates_of(some_posts(64, np.random.default_rng(99), topic), START_MS)
    scores = phoenix.rank(Context(12345, history, START_MS, 1), posts)
    return float(scores[:, ACTION_INDEX[action]].mean())


def test_the_losses_fall(trained: Phoenix, reports: list[TrainingReport]) -> None:
    assert trained.origin.steps == STEPS
    assert [report.step for report in reports] == [20, 40, 60, 80, 100, 100]
    assert reports[-1].ranker_loss < 0.97 * reports[0].ranker_loss  # that of step 20, which knows most already
    assert reports[-1].retrieval_loss < reports[0].retrieval_loss
    assert all(report.skipped == 0 for report in reports)


def test_held_out_favorites_are_told_apart(held_out: Evaluation) -> None:
    favorite = held_out.actions[ACTION_INDEX["favorite"]]
    assert favorite.auc is not None
    assert favorite.auc > 0.8
    assert favorite.viewer_auc is not None
    assert favorite.viewer_auc > 0.8


def test_probabilities_are_near_what_happens(held_out: Evaluation) -> None:
    favorite = held_out.actions[ACTION_INDEX["favorite"]]
    assert 0.5 < favorite.predicted / favorite.observed < 1.5
    lowest, *_, highest = favorite.calibration
    assert lowest.observed < 0.1 < highest.observed
    assert 0.5 < held_out.dwell_predicted_s / held_out.dwell_observed_s < 1.5


def test_attraction_what_a_viewer_likes_scores_higher(trained: Phoenix) -> None:
    for liked in range(TOPICS):
        other = (liked + 1) % TOPICS
        history = past([liked, other] * 8, [LIKE, 0] * 8, seed=liked)
        assert chance(trained, history, liked) > MARGIN * chance(trained, history, other)


def test_repulsion_what_a_viewer_refuses_scores_lower(trained: Phoenix) -> None:
    for refused in range(TOPICS):
        other = (refused + 1) % TOPICS
        history = past([refused, other] * 8, [DISLIKE, 0] * 8, seed=refused)
        dislikes = [chance(trained, history, topic, "not_interested") for topic in (refused, other)]
        assert dislikes[0] > MARGIN * dislikes[1]


def test_repulsion_the_posts_of_a_blocked_author_score_lower(trained: Phoenix) -> None:
    topics = [0, 1, 2, 3] * 4
    calm = past(topics, [LIKE, 0, 0, 0] * 4, seed=5)
    actions = calm.actions.copy()
    actions[-4] = BLOCK
    angry = replace(calm, actions=actions)
    posts = candidates_of(some_posts(32, np.random.default_rng(3), 0), START_MS)
    posts.author[:] = calm.author[-4]
    before, after = (
        trained.rank(Context(1, history, START_MS, 1), posts)[:, ACTION_INDEX["favorite"]].mean()
        for history in (calm, angry)
    )
    assert after < before


def test_momentum_a_streak_of_likes_raises_and_passing_over_lowers(trained: Phoenix) -> None:
    topics = [0, 1] * 8
    streak, passing = past(topics, [LIKE, 0] * 8, seed=1), past(topics, [LIKE, 0] + [0] * 14, seed=1)
    assert chance(trained, streak, 0) > MARGIN * chance(trained, passing, 0)


def test_context_switch_a_few_likes_of_another_topic_move_it_up(trained: Phoenix) -> None:
    topics = [0, 1] * 6 + [2, 2, 2]
    before = past(topics, [LIKE, 0] * 6 + [0, 0, 0], seed=2)
    after = past(topics, [LIKE, 0] * 6 + [LIKE] * 3, seed=2)
    assert chance(trained, after, 2) > MARGIN * chance(trained, before, 2)


def test_retrieval_brings_what_a_viewer_likes_closer(trained: Phoenix) -> None:
    for liked in range(TOPICS):
        other = (liked + 1) % TOPICS
        history = past([liked, other] * 8, [LIKE, 0] * 8, seed=liked)
        viewer = trained.embed_viewer(Context(1, history, START_MS, 1))
        near, far = (
            (trained.embed_posts(posts.post, posts.author, posts.terms) @ viewer).mean()
            for posts in (some_posts(64, np.random.default_rng(7), topic) for topic in (liked, other))
        )
        assert near > far


def test_the_same_batches_and_seed_give_the_same_checkpoint(toy_config: PhoenixConfig) -> None:
    def version(seed: int) -> str:
        return fit([batch(1), batch(2)], toy_config, seed=seed, training=SHORT).version

    assert version(4) == version(4) != version(5)


def test_a_step_that_is_not_finite_is_skipped_and_counted(toy_config: PhoenixConfig) -> None:
    broken = batch(2)
    broken.label_dwell_s[0, 0] = np.nan
    seen: list[TrainingReport] = []
    phoenix = fit([batch(1), broken, batch(3)], toy_config, progress=seen.append, training=SHORT)
    assert seen[-1].skipped == 1
    assert np.isfinite(phoenix.rank(batch(1).context(0), batch(1).candidates(0))).all()


def test_batches_that_do_not_fit_are_refused(toy_config: PhoenixConfig) -> None:
    with pytest.raises(ValueError, match="there are no training examples"):
        fit([], toy_config)
    with pytest.raises(ValueError, match=r"shape \(64, 32, 5\) follows batches of \(64, 32, 12\)"):
        fit([batch(1), batch(1, shown=5)], toy_config, training=SHORT)
    with pytest.raises(ValueError, match="history of 33; the configuration allows 32"):
        fit([batch(1, history=33)], toy_config)


def inputs_of(examples: ExampleBatch, config: PhoenixConfig, **changes: float) -> tuple[np.ndarray, np.ndarray]:
    found = step_inputs(examples, config, TrainingConfig(**changes), np.random.default_rng(1))  # type: ignore[arg-type]
    return found.candidates.entity, found.labels.weight


def test_lent_negatives_weigh_by_their_count_and_never_stand_against_their_own_viewer(
    toy_config: PhoenixConfig,
) -> None:
    one_post = batch(1, examples=3)
    one_post.post[:] = np.array([[7], [8], [8]], np.uint64)  # all 12 candidates of an example are one post
    _, weight = inputs_of(one_post, toy_config, negatives=6, identity_dropout=0.0)
    lent = weight[:, 12:]
    assert (lent[1:] <= 1).all()
    # Viewers 2 and 3 hold the same post: only post 7 can be lent to them, so every weight is 0 or 1 / its count.
    assert len(set(lent[1:][lent[1:] > 0].tolist())) == 1
    same_viewer = replace(one_post, viewer=np.array([1, 1, 1], np.uint64))
    assert not inputs_of(same_viewer, toy_config, negatives=6)[1][:, 12:].any()


def test_identity_dropout_hides_post_ids_but_not_content(toy_config: PhoenixConfig) -> None:
    entity, _ = inputs_of(batch(1), toy_config, identity_dropout=1.0)
    assert not entity[..., :2].any()
    assert entity[..., 2:5].all()
