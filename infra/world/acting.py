"""What a simulated person does with a slate: looks at one post after the other, for a while, and acts as it happens."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.world.people import TOPIC_COUNT
from infra.world.posts import mixes
from infra.world.rates import (
    DWELL_QUALITY,
    DWELL_S_MAX,
    DWELL_SIGMA,
    DWELLED_S,
    INTENT,
    MOMENTUM,
    NEGATIVE,
    PROBABILITY_MAX,
    QUALITY,
    Floats,
    Shown,
    action_probabilities,
    affinity,
    dwell_mu,
    tired,
)
from infra.world.state import World
from schemas.actions import ACTION_INDEX, ACTIONS, Action
from schemas.events import Block, Engagement, Mute

LOOKS_ON: Final = 0.97  # chance to go on to the next post
NOTED_S: Final = 1.5  # a shorter look leaves no dwell time in the log
STARTS_AFTER_MS: Final = 400  # until the first post is on the screen
WRITING_MS: Final = (8_000, 60_000)  # for a reply or quote
UNDONE: Final = 0.01  # favourites taken back
UNFOLLOWS: Final = 0.3  # of those not interested in a post of an author they follow
# How far acting on a post lifts the streak, and passing one over lowers it: four acted on in a row take it from the
# middle to its end, some thirty passed over to the other. At one in eight, as is usual here, it stays where it is.
STREAK_RISES: Final = 0.25
STREAK_FALLS: Final = 0.035
# What counts as acting for the streak, and how much each adds to a post's popularity.
HEAT: Final = {"favorite": 1.0, "reply": 2.0, "retweet": 2.0, "quote": 2.0, "share": 1.0, "click": 0.2}
_WHILE_LOOKING: Final = tuple(name for name in ACTIONS if name not in {"dwell", "dwell_time", "follow_author"})
# Following is left out: it comes of a look at a profile, which counts already.
_POSITIVE: Final = frozenset(_WHILE_LOOKING) - set(NEGATIVE)
_POSITIVE_INDEX: Final = [ACTION_INDEX[name] for name in ACTIONS if name in _POSITIVE]
_PROFILE_CLICK: Final = ACTION_INDEX["profile_click"]
_FOLLOW: Final = ACTION_INDEX["follow_author"]


class Acting:
    """Draws what people do from the stated probabilities and logs it."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng
        self._momentum: dict[int, float] = {}
        self._shown_before: dict[int, npt.NDArray[np.int64]] = {}

    def act(self, person: int, at: int, rows: list[int], focus: int, is_first: bool) -> tuple[int, int]:
        """Let a person go through a slate shown at `at`; return the time of the last act, and how many were looked at.

        Streaks end with sessions, and so does what somebody is tired of. A repost is looked at as its original: what is
        done is done to the repost, but to follow, block or mute is to do it to who wrote the original.
        """
        rng = self._rng
        if is_first:
            self._shown_before.pop(person, None)
        shown = self._shown(person, at, np.array(rows, np.int64), focus)
        chances = action_probabilities(shown)
        usual = dwell_mu(shown)
        seconds = np.minimum(rng.lognormal(usual, DWELL_SIGMA), DWELL_S_MAX)
        draws = rng.random(chances.shape)
        moments = np.sort(rng.uniform(0.2, 0.95, chances.shape), axis=1)
        # Most posts get no action whatever the streak: they need no closer look.
        is_possible = np.any(draws < chances * math.exp(MOMENTUM), axis=1)
        momentum = 0.0 if is_first else self._momentum.get(person, 0.0)
        now = at + STARTS_AFTER_MS
        told: list[tuple[int, float]] = []  # of each look: positive actions, and what the streak makes of their chances
        for place, row in enumerate(rows):
            looked_ms = 1 + int(seconds[place] * 1000)
            acted = self._acts(chances[place], draws[place], momentum) if is_possible[place] else []
            told.append((len(_POSITIVE & set(acted)), math.exp(MOMENTUM * momentum)))
            for action in acted:
                self._do(person, now + int(looked_ms * moments[place, ACTION_INDEX[action]]), row, action)
            now += looked_ms
            if seconds[place] >= NOTED_S:
                self._log(person, now, row, "dwell_time", dwell_s=round(float(seconds[place]), 1))
            if seconds[place] >= DWELLED_S:
                self._log(person, now, row, "dwell")
            moved = STREAK_RISES if any(action in HEAT for action in acted) else -STREAK_FALLS
            momentum = min(max(momentum + moved, -1.0), 1.0)
            if {"reply", "quote"} & set(acted):
                now += WRITING_MS[1]
            if rng.random() >= LOOKS_ON:
                break
        self._momentum[person] = momentum
        self._tell(rows[: len(told)], shown.quality, np.log(seconds) - usual, chances, told)
        return now, len(told)

    def _tell(
        self, rows: list[int], quality: Floats, above: Floats, chances: Floats, told: list[tuple[int, float]]
    ) -> None:
        """Let what n looks say of the posts' quality be known: ln seconds and actions against those at quality 0."""
        looks, actions = len(rows), np.array([count for count, _ in told], np.int64)
        lifted = np.array([lift for _, lift in told])
        quality = quality[:looks]
        expected = chances[:looks, _POSITIVE_INDEX].sum(1) * lifted * np.exp(-QUALITY * quality)
        originals, first = np.unique(self._world.posts.rows["original"][rows].astype(np.int64), return_index=True)
        above = above[:looks] + DWELL_QUALITY * quality
        self._world.looks.take(originals, above[first], actions[first], expected[first])

    def shown_before(self, person: int) -> npt.NDArray[np.int64]:
        """Return how many posts of each topic a person's session has shown so far, int64[T]."""
        return self._shown_before.get(person, np.zeros(TOPIC_COUNT, np.int64))

    def _shown(self, person: int, at: int, rows: npt.NDArray[np.int64], focus: int) -> Shown:
        world = self._world
        posts = world.posts.rows[world.posts.rows["original"][rows]]
        tastes = world.tastes.at(np.full(rows.size, person), np.full(rows.size, at))
        attention = np.zeros((rows.size, TOPIC_COUNT))
        attention[:, focus] = 1.0
        follows = world.follows[person]
        topics = posts["primary"].astype(np.int64)
        earlier = np.tril(topics[:, None] == topics, -1).sum(1) + self.shown_before(person)[topics]
        self._shown_before[person] = self.shown_before(person) + np.bincount(topics, minlength=TOPIC_COUNT)
        felt = affinity(tastes, mixes(posts), attention, world.parameters.focus)
        return Shown(
            affinity=tired(felt, earlier, world.parameters.fatigue),
            quality=posts["quality"],
            followed=np.array([author in follows for author in posts["author"].tolist()], np.bool_),
            video_ms=posts["video_ms"].astype(np.int64),
            photo=posts["photo"],
            quote=posts["quote"],
            spam=posts["spam"],
        )

    def _acts(self, chances: Floats, draws: Floats, momentum: float) -> list[Action]:
        """Return the actions one post gets: positive ones by the streak, following by a look at the profile."""
        lifted = chances * math.exp(MOMENTUM * momentum)
        acted: list[Action] = []
        for action in _WHILE_LOOKING:
            index = ACTION_INDEX[action]
            chance = chances[index] if action in NEGATIVE else min(lifted[index], PROBABILITY_MAX)
            if draws[index] < chance:
                acted.append(action)
        if lifted[_FOLLOW] > 0.0:
            follow = lifted[_FOLLOW] / (1.0 + (INTENT - 1.0) * chances[_PROFILE_CLICK])
            if draws[_FOLLOW] < (INTENT * follow if "profile_click" in acted else follow):
                acted.append("follow_author")
        return acted

    def _do(self, person: int, at: int, row: int, action: Action) -> None:
        """Log an action and what comes of it in the world."""
        world, rng = self._world, self._rng
        original = int(world.posts.rows["original"][row])
        author = int(world.posts.rows["author"][original])
        world.heat[original] += HEAT.get(action, 0.0)
        if action in {"reply", "quote"}:
            at += int(rng.integers(*WRITING_MS))
        self._log(person, at, row, action)
        if action in {"reply", "retweet", "quote"}:
            world.respond(person, at, original, action)
        elif action == "favorite" and rng.random() < UNDONE:
            self._log(person, at + 2_000, row, action, undo=True)
        elif action == "follow_author" and author not in world.follows[person]:
            world.follow(person, author, at)
        elif action in {"block_author", "mute_author"}:
            world.barred[person].add(author)
            if action == "block_author":
                world.barred[author].add(person)
            kind = Block if action == "block_author" else Mute
            world.events.append(kind(at, world.people_ids[person], world.people_ids[author]))
        leaves = action in {"block_author", "report"} or (action == "not_interested" and rng.random() < UNFOLLOWS)
        if leaves and author in world.follows[person]:
            world.follow(person, author, at + 1_000, undo=True)

    def _log(self, person: int, at: int, row: int, action: Action, dwell_s: float = 0.0, undo: bool = False) -> None:
        world = self._world
        author = world.people_ids[world.posts.rows["author"][row]]
        world.events.append(
            Engagement(at, world.people_ids[person], world.posts.ids[row], action, author, dwell_s, undo=undo)
        )
