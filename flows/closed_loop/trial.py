"""An experiment among the people of a closed loop: arms side by side, looked at often, over at the first decision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from flows.experiments.analysis import Comparison, Rules, compare
from flows.experiments.arms import sums_by_arm
from flows.experiments.outcomes import Metric, Outcomes, ShownFeed, ShownPost
from flows.terminal import Refusal
from infra.world.parameters import DAY_MS, HOUR_MS
from operators.experiments import Experiments
from schemas.events import Engagement
from schemas.feeds import Feed

# Intervals hold however often one looks; four times a day is often enough to draw a line.
LOOK_MS: Final = 6 * HOUR_MS


class Look(Struct, frozen=True):
    """What was known of the arms on a day of the loop, from 0."""

    day: float
    comparison: Comparison


class Trial:
    """Watches one experiment: who is shown what in which arm, and what they do with it."""

    def __init__(self, experiments: Experiments, metric: Metric, start_ms: int) -> None:
        """Raises Refusal where there is not one experiment of two arms or more."""
        arms = experiments.arms
        if len(arms) != 1 or len(next(iter(arms.values()))) < 2:
            told = ", ".join(f"{name} ({', '.join(of)})" for name, of in arms.items()) or "none"
            raise Refusal(f"a closed loop takes one experiment of two arms or more, and the file has {told}")
        self.experiments = experiments
        self.looks: list[Look] = []
        ((self._name, self._arms),) = arms.items()
        self._rules = Rules(lower_is_better=metric.lower_is_better)
        self._start_ms = start_ms
        self._next_look_ms = start_ms + LOOK_MS
        self._outcomes = Outcomes(metric)
        self._feeds: list[ShownFeed] = []

    @classmethod
    def load(cls, path: Path, metric: str, start_ms: int) -> Self:
        """Return the trial of a file's experiment. Raises Refusal and ParameterRefused."""
        return cls(Experiments.load(path), Metric(metric), start_ms)

    @property
    def decided(self) -> bool:
        """Whether the last look told what to do about every arm."""
        return bool(self.looks) and self.looks[-1].comparison.decided

    def take_feed(self, feed: Feed) -> None:
        """Take a feed as its viewer gets it."""
        items = tuple(ShownPost(item.post, item.repost_of) for item in feed.items)
        self._feeds.append(ShownFeed(feed.at, feed.request, feed.viewer, items, feed.experiments))
        self._outcomes.show(feed.viewer, feed.at, feed.request, items)

    def take_acts(self, acts: Sequence[Engagement], now_ms: int) -> None:
        """Take what people did up to a time, and look where it is time to."""
        for act in acts:
            self._outcomes.take(act)
        if now_ms >= self._next_look_ms:
            self._next_look_ms = now_ms // LOOK_MS * LOOK_MS + LOOK_MS
            self.look(now_ms)

    def look(self, now_ms: int) -> None:
        """Look at the arms, the first of the file being the control; not before somebody is in each."""
        seen = {feed.experiments[self._name] for feed in self._feeds}
        if seen == set(self._arms):
            sums = sums_by_arm(self._feeds, self._outcomes.of, self._name, self._arms[0])
            self.looks.append(Look((now_ms - self._start_ms) / DAY_MS, compare(sums, self._rules)))
