"""Who learns from a closed loop while it runs."""

from typing import Protocol

from models.phoenix import Phoenix
from schemas.events import Engagement
from schemas.learning import ServedFeatures


class Learner(Protocol):
    """Learns from what was served and what came of it."""

    def take_features(self, features: ServedFeatures) -> None:
        """Take what the model saw of a feed that has just been served."""

    def learn(self, acts: list[Engagement], now_ms: int) -> Phoenix | None:
        """Take what was done up to now (ms of the stream); return a model to serve from now on, if there is one."""
