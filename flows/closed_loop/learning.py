"""Who learns from a closed loop while it runs: the join and the trainer of the stream, in the loop's own thread.

Training happens at fixed points of the log, once an interval's examples are there, so that the same life learns the
same models. On Kafka both are processes of their own.
"""

from pathlib import Path
from typing import Protocol

from flows.learning.joining import Joining
from flows.learning.messages import example_of
from flows.learning.trainer import ContinuousTrainer, Interval
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from models.registry import Entry, Registry
from operators.parameters import Parameters
from operators.parameters.learning import LearningSettings
from schemas.events import Engagement
from schemas.learning import ServedFeatures


class Learner(Protocol):
    """Learns from what was served and what came of it."""

    def take_features(self, features: ServedFeatures) -> None:
        """Take what the model saw of a feed that has just been served."""

    def learn(self, acts: list[Engagement], now_ms: int) -> tuple[Phoenix, Entry] | None:
        """Take what was done up to now (ms of the stream); return a model to serve from now on, if there is one, and
        where it was published.
        """


class StreamLearner:
    """Joins feeds with what people do, learns an interval at a time, and gives the models that were found good."""

    def __init__(
        self,
        folder: Path,
        config: PhoenixConfig,
        parameters: Parameters,
        settings: LearningSettings,
        start: Phoenix | None,
        seed: int,
    ) -> None:
        """Publish into a folder, which is to be empty; without `start` learning begins with fresh weights.

        Raises CheckpointRefused where the folder holds models of another configuration.
        """
        learning = parameters.learning
        self._registry = Registry(folder, settings.keep)
        self._joining = Joining(learning.inactivity_s, learning.late_s)
        self._trainer = ContinuousTrainer(self._registry, config, settings, start, seed)
        self.intervals: list[Interval] = []
        self.latest: Phoenix | None = None

    def take_features(self, features: ServedFeatures) -> None:
        """Take what the model saw of a feed that has just been served."""
        self._joining.take_features([features])

    def learn(self, acts: list[Engagement], now_ms: int) -> tuple[Phoenix, Entry] | None:
        """Take what was done up to now; return the latest model that the examples closed by it have published."""
        self._joining.take_engagements(acts)
        intervals = self._trainer.take([example_of(one) for one in self._joining.close(now_ms)])
        self._joining.late.clear()
        self.intervals += intervals
        published = [one.published for one in intervals if one.published is not None]
        if not published:
            return None
        self.latest = self._registry.load(published[-1])
        return self.latest, published[-1]
