"""A model that goes on learning: each interval of examples is foretold, then learned from; good models are published.

What is published is the model that was judged, to the bit: the one that foretold an interval it had not learned from.
What it learns from that interval is judged with the next one. It is judged by the best model published: the serving one
or, where that was let through though a little worse, the one before, so that small steps for the worse don't add up.
"""

import hashlib
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Struct

from flows.example_files import Part
from flows.learning.rehearsal import Rehearsal
from flows.learning.verdict import Compared, Verdict
from flows.training_examples import Example, batches
from models.checkpoints import CheckpointRefused, Origin
from models.config import PhoenixConfig
from models.inputs import ExampleBatch
from models.judging import Fit, Foretold, foretold
from models.losses import PROBABILITY_BITS, PROBABILITY_HEADS
from models.phoenix import Phoenix
from models.registry import Entry, Facts, Registry
from models.run_files import load_run, save_run
from models.training import Trainer
from operators.parameters.learning import LearningSettings

COMMAND: Final = "run_flow.py learn"
# Losses of steps that a trainer keeps: a run without an end must not grow.
LOSSES_KEPT: Final = 1024
REHEARSED: Final = ".rehearsed"


class Passed(Struct):
    """Examples that were not learned from: come `twice`, too `late`, or `unusable` (no posts, dwell time no number)."""

    twice: int = 0
    late: int = 0
    unusable: int = 0


class Interval(Struct, frozen=True):
    """One interval: its examples, how well they were foretold before anything was learned from them, what came of it.

    Times are those of its first and last example, in ms. `rows` are posts shown, `positives` those acted on. `trained`
    is the fit of the model in training, `best` that of the best model published. Losses are those of the interval's
    last step of learning. `published` is the model that was found good enough; `reason` says why there is none.
    """

    number: int
    from_ms: int
    to_ms: int
    examples: int
    rows: int
    positives: int
    trained: Fit | None
    best: Fit | None
    compared: Compared | None
    published: Entry | None
    reason: str
    ranker_loss: float
    retrieval_loss: float
    skipped_steps: int
    passed: Passed


class _Judged(NamedTuple):
    """What was said of an interval before it was learned from."""

    trained: Fit | None
    best: Fit | None
    compared: Compared | None = None
    candidate: Phoenix | None = None
    reason: str = ""


class _State(Struct):
    """What a run on disk holds beside the trainer; `seen` are fingerprints of examples, u64 each, the oldest first."""

    serving: str
    best: str
    intervals: int
    verdict: Verdict
    from_ms: int
    to_ms: int
    after_ms: int
    position: dict[str, Any]
    seen: bytes
    rehearsed: list[tuple[int, Part]] = []


class ContinuousTrainer:
    """Learns from examples as they come, an interval at a time, and publishes into a registry.

    It starts from `start`, else from the registry's newest model, else from fresh weights. The registry's newest model
    counts as the best one at first; where the registry is empty, `start` becomes its first entry. Examples that the
    registry's newest model may have learned from are too late: those up to the end of its span.

    The same examples in the same order give the same models, to the bit, also across `save` and `resumed`.
    """

    def __init__(
        self,
        registry: Registry,
        config: PhoenixConfig,
        settings: LearningSettings,
        start: Phoenix | None = None,
        seed: int = 0,
    ) -> None:
        """Raises CheckpointRefused where the registry can't be read, or holds models of another configuration."""
        self._registry, self._config, self._settings = registry, config, settings
        newest = registry.latest()
        self._best = registry.load(newest) if newest is not None else start
        self._serving = "" if self._best is None else self._best.version
        for phoenix in (self._best, start):
            if phoenix is not None and phoenix.config != config:
                raise CheckpointRefused(
                    f"model {phoenix.version} has another configuration than is to be trained: name another registry,"
                    " or the preset that it was trained with"
                )
        if newest is None and start is not None:
            registry.publish(start, _facts_of(start))
        # The first entry is what learning began with, of another time and maybe another world.
        self._after_ms = newest.facts.to_ms + 1 if newest is not None and newest.facts.parent else 0
        training = settings.training(retrieval=not config.retrieval_causal)
        self._trainer = Trainer(config, seed, training, start or self._best)
        self._verdict = Verdict.open()
        self._rehearsal = Rehearsal(settings.rehearsed, seed)
        self._waiting: list[Example] = []
        self._seen: dict[int, None] = {}
        self._passed = Passed()
        self._intervals = 0
        self._from_ms = 0  # of all that was learned from, as is _to_ms
        self._to_ms = 0

    @property
    def passed(self) -> Passed:
        """What was passed over since the last interval."""
        return self._passed

    @property
    def waiting(self) -> int:
        """How many examples wait for their interval to be full."""
        return len(self._waiting)

    def take(self, examples: Sequence[Example], forgotten: Container[int] = frozenset()) -> list[Interval]:
        """Take in examples, roughly in order of time; return the intervals that they filled.

        Nothing of the viewers of `forgotten` (keys) is learned from again.

        Raises TrainingRefused after a thousand steps in a row that are not finite, CheckpointRefused, and OSError.
        """
        found = []
        for example in examples:
            cut = self._cut(example)
            if self._is_usable(cut) and self._is_new(example):
                self._waiting.append(cut)
            if len(self._waiting) == self._settings.interval_examples:
                self._rehearsal.forget(forgotten)
                found.append(self._interval())
        return found

    def _cut(self, example: Example) -> Example:
        """Return an example with as many posts as a batch has room for; those seen alone, where the settings say so."""
        most = min(len(example.posts), self._settings.posts_max)
        if self._settings.seen_only:
            most = min(most, int(np.flatnonzero(example.actions).max(initial=-1)) + 1)
        if most == len(example.posts):
            return example
        posts = example.posts.take(slice(0, most))
        return replace(example, posts=posts, actions=example.actions[:most], dwell_s=example.dwell_s[:most])

    def save(self, path: Path, position: dict[str, Any]) -> None:
        """Write all that the trainer holds, and the caller's position in its input (plain data), as one file.

        Examples that it learns from again lie in a folder of that name with REHEARSED behind.
        To be called where nothing waits, after an interval: raises ValueError else, and OSError.
        """
        if self._waiting:
            raise ValueError(f"{len(self._waiting)} examples wait, which would be lost")
        seen = np.fromiter(self._seen, "<u8", len(self._seen)).tobytes()
        best = "" if self._best is None else self._best.version
        state = _State(
            serving=self._serving,
            best=best,
            intervals=self._intervals,
            verdict=self._verdict,
            from_ms=self._from_ms,
            to_ms=self._to_ms,
            after_ms=self._after_ms,
            position=position,
            seen=seen,
            rehearsed=self._rehearsal.save(rehearsed := path.with_name(path.name + REHEARSED)),
        )
        save_run(path, self._trainer, {"learning": msgspec.to_builtins(state)})
        self._rehearsal.tidy(rehearsed)

    @classmethod
    def resumed(
        cls, path: Path, registry: Registry, config: PhoenixConfig, settings: LearningSettings
    ) -> tuple[Self, dict[str, Any]]:
        """Return the trainer of a run on disk and the position it was saved with.

        Raises CheckpointRefused for a file that is missing, damaged, of another version, or of other settings of
        learning, and where the model that it judged by is not in the registry.
        """
        found = cls(registry, config, settings)
        codebook = None if found._best is None else found._best.parameters.codebook
        found._trainer, facts = load_run(path, config, found._trainer.training, codebook)
        try:
            state = msgspec.convert(facts["learning"], _State)
        except (KeyError, msgspec.ValidationError):
            raise CheckpointRefused(f"{path}: it is no run of `learn`, or of another version: begin anew") from None
        found._best = registry.load(registry.entry(state.best)) if state.best else None
        found._serving = state.serving
        found._intervals, found._verdict = state.intervals, state.verdict
        found._from_ms, found._to_ms, found._after_ms = state.from_ms, state.to_ms, state.after_ms
        found._rehearsal = Rehearsal(settings.rehearsed, found._trainer.seed)
        found._rehearsal.load(path.with_name(path.name + REHEARSED), state.rehearsed)
        found._seen = dict.fromkeys(np.frombuffer(state.seen, "<u8").tolist())
        return found, state.position

    def _is_usable(self, example: Example) -> bool:
        """Return whether an example says anything; count it where not."""
        numbers = (example.dwell_s, example.context.history.dwell_s)
        usable = len(example.posts) > 0 and all(np.isfinite(column).all() for column in numbers)
        self._passed.unusable += not usable
        return usable

    def _is_new(self, example: Example) -> bool:
        """Return whether an example is neither late nor known; count it where it is."""
        context, posts = example.context, example.posts.post
        if context.at_ms < self._after_ms:
            self._passed.late += 1
            return False
        named = f"{context.key} {context.at_ms} {context.surface}".encode() + posts.astype("<u8").tobytes()
        fingerprint = int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "little")
        if fingerprint in self._seen:
            self._passed.twice += 1
            return False
        self._seen[fingerprint] = None
        # Never fewer than wait: one that comes twice within an interval is learned once whatever is remembered.
        while len(self._seen) > max(self._settings.remembered, self._settings.interval_examples):
            del self._seen[next(iter(self._seen))]
        return True

    def _interval(self) -> Interval:
        """Judge, publish, learn, in this order."""
        made = sorted(self._waiting, key=lambda one: (one.context.at_ms, one.context.key))
        self._waiting = []
        times = [one.context.at_ms for one in made]
        given = list(batches(made, self._settings.examples_a_step, self._config.groups_read, self._settings.posts_max))
        positives = sum(int(((one.label_actions & PROBABILITY_BITS) != 0).sum()) for one in given)
        judged = self._judge(given, positives)
        published = self._publish(judged) if judged.candidate is not None else None
        skipped = self._trainer.report().skipped
        self._learn(made, given)
        del self._trainer.losses[:-LOSSES_KEPT]
        self._from_ms, self._to_ms = min(self._from_ms or times[0], times[0]), max(self._to_ms, times[-1])
        # From the middle of the times, which a wrong clock can't move far.
        self._after_ms = max(self._after_ms, times[len(times) // 2] - self._settings.order_s * 1000)
        report, passed = self._trainer.report(), self._passed
        self._passed, self._intervals = Passed(), self._intervals + 1
        return Interval(
            number=self._intervals,
            from_ms=times[0],
            to_ms=times[-1],
            examples=len(made),
            rows=sum(int(one.valid.sum()) for one in given),
            positives=positives,
            trained=judged.trained,
            best=judged.best,
            compared=judged.compared,
            published=published,
            reason=judged.reason,
            ranker_loss=report.ranker_loss,
            retrieval_loss=report.retrieval_loss,
            skipped_steps=report.skipped - skipped,
            passed=passed,
        )

    def _learn(self, made: list[Example], given: list[ExampleBatch]) -> None:
        """Learn from an interval once, and in further passes from what was there before, or from it again."""
        settings, number = self._settings, self._intervals + 1
        self._trainer.learn(given)
        if not settings.rehearsed:
            for _ in range(settings.passes - 1):
                self._trainer.learn(given)
            return
        self._rehearsal.add(made)
        again = self._rehearsal.drawn(number, (settings.passes - 1) * len(made))
        self._trainer.learn(batches(again, settings.examples_a_step, self._config.groups_read, settings.posts_max))

    def _judge(self, given: list[ExampleBatch], positives: int) -> _Judged:
        """Return what both models foretold of batches, and the model to publish, if any."""
        best = None if self._best is None else self._foretold(self._best, given)
        before = None if best is None else best.fit
        if self._trainer.learned is None:
            return _Judged(before, before, reason="nothing was learned yet")
        try:
            candidate = self._trainer.phoenix(self._origin())
        except ValueError as error:
            return _Judged(None, before, reason=f"the model can't be kept: {error}")
        if candidate.version == self._serving:
            return _Judged(before, before, reason="nothing new was learned")
        trained = self._foretold(candidate, given)
        if best is None:
            return _Judged(trained.fit, None, candidate=candidate)
        self._verdict.take(best, trained, positives)
        compared = self._verdict.compared
        reason, settled = self._verdict.against(self._settings)
        if settled:
            self._verdict = Verdict.open()
        return _Judged(trained.fit, before, compared, None if reason else candidate, reason)

    def _foretold(self, phoenix: Phoenix, given: list[ExampleBatch]) -> Foretold:
        learned, training = self._trainer.learned, self._trainer.training
        heads = np.ones(PROBABILITY_HEADS, np.float32) if learned is None else np.asarray(learned.head_weights)
        return foretold(phoenix, given, heads, training.retrieval)

    def _publish(self, judged: _Judged) -> Entry:
        """Publish the model that was judged; where it is no worse than the best one, it is the best one from now on."""
        candidate, fit, compared = judged.candidate, judged.trained, judged.compared
        assert candidate is not None
        assert fit is not None
        metrics = {"loss": fit.loss, "retrieval_loss": fit.retrieval_loss}
        metrics |= {f"auc.{action}": value for action, value in fit.auc.items()}
        metrics |= {f"calibration_error.{action}": value for action, value in fit.calibration_error.items()}
        metrics |= {} if compared is None else {"worse": compared.ranker, "retrieval_worse": compared.retrieval}
        facts = Facts(
            at=self._to_ms,
            from_ms=candidate.origin.from_ms,
            to_ms=candidate.origin.to_ms,
            examples=candidate.origin.examples,
            steps=candidate.origin.steps,
            parent=self._serving,
            training=msgspec.to_builtins(self._trainer.training),
            metrics=metrics,
        )
        if self._best is None or compared is None or compared.ranker <= 0:
            self._best = candidate
        # The best one stays, or a run could not go on from its state.
        entry = self._registry.publish(candidate, facts, keeping={self._serving, self._best.version})
        self._serving = candidate.version
        return entry

    def _origin(self) -> Origin:
        trainer = self._trainer
        return Origin(
            command=COMMAND,
            from_ms=self._from_ms,
            to_ms=self._to_ms,
            examples=trainer.examples // self._settings.passes,
            steps=trainer.taken,
            seed=trainer.seed,
        )


def _facts_of(start: Phoenix) -> Facts:
    """Return what a model that learning begins with says of itself."""
    origin = start.origin
    return Facts(origin.to_ms, origin.from_ms, origin.to_ms, origin.examples, origin.steps)
