"""The models of a job by their names, and what they say of a request's candidates.

X calls such a deployment a cluster and reaches it over the network: ten channels, two attempts on different ones,
500 ms each. Here all are in the process: `models.fallback` stands for the second attempt and `serving.deadline_ms` for
the time-out. The candidate index and the vectors of posts and viewers are those of `prod` for all: another model ranks
what `prod` retrieved, and diversity looks at `prod`'s vectors.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from models.inputs import F32, Candidates
from models.phoenix import CheckpointRefused, Phoenix, Progress
from operators.parameters import ParameterRefused, Parameters
from operators.pipeline.runner import attempt
from operators.viewers.query import Query
from schemas.actions import ACTION_INDEX

PROD: Final = "prod"
# X has nine: Prod and Experiment1 to 8 (2023-generation.md 1).
CLUSTERS_MAX: Final = 9
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
NO_CHECKPOINTS: Final[Mapping[str, Path]] = MappingProxyType({})
NO_OTHERS: Final[Mapping[str, Phoenix]] = MappingProxyType({})


class Outputs(NamedTuple):
    """What the models say of C candidates.

    `probabilities` float32[C, 19] is what ranks, None where no model answered; `model` the versions that made it;
    `by_cluster` what each of the models that were asked said, as it said it.
    """

    probabilities: F32 | None
    model: str
    by_cluster: dict[str, F32]


class Clusters:
    """The models of a job by name. Never changes once built; may be called from several threads at once."""

    def __init__(self, prod: Phoenix, others: Mapping[str, Phoenix] = NO_OTHERS) -> None:
        """Raises CheckpointRefused where a model reads what is kept for `prod` only if `prod` reads it."""
        for name, phoenix in others.items():
            if phoenix.config.co_likers and not prod.config.co_likers:
                raise CheckpointRefused(
                    f"cluster {name}, the model {phoenix.version}, reads what co-likers say, and nobody keeps it for a "
                    "`prod` that does not: give it as --checkpoint, or a model without `co_likers`."
                )
        self.prod = prod
        self._models = {PROD: prod, **others}

    @classmethod
    def load(cls, prod: Path, others: Mapping[str, Path] = NO_CHECKPOINTS) -> Self:
        """Return the models of checkpoints. Raises CheckpointRefused, saying why in one sentence."""
        return cls(Phoenix.load(prod), {name: Phoenix.load(path) for name, path in others.items()})

    def with_model(self, name: str, phoenix: Phoenix) -> "Clusters":
        """Return the same models with another in the place of one of them.

        Raises CheckpointRefused where there is none of that name, or where one of them can't be beside the other.
        """
        self.version(name)
        models = {**self._models, name: phoenix}
        return Clusters(models.pop(PROD), models)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, `prod` first."""
        return tuple(self._models)

    def version(self, name: str) -> str:
        """Return the version of a model. Raises CheckpointRefused where there is none of that name."""
        if name not in self._models:
            raise CheckpointRefused(f"no cluster is called {name}; this job has {', '.join(self._models)}")
        return self._models[name].version

    def check(self, parameters: Parameters) -> None:
        """Raise ParameterRefused for parameters that name a model which is not loaded."""
        models = parameters.models
        named = {"models.cluster": models.cluster, "models.fallback": models.fallback or PROD}
        named |= {f"hybrid.{action}": name for action, name in parameters.hybrid.lent().items()}
        for parameter, name in (*named.items(), *(("models.shadow", name) for name in models.shadow)):
            if name not in self._models:
                raise ParameterRefused(
                    f"parameter {parameter}: no cluster is called {name}; this job has {', '.join(self._models)} "
                    "(--cluster name=checkpoint loads another)"
                )

    def check_groups(self, groups_max: int) -> None:
        """Raise CheckpointRefused where a model counts more groups of a viewer's actions than are kept."""
        for phoenix in self._models.values():
            try:
                phoenix.config.check_groups(groups_max)
            except ValueError as error:
                raise CheckpointRefused(f"the model {phoenix.version} {error}") from None

    def warm_up(self, candidates_max: int, progress: Progress | None = None) -> None:
        """Compile every model's shapes for requests of up to `candidates_max` candidates."""
        for place, phoenix in enumerate(self._models.values()):
            told = None if progress is None else partial(_told, progress, place, len(self._models))
            phoenix.warm_up(candidates_max, told)

    def ask(self, name: str, query: Query, candidates: Candidates) -> F32:
        """Return what a model says of C candidates, float32[C, 19]."""
        return self._models[name].rank(query.context, candidates)

    def rank(self, query: Query, candidates: Candidates) -> Outputs:
        """Return what ranks: the outputs of the request's model, and of those that lend it some.

        Where the model fails the fallback's take their place, where one that lends fails the model's own; the feed says
        which failed.
        """
        models = query.parameters.models
        answers: dict[str, F32 | None] = {}

        def answer(name: str) -> F32 | None:
            if name not in answers:
                component = "phoenix" if name == PROD else f"phoenix.{name}"
                answers[name] = attempt(query, component, partial(self.ask, name, query, candidates), None)
            return answers[name]

        base = models.cluster
        outputs = answer(base)
        if outputs is None and models.fallback:
            base = models.fallback
            outputs = answer(base)
        if outputs is None:
            return Outputs(None, self.version(models.cluster), {})
        made_by = [base]
        lent = {action: name for action, name in query.parameters.hybrid.lent().items() if name != base}
        outputs = outputs.copy() if lent else outputs
        for action, name in lent.items():
            lender = answer(name)
            if lender is not None:
                outputs[:, ACTION_INDEX[action]] = lender[:, ACTION_INDEX[action]]
                made_by.append(name)
        versions = dict.fromkeys(self.version(name) for name in made_by)
        answered = {name: said for name, said in answers.items() if said is not None}
        return Outputs(outputs, "+".join(versions), answered)


def _told(progress: Progress, place: int, models: int, done: int, of: int) -> None:
    progress(place * of + done, models * of)
