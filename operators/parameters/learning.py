"""Parameters of learning from what was served."""

from typing import Annotated

from msgspec import Struct

from models.recipe import TrainingConfig
from operators.parameters.entries import meta


class Learning(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of served feeds for the models to learn from."""

    features_enabled: Annotated[
        bool, meta("whether the features that ranked a served feed are logged for training", "ours", "job")
    ] = False
    inactivity_s: Annotated[
        int, meta("an example is closed after so long without an action on it", "6.1; a session's end", "job", ge=1)
    ] = 1800
    late_s: Annotated[
        int, meta("actions that come so much later are still counted, apart from examples", "ours", "job", ge=0)
    ] = 86_400


class LearningSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How a model goes on learning from the stream of examples, and what it must show before it is published.

    Raises ValueError where an interval is not at least two whole steps: judging and learning compile one shape.
    """

    interval_examples: Annotated[
        int, meta("examples that are foretold, then learned from: 25 s of 1,000 events/s", "ours", "job", ge=2)
    ] = 1024
    examples_a_step: Annotated[int, meta("examples of one step of learning", "ours, as `train`", "job", ge=1)] = 64
    passes: Annotated[
        int, meta("times as many examples as new ones are learned from: more where they are few", "ours", "job", ge=1)
    ] = 1
    rehearsed: Annotated[
        int,
        meta(
            "examples kept, the latest, from which passes beyond the first are drawn; 0: they are over the interval",
            "ours, measured",
            "job",
            ge=0,
        ),
    ] = 0
    seen_only: Annotated[
        bool,
        meta(
            "posts below the last one acted on are left out: not passed over, but never seen; for streams that tell"
            " how long each post was looked at",
            "ours, measured",
            "job",
        ),
    ] = False
    posts_max: Annotated[int, meta("posts of an example at most, the first", "ours, as `train`", "job", ge=2)] = 32
    learning_rate: Annotated[
        float, meta("of all weights; a quarter of what a fresh model is trained with", "ours, measured", "job", ge=1e-9)
    ] = 1e-3
    table_rate: Annotated[
        float,
        meta(
            "of the hashed tables, whose rows are read in few steps; 0 for that of all weights", "ours", "job", ge=0.0
        ),
    ] = 0.0
    weight_decay: Annotated[
        float, meta("of all weights; more of it where examples are few", "ours, as `train`", "job", ge=0.0)
    ] = 1e-3
    negatives: Annotated[
        int,
        meta("posts of others lent to each example as passed over", "ours, as `train`", "job", ge=0, le=1024),
    ] = 8
    averaging: Annotated[
        float, meta("what the published weights, an average over steps, keep a step", "ours", "job", ge=0.0, le=0.9999)
    ] = 0.98
    warm_up_steps: Annotated[int, meta("steps over which the rate rises", "ours, as `train`", "job", ge=1)] = 50
    publish_margin: Annotated[
        float,
        meta("a model whose loss may be larger than the serving one's by more is not published", "ours", "job", ge=0.0),
    ] = 0.005
    positives_min: Annotated[
        int, meta("posts acted on among those a model is judged by, at least", "ours, measured", "job", ge=1)
    ] = 200
    order_s: Annotated[
        int, meta("an example older than those learned from by more is passed over", "ours", "job", ge=0)
    ] = 3600
    remembered: Annotated[
        int, meta("examples remembered, so that one that comes twice is learned once", "ours", "job", ge=0)
    ] = 65_536
    keep: Annotated[int, meta("published models kept in the registry, the last", "ours", "job", ge=1)] = 20

    def __post_init__(self) -> None:
        if self.interval_examples % self.examples_a_step or self.interval_examples < 2 * self.examples_a_step:
            raise ValueError(
                f"interval_examples {self.interval_examples} is not two or more whole steps of"
                f" {self.examples_a_step} examples"
            )

    def training(self, retrieval: bool) -> TrainingConfig:
        """Return the settings of the trainer; `retrieval` off leaves the towers as they are."""
        return TrainingConfig(
            learning_rate=self.learning_rate,
            table_rate=self.table_rate or None,
            weight_decay=self.weight_decay,
            negatives=self.negatives,
            averaging=self.averaging,
            warm_up_steps=self.warm_up_steps,
            retrieval=retrieval,
        )
