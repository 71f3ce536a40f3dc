"""What a history says of a candidate: counted by hand, alike in a batch and alone, and of its own candidate only."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.affinities import AFFINITY_KINDS, affinities, windows_of
from models.config import DEMO, PhoenixConfig
from models.features import AFFINITY_MIDDLES, affinity_rows, batch_features, candidate_features
from models.inputs import Candidates, History
from models.phoenix import Phoenix
from models.recipe import TrainingConfig
from models.training import Trainer
from schemas.actions import ACTION_INDEX
from tests.models.conftest import random_context, random_posts, shaken
from tests.models.toy_world import batch

LIKED, DWELLED, REFUSED, LOOKED = (
    1 << ACTION_INDEX[name] for name in ("favorite", "dwell", "not_interested", "dwell_time")
)
NEVER = [0, 0, 0]
NOBODY = NEVER + NEVER


def told(
    groups: list[tuple[int, tuple[int, ...], int]], author: int, terms: tuple[int, ...], groups_counted: int = 8
) -> list[list[int]]:
    """Return what groups of (author, terms, actions) say of one candidate: of its author, then of its four terms."""
    authors, stand, actions = zip(*groups, strict=True)
    history = (
        np.array([authors], np.uint64),
        np.array([[(*each, 0, 0, 0, 0)[:4] for each in stand]], np.uint16),
        np.array([actions], np.uint32),
        windows_of(np.arange(len(groups))[::-1], groups_counted)[None],
    )
    asked = np.array([[(*terms, 0, 0, 0, 0)[:4]]], np.uint16)
    found: list[list[int]] = affinities(history, np.array([[author]], np.uint64), asked)[0, 0].tolist()
    return found


def test_groups_are_counted_by_author_and_by_term_wherever_it_stands() -> None:
    groups = [
        (7, (1, 2), LIKED | LOOKED),
        (7, (2, 1), LOOKED | DWELLED),
        (7, (3,), LIKED | REFUSED),
        (8, (1,), LOOKED),
    ]
    assert AFFINITY_KINDS == ("met", "acted", "dwelled")
    # Of eight groups the newest one is of late.
    late = [1, 0, 0]
    assert told(groups, 7, (1, 2)) == [[3, 1, 1, *NEVER], [3, 1, 1, *late], [2, 1, 1, *NEVER], NOBODY, NOBODY]
    assert told(groups, 8, (3,)) == [[1, 0, 0, *late], [1, 0, 0, *NEVER], NOBODY, NOBODY, NOBODY]
    assert told(groups, 9, (4,)) == [NOBODY] * 5
    assert told(groups, 7, (1, 2), 2) == [[1, 0, 0, *NEVER], [1, 0, 0, *NEVER], *[NOBODY] * 3]


def test_what_was_never_met_says_nothing_and_rates_are_smoothed() -> None:
    assert affinity_rows(np.zeros((5, 6), np.uint32)).tolist() == AFFINITY_MIDDLES.tolist()
    # 7 groups + 1 = 2^3; (4.5 + .5) / 10 = 2^-1 would be 16 - 1 octaves of four buckets.
    counts = np.zeros((5, 6), np.uint32)
    counts[0, :3] = [7, 5, 0]
    assert affinity_rows(counts)[:6].tolist() == [12, 60, 46, 0, 53, 53]


@pytest.fixture(scope="module")
def affine(small_config: PhoenixConfig) -> Phoenix:
    """Return a small model that counts 50 groups and reads 32 of them."""
    return shaken(Phoenix.untrained(msgspec.structs.replace(small_config, affinity_groups=50), seed=3))


def test_a_batch_says_what_each_of_its_requests_says(affine: Phoenix) -> None:
    of = batch(3, 8, 60, 4)
    _, together = batch_features(of, affine.config)
    for row in range(8):
        alone = candidate_features(of.candidates(row), of.context(row), affine.config)
        assert (alone.situation == together.situation[row]).all()
    assert len(np.unique(together.situation[..., -30:])) > 10


def test_older_groups_than_are_read_one_by_one_count_up_to_the_configured_number(affine: Phoenix) -> None:
    posts, context = random_posts(70, 7), random_context(60, 1)

    def known(place: int) -> np.ndarray:
        """Return which candidates score otherwise where the group at a place was of the fifth candidate's author."""
        author = context.history.author.copy()
        author[place] = posts.author[5]
        other = replace(context, history=replace(context.history, author=author))
        return np.flatnonzero((affine.rank(context, posts) != affine.rank(other, posts)).any(axis=1))

    assert known(9).tolist() == []
    assert known(10).tolist() == [5]
    assert known(27).tolist() == [5]
    assert len(known(28)) == 70  # a token, which every candidate reads


def test_without_a_history_and_without_the_option_nothing_is_read(affine: Phoenix, small: Phoenix) -> None:
    assert "affinity_groups" not in DEMO.as_dict()
    assert affine.config.as_dict()["affinity_groups"] == 50
    assert (affine.config.groups_read, small.config.groups_read) == (50, 32)
    assert len(affine.rank(random_context(60, 1), random_posts(0, 2))) == 0
    context = replace(random_context(9, 1), history=History.empty())
    found = affine.rank(context, random_posts(70, 2))
    assert np.isfinite(found).all()
    assert found.tobytes() == affine.rank(context, random_posts(70, 2)).tobytes()


def test_a_score_depends_on_no_other_candidate(affine: Phoenix) -> None:
    context, posts = random_context(60, 1), random_posts(300, 2)
    posts.author[:40], posts.terms[:40] = context.history.author[-40:], context.history.terms[-40:]
    whole = affine.rank(context, posts)
    order = np.random.default_rng(0).permutation(300)[:70]
    some = Candidates(*(getattr(posts, name)[order] for name in Candidates.__dataclass_fields__))
    assert whole[order].tobytes() == affine.rank(context, some).tobytes()


def test_it_learns_from_histories_longer_than_those_it_reads_one_by_one(affine: Phoenix) -> None:
    trainer = Trainer(affine.config, training=TrainingConfig(warm_up_steps=1))
    trainer.learn(batch(seed, 8, 50, 4) for seed in range(3))
    knots = trainer.phoenix().parameters.ranker.affinities
    assert knots is not None
    assert np.abs(knots.knots).max() > 0
    with pytest.raises(ValueError, match="history of 51; the configuration allows 50"):
        Trainer(affine.config).learn([batch(0, 8, 51, 4)])
