"""Small models and random requests that the tests of this room share."""

import msgspec
import numpy as np
import pytest

from models.config import DEMO, PhoenixConfig
from models.inputs import CO_LIKED, Candidates, Context, History
from models.phoenix import Phoenix
from schemas.actions import COUNTS, VIEWER_COUNTS

AT_MS = 1_767_225_600_000


def random_posts(n: int, seed: int) -> Candidates:
    """Return n random candidates."""
    rng = np.random.default_rng(seed)
    return Candidates(
        rng.integers(1, 2**64, n, dtype=np.uint64),
        rng.integers(1, 2**64, n, dtype=np.uint64),
        rng.integers(0, 2**16, (n, 4), dtype=np.uint16),
        AT_MS - rng.integers(0, 400_000_000, n),
        rng.random(n) < 0.3,
        rng.random(n) < 0.3,
        rng.integers(0, 2 ** rng.integers(1, 12, (n, COUNTS)), dtype=np.uint32),
        rng.integers(0, 2 ** rng.integers(1, 31, (n, CO_LIKED)), dtype=np.uint32),
    )


def random_context(n: int, seed: int) -> Context:
    """Return a viewer with n random actions behind him."""
    rng = np.random.default_rng(seed)
    posts = random_posts(n, seed + 1)
    history = History(
        posts.post,
        posts.author,
        posts.terms,
        rng.integers(0, 2**19, n, dtype=np.uint32),
        rng.uniform(0, 90, n).astype(np.float32),
        rng.integers(0, 16, n, dtype=np.uint8),
        np.sort(AT_MS - rng.integers(0, 400_000_000, n)),
    )
    return Context(int(rng.integers(1, 2**63)), history, AT_MS, 1, rng.integers(0, 300, VIEWER_COUNTS, dtype=np.uint32))


def shaken(phoenix: Phoenix, seed: int = 0) -> Phoenix:
    """Return the model with noise on every weight, so that no table is zero and no norm is one."""
    import jax

    rng = np.random.default_rng(seed)
    parameters = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        phoenix.parameters,
    )
    return Phoenix(phoenix.config, parameters)


@pytest.fixture(scope="session")
def small_config() -> PhoenixConfig:
    """Return a configuration that compiles fast."""
    return msgspec.structs.replace(
        DEMO,
        width=64,
        heads=4,
        layers=2,
        history_max=32,
        retrieval_width=64,
        user_buckets=64,
        post_buckets=128,
        author_buckets=128,
        term_buckets=128,
        counts=True,
        co_likers=True,
        viewer_in_candidates=True,
    )


@pytest.fixture(scope="session")
def small(small_config: PhoenixConfig) -> Phoenix:
    """Return a small model with random weights everywhere."""
    return shaken(Phoenix.untrained(small_config, seed=3))
