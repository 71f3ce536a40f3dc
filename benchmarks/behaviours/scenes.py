"""Made-up histories and candidates of the demo world's people, to ask a model what it makes of a few actions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from infra.world import PRESETS
from infra.world.parameters import DAY_MS, HOUR_MS
from infra.world.phrases import TOPICS
from infra.world.posts import SNOWFLAKE_EPOCH_MS, SNOWFLAKE_SHIFT, TextWriter
from infra.world.state import FIRST_PERSON_ID
from models.content import content_terms
from models.inputs import TERMS, Candidates, Context, History
from schemas.actions import ACTION_INDEX, COUNT_NAMES, COUNTED, SURFACE_HOME, VIEWER_COUNTS, Action

MINUTE_MS: Final = 60_000
GLANCE_S: Final = 3.0  # as long as people of the world look at what does not interest them
INTERESTED_S: Final = 9.0
EVENING_MS: Final = PRESETS["demo"].start_ms + 6 * DAY_MS + 19 * HOUR_MS
LANGUAGE: Final = "en"


@dataclass(frozen=True)
class Look:
    """What a viewer did with a post of a topic and an author at a time."""

    topic: int
    author: int
    terms: tuple[int, ...]
    at_ms: int
    dwell_s: float = GLANCE_S
    actions: tuple[Action, ...] = ()

    def doing(self, *actions: Action) -> "Look":
        """Return the same look with these actions beside it."""
        return replace(self, actions=actions)


class Scene:
    """One draw of a viewer, some topics and posts; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._writer = TextWriter(self.rng)
        self.viewer = self.author()
        self.topics: list[int] = self.rng.permutation(len(TOPICS)).tolist()

    def author(self) -> int:
        """Return one of the world's people."""
        return FIRST_PERSON_ID + int(self.rng.integers(PRESETS["demo"].people))

    def terms(self, topic: int) -> tuple[int, ...]:
        """Return the content terms of a new post of a topic."""
        return tuple(content_terms(self._writer.post(topic, photo=False), (TOPICS[topic].name,), LANGUAGE))

    def looks(
        self, topics: Sequence[int], last_ms: int, apart_ms: int = 10_000, dwell_s: float = GLANCE_S
    ) -> list[Look]:
        """Return looks at one post of each topic, by anybody, the last one at a time."""
        first_ms = last_ms - apart_ms * (len(topics) - 1)
        return [
            Look(topic, self.author(), self.terms(topic), first_ms + place * apart_ms, dwell_s)
            for place, topic in enumerate(topics)
        ]

    def anything(self, count: int, last_ms: int, apart_ms: int = 10_000) -> list[Look]:
        """Return glances at posts of any topics."""
        return self.looks(self.rng.integers(0, len(TOPICS), count).tolist(), last_ms, apart_ms)

    def earlier(self, now_ms: int) -> list[Look]:
        """Return what fills a history before today: a slate on each of two evenings."""
        return self.anything(16, now_ms - 2 * DAY_MS) + self.anything(16, now_ms - DAY_MS)

    def context(self, looks: Sequence[Look], now_ms: int, passed: int = 0) -> Context:
        """Return the viewer's context after some looks, oldest first; `passed` posts were shown after the last."""
        bits = [_bits(one.actions, one.dwell_s) for one in looks]
        at_ms = np.array([one.at_ms for one in looks], np.int64)
        history = History(
            post=np.array([_post_id(one.at_ms - HOUR_MS, place) for place, one in enumerate(looks)], np.uint64),
            author=np.array([one.author for one in looks], np.uint64),
            terms=np.array([one.terms for one in looks], np.uint16).reshape(-1, TERMS),
            actions=np.array(bits, np.uint32),
            dwell_s=np.array([one.dwell_s for one in looks], np.float32),
            surface=np.full(len(looks), SURFACE_HOME, np.uint8),
            at_ms=at_ms,
        )
        counts = np.zeros(VIEWER_COUNTS, np.uint32)
        counts[0] = len(looks)
        for place, name in enumerate(COUNT_NAMES[1:], 1):
            counts[place] = sum(any(action in COUNTED[name] for action in _acts(one)) for one in looks)
        counts[-1] = passed
        return Context(self.viewer, history, now_ms, SURFACE_HOME, counts)

    def candidates(
        self, topics: Sequence[int], now_ms: int, author: int | None = None, followed: bool = False
    ) -> Candidates:
        """Return new posts, one of each topic, by one author or by anybody."""
        count = len(topics)
        return Candidates(
            post=np.array([_post_id(now_ms - HOUR_MS, 1000 + place) for place in range(count)], np.uint64),
            author=np.array([author or self.author() for _ in range(count)], np.uint64),
            terms=np.array([self.terms(topic) for topic in topics], np.uint16).reshape(-1, TERMS),
            created_ms=np.full(count, now_ms - HOUR_MS, np.int64),
            followed=np.full(count, followed),
            has_video=np.zeros(count, np.bool_),
        )


def _acts(look: Look) -> tuple[Action, ...]:
    return (*look.actions, "dwell", "dwell_time") if look.dwell_s >= 10.0 else (*look.actions, "dwell_time")


def _bits(actions: tuple[Action, ...], dwell_s: float) -> int:
    every = {*actions, "dwell_time", *(("dwell",) if dwell_s >= 10.0 else ())}
    return sum(1 << ACTION_INDEX[action] for action in every)


def _post_id(created_ms: int, place: int) -> int:
    return (created_ms - SNOWFLAKE_EPOCH_MS) << SNOWFLAKE_SHIFT | place
