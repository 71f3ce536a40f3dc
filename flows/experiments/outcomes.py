"""What viewers did with what they were shown: actions on posts of their feeds, within an hour."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from flows.terminal import Refusal
from schemas.actions import ACTIONS, NEGATIVE_ACTIONS
from schemas.events import Engagement
from schemas.ids import Id, key_of

# As in flows/evaluate.py: what comes later has other causes.
HORIZON_MS: Final = 3600 * 1000
# The continuous output by its unit; of all others it counts whether they happened.
DWELL: Final = "dwell_s"
METRICS: Final[tuple[str, ...]] = tuple(DWELL if name == "dwell_time" else name for name in ACTIONS)


@dataclass(frozen=True, slots=True)
class Metric:
    """What is counted of a post that was shown: 1 where the action was taken, or the seconds of `dwell_s`."""

    name: str

    def __post_init__(self) -> None:
        """Raises Refusal for what is no metric."""
        if self.name not in METRICS:
            raise Refusal(f"no metric is called {self.name}: choose one of {', '.join(METRICS)}")

    @property
    def action(self) -> str:
        """The action, as events and models name it."""
        return "dwell_time" if self.name == DWELL else self.name

    @property
    def lower_is_better(self) -> bool:
        """Whether viewers who do less of it are better off."""
        return self.name in NEGATIVE_ACTIONS


class ShownPost(Struct, frozen=True):
    """What is read of an item of a feed."""

    post: Id
    repost_of: Id | None = None


class ShownFeed(Struct, frozen=True):
    """What is read of a feed."""

    at: int
    request: Id
    viewer: Id
    items: tuple[ShownPost, ...]
    experiments: dict[str, str] = {}
    error: str | None = None


def read_feeds(path: Path) -> list[ShownFeed]:
    """Return the feeds of a replay's folder, or of a file of JSON Lines. Raises Refusal where there are none."""
    file = path / "feeds.jsonl" if path.is_dir() else path
    decoder = msgspec.json.Decoder(ShownFeed)
    feeds = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                feed = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise Refusal(f"{file}:{number} is no feed: {error}") from None
            if feed.error is None:
                feeds.append(feed)
    if not feeds:
        raise Refusal(f"{file} has no feeds: name the folder of a replay, or a file of the topic feeds")
    return feeds


@dataclass(slots=True)
class Outcomes:
    """By request, the posts of a feed that were acted on, by key, with the metric's value of each.

    An action counts for the latest feed of its viewer within an hour before that shows the post, or a repost of it; an
    action that comes again counts once, seconds add up. An undo takes nothing back: the viewer did it.
    """

    metric: Metric
    of: dict[Id, dict[int, float]] = field(default_factory=dict)
    _shown: dict[int, list[tuple[int, Id, dict[int, int]]]] = field(default_factory=dict)

    def show(self, viewer: Id, at_ms: int, request: Id, posts: Iterable[ShownPost]) -> None:
        """Note what was shown, in the order of the times for each viewer."""
        meant: dict[int, int] = {}
        for one in posts:
            meant.setdefault(key_of(one.post), key_of(one.post))
            if one.repost_of is not None:
                meant.setdefault(key_of(one.repost_of), key_of(one.post))
        self._shown.setdefault(key_of(viewer), []).append((at_ms, request, meant))

    def take(self, event: Engagement) -> None:
        """Take an engagement."""
        if event.action != self.metric.action or event.undo:
            return
        shown, post = self._shown.get(key_of(event.viewer), []), key_of(event.post)
        for at_ms, request, meant in reversed(shown[: bisect_right(shown, event.at, key=lambda one: one[0])]):
            if at_ms < event.at - HORIZON_MS:
                return
            if post in meant:
                values = self.of.setdefault(request, {})
                before = values.get(meant[post], 0.0)
                values[meant[post]] = before + event.dwell_s if self.metric.name == DWELL else 1.0
                return

    def posts(self) -> dict[Id, set[int]]:
        """Return the keys of what each request was shown."""
        return {request: set(meant.values()) for some in self._shown.values() for _, request, meant in some}
