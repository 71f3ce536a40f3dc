"""A training run on disk: all that a Trainer holds, so that it goes on with the same losses to the bit.

Laid out as checkpoints are (models/checkpoints.py), but with every array as it is: weights, their average, moments,
counters, and the random generator's state. No pickle: reading one runs no code.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from models.checkpoints import CheckpointRefused, named_leaves, write_whole
from models.config import PhoenixConfig
from models.losses import PROBABILITY_HEADS
from models.optimiser import Learned, begin
from models.phoenix import init_parameters
from models.recipe import TrainingConfig
from models.semantic_ids import Codebook
from models.training import Trainer

MAGIC: Final = b"PHXRUN1\n"
DIGEST_BYTES: Final = 32


def save_run(path: Path, trainer: Trainer, facts: dict[str, Any]) -> None:
    """Write a trainer, and `facts` of the caller's (plain data); the file appears whole or not at all.

    Raises ValueError for one that has not taken a step.
    """
    if trainer.learned is None:
        raise ValueError("nothing was learned yet")
    leaves, chunks = [], []
    for name, leaf in named_leaves(trainer.learned):
        array = np.asarray(leaf)
        leaves.append([name, array.dtype.str, list(array.shape)])
        chunks.append(array.tobytes())
    header = {
        "config": msgspec.to_builtins(trainer.config),
        "training": msgspec.to_builtins(trainer.training),
        "seed": trainer.seed,
        "rng": trainer.rng.bit_generator.state,
        "counts": [trainer.taken, trainer.examples, trainer.candidates],
        "losses": trainer.losses,
        "facts": facts,
        "leaves": leaves,
    }
    # json, because the generator's state has numbers of 128 bits.
    text = json.dumps(header).encode()
    body = b"".join([MAGIC, len(text).to_bytes(8, "little"), text, *chunks])
    write_whole(path, body + hashlib.sha256(body).digest())


def load_run(
    path: Path, config: PhoenixConfig, training: TrainingConfig, codebook: Codebook | None = None
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer of a run and the caller's facts; a codebook is given again, as to a new trainer.

    Raises CheckpointRefused for a file that is missing, cut off or damaged, no run, or a run of another configuration
    or with other settings.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointRefused(f"{path}: there is no run to go on with; leave out --resume to begin one") from None
    if raw[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused(f"{path}: this is not a training run")
    if hashlib.sha256(raw[:-DIGEST_BYTES]).digest() != raw[-DIGEST_BYTES:]:
        raise CheckpointRefused(f"{path}: it is cut off or damaged (its hash does not match): begin anew")
    start = len(MAGIC) + 8
    end = start + int.from_bytes(raw[len(MAGIC) : start], "little")
    header = json.loads(raw[start:end])
    same = (msgspec.to_builtins(config), msgspec.to_builtins(training))
    if (header["config"], header["training"]) != same:
        raise CheckpointRefused(f"{path}: it was begun with another configuration or other settings: begin anew")
    trainer = Trainer(config, header["seed"], training, codebook=codebook)
    trainer.rng.bit_generator.state = header["rng"]
    trainer.taken, trainer.examples, trainer.candidates = header["counts"]
    trainer.losses = [(ranker, retrieval) for ranker, retrieval in header["losses"]]
    wanted = jax.eval_shape(partial(_shapes, config, training))
    stated = [(name, size) for name, _, size in header["leaves"]]
    if stated != [(name, list(leaf.shape)) for name, leaf in named_leaves(wanted)]:
        raise CheckpointRefused(f"{path}: it was written by another version: begin anew")
    arrays, place = [], end
    for _, dtype, size in header["leaves"]:
        count = int(np.prod(size, dtype=np.int64))
        array = np.frombuffer(raw, np.dtype(dtype), count, place).reshape(size)
        arrays.append(jnp.array(array))
        place += array.nbytes
    trainer.learned = jax.tree.unflatten(jax.tree.structure(wanted), arrays)
    return trainer, header["facts"]


def _shapes(config: PhoenixConfig, training: TrainingConfig) -> Learned:
    return begin(init_parameters(config, 0), training, np.ones(PROBABILITY_HEADS, np.float32))
