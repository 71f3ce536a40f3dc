"""What is remembered of each feed of a closed loop: who saw which posts, and what they were truly worth."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from flows.feed_worth import Floats
from flows.terminal import Refusal

Ints = npt.NDArray[np.int64]


class Judgement(Struct, frozen=True):
    """A feed's first posts [n] against the truth, and what others would have shown at that moment.

    `worth` is what the feed of each who chose would be worth. `predicted` and `true` are float64[n, 19]: what
    the model said of the posts shown, and what is true.
    """

    worth: dict[str, float]
    predicted: Floats
    true: Floats


class ShownFeed(Struct, frozen=True):
    """One feed: when, to which person (a row of the world), by which model; rows of its posts, reposts' originals."""

    at_ms: int
    person: int
    model: str
    posts: Ints
    judgement: Judgement | None


class Act(Struct, frozen=True):
    """Something done with a post: when, by whom (a row), what, and the row of the post."""

    at_ms: int
    person: int
    action: str
    post: int


@dataclass
class Lived:
    """What came of a closed loop: its feeds, what was done with them, and the models that took over, with when (ms)."""

    feeds: list[ShownFeed] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    models: list[tuple[int, str]] = field(default_factory=list)


class LoopRefused(Refusal):
    """A closed loop that can't go on; the message says why, and the way out where there is one."""
