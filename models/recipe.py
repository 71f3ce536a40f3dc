"""How to train: the settings of a run, with where each number comes from."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(gt=0.0)]


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How to train; the optimiser's numbers are AdamW's in x-algorithm.md 3.5, the rest is chosen for minutes on a CPU.

    The learning rate is twice X's, whose runs are of 1e11 samples.
    `tables` says what moves the hashed tables: `adam` is AdamW that touches the rows of a step only and makes up for
    the steps a row missed when it is next read; `adagrad` is X's row-wise AdaGrad, whose accumulators lose half in
    `table_half_life_steps`; `dense` is AdamW over all rows in every step. `table_rate` is the tables' own learning
    rate (not of `dense` ones); None stands for `learning_rate`, and for .1 with `adagrad` (x-algorithm.md 3.5).
    With `decay_steps` both rates fall along a cosine, to nothing after that many steps.
    `retrieval` off leaves the towers as they are, for logs that only rank. `head_balance` is how much rare actions
    count for being rare (models/losses.py `head_weights`), 0 not at all.
    `negatives` posts of other viewers are added to each example, each weighted 1 / its count among them times
    `negative_weight`. `identity_dropout` is the share of examples that do not see post and user ids, because posts
    and viewers never met in training must be served as well; `history_dropout` the share whose history retrieval does
    not see. The weights kept are an average over the last steps (`averaging` a step).
    """

    learning_rate: Rate = 4e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-3
    beta_1: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.95
    beta_2: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.98
    warm_up_steps: Annotated[int, Meta(ge=1)] = 50
    clip_norm: Rate = 1.0
    decay_steps: Annotated[int, Meta(ge=1)] | None = None
    retrieval: bool = True
    head_balance: Share = 0.0
    tables: Literal["adam", "adagrad", "dense"] = "adam"
    table_rate: Rate | None = None
    table_half_life_steps: Annotated[int, Meta(ge=1)] = 2500
    negatives: Annotated[int, Meta(ge=0, le=1024)] = 8
    negative_weight: Annotated[float, Meta(ge=0.0)] = 1.0
    identity_dropout: Share = 0.2
    history_dropout: Share = 0.1
    soft_negatives: bool = True
    averaging: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.98

    def __post_init__(self) -> None:
        if self.tables == "adam" and self.beta_1**2 >= self.beta_2:
            raise ValueError("rows that a step does not read need beta_1 squared below beta_2: their momentum must end")
