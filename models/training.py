"""Training of both models from batches of a log, in one compiled step; same batches and seed, same checkpoint."""

import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.ahead import ahead
from models.checkpoints import Origin
from models.compilation import use_cache
from models.config import PhoenixConfig
from models.features import I32
from models.inputs import F32, ExampleBatch
from models.losses import PROBABILITY_HEADS, RankerLabels, head_weights, ranker_loss, retrieval_loss
from models.optimiser import ADAM_EPSILON, Learned, begin, read, settled, write
from models.phoenix import Phoenix, PhoenixParameters, init_parameters
from models.ranker import OUTPUT_COLUMNS
from models.recipe import TrainingConfig
from models.semantic_ids import Codebook, SemanticIds
from models.step_inputs import StepInputs, compacted, rows_read, step_inputs, table_sizes
from schemas.actions import DWELL_TIME

__all__ = ["ADAM_EPSILON", "SKIPS_IN_A_ROW_MAX", "Trainer", "TrainingConfig", "TrainingReport", "fit", "step_inputs"]

# A run of this many steps in a row that are not finite will not recover: stop skipping and let it be seen.
SKIPS_IN_A_ROW_MAX: Final = 1000
REPORT_STEPS: Final = 20


class TrainingRefused(ValueError):
    """Training that can't go on; the message says why and the way out."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How far training is: losses of the last step, and how many steps were skipped as not finite.

    Examples are requests; candidates are their own labelled posts, without the negatives lent to them.
    """

    step: int
    examples: int
    examples_per_s: float
    ranker_loss: float
    retrieval_loss: float
    skipped: int
    candidates_per_s: float = 0.0


class Prepared(NamedTuple):
    """A batch made ready for its step, and the state of the generator that drew for it."""

    rows: I32 | None
    inputs: StepInputs
    examples: int
    candidates: int
    rng: dict[str, Any]


class Trainer:
    """Learns from batches, any number of times: `learn`, then `phoenix` for the model so far, then on.

    All batches must have one shape. Starts from fresh weights, or from those of `start`.
    """

    def __init__(
        self,
        config: PhoenixConfig,
        seed: int = 0,
        training: TrainingConfig | None = None,
        start: Phoenix | None = None,
        codebook: Codebook | None = None,
    ) -> None:
        """Raises ValueError where `start` is a model of another configuration, and without a codebook that is needed.

        A configuration with semantic IDs needs one (models/semantic_ids.py), `start`'s where none is given.
        """
        if start is not None and start.config != config:
            raise ValueError("the model to start from has another configuration")
        if codebook is None and start is not None:
            codebook = start.parameters.codebook
        if (codebook is None) != (config.semantic_levels == 0):
            raise ValueError("a codebook is for configurations with semantic IDs, and those need one")
        use_cache()
        self.config = config
        self.seed = seed
        self.training = training or TrainingConfig()
        self.rng = np.random.default_rng(seed)
        self.taken = 0  # steps, those left out included
        self.examples = 0
        self.candidates = 0
        self.losses: list[tuple[float, float]] = []  # of each step: ranker, retrieval
        self.learned: Learned | None = None
        self._start = start
        self.codebook = codebook
        self._semantic = None if codebook is None else SemanticIds(codebook)
        self._shape: tuple[int, int, int] | None = None
        self._began_s = time.perf_counter()
        self._before = (0, 0)  # examples and candidates of earlier calls

    def learn(
        self,
        batches: Iterable[ExampleBatch],
        progress: Callable[[TrainingReport], None] | None = None,
        after_step: Callable[[], bool] | None = None,
    ) -> None:
        """Take a step with each batch, in order; `after_step` says whether to stop there.

        Raises ValueError where shapes differ, or where the history is longer than the configuration's.
        """
        self._began_s, self._before = time.perf_counter(), (self.examples, self.candidates)
        taken = self.taken
        step = partial(_step, config=self.config, training=self.training)
        for prepared in ahead(self._prepared(batches)):
            if self.learned is None:
                self.learned = self._begin(prepared.inputs.labels)
            self.learned, losses = step(self.learned, prepared.rows, prepared.inputs)
            self.rng.bit_generator.state = prepared.rng
            self.taken += 1
            self.examples += prepared.examples
            self.candidates += prepared.candidates
            ranker, retrieval = (float(loss) for loss in losses)
            self.losses.append((ranker, retrieval))
            if int(self.learned.in_a_row) >= SKIPS_IN_A_ROW_MAX:
                raise TrainingRefused(
                    f"{SKIPS_IN_A_ROW_MAX} steps in a row were not finite: lower the learning rate or look at the data"
                )
            if progress is not None and self.taken % REPORT_STEPS == 0:
                progress(self.report())
            if after_step is not None and after_step():
                break
        if progress is not None and self.taken > taken:
            progress(self.report())

    def report(self) -> TrainingReport:
        """Return how far training is; speeds are of the latest call of `learn`."""
        elapsed = max(time.perf_counter() - self._began_s, 1e-9)
        ranker, retrieval = self.losses[-1] if self.losses else (float("nan"), float("nan"))
        skipped = 0 if self.learned is None else int(self.learned.skipped)
        examples, candidates = self.examples - self._before[0], self.candidates - self._before[1]
        return TrainingReport(
            self.taken, self.examples, examples / elapsed, ranker, retrieval, skipped, candidates / elapsed
        )

    def phoenix(self, origin: Origin | None = None) -> Phoenix:
        """Return the model so far; training may go on. Raises ValueError where there was no batch."""
        if self.learned is None:
            raise ValueError("there are no training examples")
        stated = origin or Origin(examples=self.examples, steps=self.taken, seed=self.seed)
        learned = settled(self.learned, table_sizes(self.config), self.training)
        return Phoenix(self.config, learned._replace(codebook=self.codebook), stated)

    def _begin(self, labels: RankerLabels) -> Learned:
        rates = base_rates(labels)
        fresh = (
            at_base_rates(init_parameters(self.config, self.seed), labels)
            if self._start is None
            else self._start.parameters
        )
        return begin(fresh, self.training, head_weights(rates, self.training.head_balance))

    def _prepared(self, batches: Iterable[ExampleBatch]) -> Iterator[Prepared]:
        rng = deepcopy(self.rng)
        for batch in batches:
            self._shape = _checked_shape(batch, self._shape, self.config)
            rows: I32 | None = None
            inputs = step_inputs(batch, self.config, self.training, rng, self._semantic)
            if self.training.tables != "dense":
                rows, inputs = compacted(inputs, self.config)
            state: Any = rng.bit_generator.state
            yield Prepared(rows, inputs, len(batch.viewer), int(batch.valid.sum()), state)


def fit(
    batches: Iterable[ExampleBatch],
    config: PhoenixConfig,
    seed: int = 0,
    progress: Callable[[TrainingReport], None] | None = None,
    training: TrainingConfig | None = None,
    origin: Origin | None = None,
    start: Phoenix | None = None,
) -> Phoenix:
    """Return a model trained on batches, which are read once, in order, and must all have one shape.

    It starts from fresh weights, or from those of `start`. Raises ValueError where there are no batches, where shapes
    differ, or where the history is longer than the configuration's.
    """
    trainer = Trainer(config, seed, training, start)
    trainer.learn(batches, progress)
    return trainer.phoenix(origin)


def base_rates(labels: RankerLabels) -> F32:
    """Return how often each of the 18 actions happens, f32[18], never quite 0."""
    bits = (labels.actions[..., None] >> np.arange(PROBABILITY_HEADS)) & 1
    weight = labels.weight[..., None]
    # One made-up happening in a hundred rows keeps the rate of what never happened above zero.
    rates: F32 = (((bits * weight).sum((0, 1)) + 0.01) / (weight.sum() + 1.0)).astype(np.float32)
    return rates


def at_base_rates(parameters: PhoenixParameters, labels: RankerLabels) -> PhoenixParameters:
    """Return the parameters with output biases at the base rates of some labels.

    Most actions are rare. Left to find that out, the first hundred steps push every weight of the ranker down and
    with them what tells candidates apart: measured on the tests' world, AUC .50 after 200 steps from zero biases and
    .90 from base rates.
    """
    seen = labels.seen * labels.weight
    dwell = ((labels.dwell * seen).sum() + 0.01) / (seen.sum() + 1.0)
    bias = np.zeros(OUTPUT_COLUMNS, np.float32)
    rates = base_rates(labels)
    bias[:PROBABILITY_HEADS] = np.log(rates / (1.0 - rates))
    bias[DWELL_TIME] = np.log(np.expm1(dwell))
    return parameters._replace(ranker=parameters.ranker._replace(bias_outputs=jnp.asarray(bias)))


@partial(jax.jit, static_argnames=("config", "training"), donate_argnums=0)
def _step(
    learned: Learned, rows: Array | None, inputs: StepInputs, config: PhoenixConfig, training: TrainingConfig
) -> tuple[Learned, tuple[Array, Array]]:
    """Return what was learned after one step, and both losses."""

    def loss(both: PhoenixParameters) -> tuple[Array, tuple[Array, Array]]:
        ranker = ranker_loss(
            both.ranker, config, inputs.context, inputs.candidates, inputs.labels, learned.head_weights
        )
        if not training.retrieval:
            return ranker, (ranker, jnp.float32(0.0))
        retrieval = retrieval_loss(both.two_tower, config, inputs.retrieval_context, inputs.entity, inputs.retrieval)
        return ranker + retrieval, (ranker, retrieval)

    examples, slots, _ = inputs.context.entity.shape
    sizes = rows_read((examples, slots, len(inputs.entity) // examples), config)
    parameters, taken = read(learned, rows, sizes, training)
    gradients, losses = jax.grad(loss, has_aux=True)(parameters)
    return write(learned, rows, taken, gradients, training), losses


def _checked_shape(
    batch: ExampleBatch, before: tuple[int, int, int] | None, config: PhoenixConfig
) -> tuple[int, int, int]:
    if before is not None and batch.shape != before:
        raise ValueError(f"a batch of shape {batch.shape} follows batches of {before}; all must be alike")
    if batch.shape[1] > config.groups_read:
        raise ValueError(f"history of {batch.shape[1]}; the configuration allows {config.groups_read}")
    return batch.shape
