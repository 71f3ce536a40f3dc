"""Validation while a model trains: after each pass its losses on the last part of the time, and the best model kept."""

from pathlib import Path

import numpy as np
from msgspec import Struct

from flows.training_batches import Seen, Spool
from models.phoenix import Phoenix
from models.training import Trainer
from models.validation import held_out_losses
from operators.parameters import ParameterRefused


class Epoch(Struct, frozen=True):
    """The losses after a pass over the training examples, on those held out; `step` is its last."""

    epoch: int
    step: int
    ranker_loss: float
    retrieval_loss: float

    @property
    def loss(self) -> float:
        """What training lowers."""
        return self.ranker_loss + self.retrieval_loss


def trained_batches(seen: Seen, share: float) -> int:
    """Return how many batches of a spool come before the last `share` of its time; the others are held out.

    Raises ParameterRefused where one of the two parts is empty.
    """
    if not share:
        return seen.batches
    start_ms = seen.to_ms - share * (seen.to_ms - seen.from_ms)
    count = int(np.searchsorted(np.maximum.accumulate(seen.starts_ms or [0]), start_ms))
    if not 0 < count < seen.batches:
        raise ParameterRefused(
            f"of {seen.batches} steps {count} are left to learn from with --validate {share:g}: take another share, or"
            " more examples"
        )
    return count


class Validation:
    """Measures a model after each pass, and keeps the best one beside the checkpoint until the run ends."""

    def __init__(self, spool: Spool, start: int, best: Path, epochs: list[Epoch] | None = None) -> None:
        """Take the batches of a spool from `start` on; `epochs` are those measured before the run was stopped."""
        self._spool = spool
        self._start = start
        self._best = best
        self.epochs = epochs or []

    def measure(self, trainer: Trainer) -> None:
        """Measure the model after a pass."""
        ranker, retrieval = held_out_losses(trainer, self._spool.read(self._start))
        self.epochs.append(Epoch(len(self.epochs) + 1, trainer.taken, ranker, retrieval))
        if self.best is self.epochs[-1]:
            trainer.phoenix().save(self._best)

    @property
    def best(self) -> Epoch:
        """The pass with the least loss, the first of equals; one that is no number is never the best."""
        return min(self.epochs, key=lambda one: one.loss if np.isfinite(one.loss) else np.inf)

    def kept(self) -> Phoenix:
        """Return the best model. Raises CheckpointRefused."""
        return Phoenix.load(self._best)

    def remove(self) -> None:
        """Remove what was kept."""
        self._best.unlink(missing_ok=True)
