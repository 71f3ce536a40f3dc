"""The demo's model: `python -m benchmarks.world.training LOG --out CHECKPOINT`, as `make demo-model` runs it.

Reads what a log of the demo's people says was served to them in the weeks before the demo, and trains both models of
Phoenix on it, one after the other: the ranker in several passes over the requests, the towers in one. Three settings
this world was found to need (docs/results/world.md): the hashed tables learn at ten times the rate of the rest, because
a row is read in few steps; both rates fall along a cosine; and no posts are lent as negatives, since the log says what
was passed over. `run_flow.py train` has options for the three now; what it can't is give the two models other passes.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flows.intake import Intake
from flows.terminal import bar, console, refusals
from flows.training_examples import batches, examples
from infra.logs.reader import LogReader
from models.checkpoints import Origin
from models.compilation import use_cache
from models.config import DEMO
from models.inputs import ExampleBatch
from models.losses import ranker_loss, retrieval_loss
from models.phoenix import Phoenix, PhoenixParameters, init_parameters
from models.training import ADAM_EPSILON, TrainingConfig, at_base_rates, step_inputs
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts

TRAINING: Final = TrainingConfig(negatives=0, identity_dropout=0.1)
RATE: Final = 3e-3
TABLES: Final = 10.0  # times that, for hashed tables
LAST: Final = 0.02  # of the rate, at the end
STEP: Final = 32  # requests
SLATE: Final = 20  # posts of a request: what the world's people are shown
RANKER_EPOCHS: Final = 3
TOWER_EPOCHS: Final = 1

Loss = Callable[[Any, Any], Array]
Told = Callable[[float, float], None]


def trained(log: Path, seed: int, reading: Told, training: Told) -> Phoenix:
    """Return both models trained on what a log says was served. Raises LogRefused."""
    use_cache()
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())
    made = list(
        batches(examples(LogReader(log), intake, SLATE, seed, reading), STEP, DEMO.groups_read, posts_max=SLATE)
    )
    rng = np.random.default_rng(seed)
    first = step_inputs(made[0], DEMO, TRAINING, rng)
    start = at_base_rates(init_parameters(DEMO, seed), first.labels)
    steps = len(made) * (RANKER_EPOCHS + TOWER_EPOCHS)

    def rank(parameters: Any, inputs: Any) -> Array:
        return ranker_loss(parameters, DEMO, inputs.context, inputs.candidates, inputs.labels)

    def retrieve(parameters: Any, inputs: Any) -> Array:
        return retrieval_loss(parameters, DEMO, inputs.retrieval_context, inputs.entity, inputs.retrieval)

    ranker = _learned(start.ranker, rank, made, RANKER_EPOCHS, rng, lambda done: training(done, steps))
    before = len(made) * RANKER_EPOCHS
    towers = _learned(start.two_tower, retrieve, made, TOWER_EPOCHS, rng, lambda done: training(before + done, steps))
    origin = Origin(
        data=log.name,
        from_ms=int(made[0].at_ms.min()),
        to_ms=int(made[-1].at_ms.max()),
        examples=len(made) * STEP,
        steps=steps,
        seed=seed,
        command="make demo-model",
    )
    return Phoenix(DEMO, PhoenixParameters(ranker, towers), origin)


def _learned(
    parameters: Any,
    loss: Loss,
    made: list[ExampleBatch],
    epochs: int,
    rng: np.random.Generator,
    told: Callable[[int], None],
) -> Any:
    """Return parameters after some passes over batches, each in an order of its own."""
    steps = epochs * len(made)
    warm_up = min(TRAINING.warm_up_steps, steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, warm_up, steps, RATE * LAST)

    def adam(times: float) -> optax.GradientTransformation:
        return optax.adamw(
            lambda step: times * rate(step), 0.9, TRAINING.beta_2, eps=ADAM_EPSILON, weight_decay=TRAINING.weight_decay
        )

    optimiser = optax.apply_if_finite(
        optax.chain(
            optax.clip_by_global_norm(TRAINING.clip_norm),
            optax.multi_transform({True: adam(TABLES), False: adam(1.0)}, _is_table),
        ),
        max_consecutive_errors=100,
    )
    state = optimiser.init(parameters)

    @jax.jit
    def step(parameters: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        gradients = jax.grad(loss)(parameters, inputs)
        updates, state = optimiser.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    done = 0
    for _ in range(epochs):
        for place in rng.permutation(len(made)).tolist():
            parameters, state = step(parameters, state, step_inputs(made[place], DEMO, TRAINING, rng))
            done += 1
            told(done)
    return jax.tree.map(jnp.asarray, parameters)


def _is_table(parameters: Any) -> Any:
    """Return which leaves of a model are tables of hashed rows."""
    tables = {"entities.post", "entities.author", "entities.term", "around.user"}
    return jax.tree_util.tree_map_with_path(
        lambda path, _: ".".join(str(getattr(key, "name", "")) for key in path) in tables, parameters
    )


def main() -> None:
    """Train and write a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.training", description=__doc__)
    parser.add_argument("log", type=Path, help="what to learn from")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--seed", type=int, default=0, help="of fresh weights and of the order")
    told = parser.parse_args()
    start_s = time.perf_counter()
    with refusals(), bar("reading") as reading, bar("training") as training:
        phoenix = trained(told.log, told.seed, reading, training)
        phoenix.save(told.out)
    console.print(f"{told.out}, model {phoenix.version}, in {time.perf_counter() - start_s:.0f} s")


if __name__ == "__main__":
    main()
