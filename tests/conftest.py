"""What tests of whole flows share: a tiny checkpoint, small logs, and a way to replay a few events."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as run_flow.py says

import msgspec
import numpy as np
import pytest
from hypothesis import settings

from infra.world import PRESETS, WorldSummary, inject_faults, simulate
from models.compilation import use_cache
from models.config import DEMO, PhoenixConfig
from models.phoenix import Phoenix
from tests.acceptance.playing import Player, with_switches

pytest_plugins = ("tests.kafka_broker",)
# No test asserts a time: on a busy machine an example of a property may wait for a second.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# As small as the rules for shapes allow: a model that compiles in seconds and ranks in a millisecond.
TINY = msgspec.structs.replace(
    DEMO,
    width=32,
    heads=2,
    layers=1,
    history_max=32,
    embedding_width=16,
    user_buckets=64,
    post_buckets=128,
    author_buckets=128,
    term_buckets=128,
    retrieval_width=32,
    retrieval_heads=2,
)


def shaken(phoenix: Phoenix, seed: int) -> Phoenix:
    """Return the model with noise on every weight: fresh ones score all posts alike."""
    import jax

    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.1, leaf.shape).astype(np.float32), phoenix.parameters
    )
    return Phoenix(phoenix.config, noisy)


def reconfigured(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Return a checkpoint with another configuration and a hash that fits."""
    assert raw.count(old) == 1
    body = raw[:-32].replace(old, new)
    return body + hashlib.sha256(body).digest()


@pytest.fixture(scope="session", autouse=True)
def compiled(pytestconfig: pytest.Config) -> Path:
    """Keep compiled shapes beside pytest's own cache, for this process and those it starts."""
    cache = pytestconfig.cache
    assert cache is not None
    folder = Path(cache.mkdir("compiled"))
    os.environ["FORYOU_CACHE"] = str(folder)
    # Before anything is compiled: JAX looks once in a process whether there is a cache.
    assert use_cache()
    return folder


@pytest.fixture(scope="session")
def tiny() -> PhoenixConfig:
    """Return the configuration of the tiny model."""
    return TINY


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, compiled: Path) -> Path:
    """Return a tiny checkpoint with random weights."""
    path = tmp_path_factory.mktemp("models") / "tiny.phoenix"
    shaken(Phoenix.untrained(TINY, seed=0), seed=0).save(path)
    return path


@pytest.fixture
def play(tmp_path: Path, checkpoint: Path) -> Callable[..., object]:
    """Return a function that replays events through the real dataflow; see `Player`."""
    return Player(tmp_path, checkpoint)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    """Return a day of 40 people as simulated, some with string ids, its truth beside it."""
    parameters = msgspec.structs.replace(
        PRESETS["small"], string_id_share=0.4, posts_per_person_day=6.0, deleted_share=0.1
    )
    return simulate(tmp_path_factory.mktemp("world") / "log.jsonl.zst", parameters)


@pytest.fixture(scope="session")
def rough_log(world: WorldSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same log with every kind of fault in it, explained requests and parameters set by requests."""
    folder = tmp_path_factory.mktemp("rough")
    faults = inject_faults(world.log, folder / "faulty.jsonl", 0.05, seed=1)
    assert len(faults) == 11, "every kind of fault is in"
    return with_switches(folder / "faulty.jsonl", folder / "log.jsonl")
