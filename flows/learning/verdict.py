"""Whether a model is good enough to be published: measured beside the best one, on examples new to both."""

from msgspec import Struct

from models.judging import Foretold, Paired
from operators.parameters.learning import LearningSettings


class Compared(Struct, frozen=True):
    """By what share the loss of the model in training is larger than that of the best one, with its standard error.

    Over all intervals since the last verdict; `ranker` and `retrieval` apart, the latter None where towers don't learn.
    """

    ranker: float
    ranker_error: float
    retrieval: float | None
    retrieval_error: float | None


class Verdict(Struct):
    """The model in training against the best one published, over all intervals since it was last settled."""

    ranker: Paired
    retrieval: Paired
    positives: int = 0

    @classmethod
    def open(cls) -> "Verdict":
        """Return a verdict of which nothing is known yet."""
        return cls(Paired(), Paired())

    def take(self, best: Foretold, trained: Foretold, positives: int) -> None:
        """Take in an interval."""
        self.ranker.add(best.loss, trained.loss)
        self.retrieval.add(best.retrieval, trained.retrieval)
        self.positives += positives

    @property
    def compared(self) -> Compared:
        """What was measured so far."""
        towers = self.retrieval if self.retrieval.count else None
        return Compared(
            self.ranker.worse,
            self.ranker.error,
            None if towers is None else towers.worse,
            None if towers is None else towers.error,
        )

    def against(self, settings: LearningSettings) -> tuple[str, bool]:
        """Return why the trained model is not published, "" where it is, and whether that is settled.

        It is published where it is not worse by the margin even at one standard error above what was measured, of
        ranker and towers alike; it is refused where what was measured is beyond the margin. In between, and with too
        few posts acted on, the next interval is counted in.
        """
        if self.positives < settings.positives_min:
            return f"too few to tell: {self.positives} of {settings.positives_min} posts acted on", False
        losses = {"ranker": self.ranker} | ({"retrieval": self.retrieval} if self.retrieval.count else {})
        for name, loss in losses.items():
            # Written so that a loss that is no number is worse.
            if not loss.worse <= settings.publish_margin:
                return (
                    f"worse: the {name}'s loss by {loss.worse:.2%}, the margin is {settings.publish_margin:.2%}",
                    True,
                )
        for name, loss in losses.items():
            if not loss.worse + loss.error <= settings.publish_margin:
                return f"can't tell yet: the {name}'s loss differs by {loss.worse:.2%} ± {loss.error:.2%}", False
        return "", True
