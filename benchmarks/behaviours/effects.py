"""The behaviours that a For You model must show (2023-generation.md 6), as effects on paired histories.

Each behaviour draws many pairs of one viewer's history that differ in nothing but the actions named, and measures how
much likelier a favourite becomes, in logarithms: .1 is about a tenth likelier. `specific` effects are those on posts
that are like the ones acted on, less those on other posts, so that a viewer who merely gets livelier does not count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.behaviours.scenes import EVENING_MS, GLANCE_S, INTERESTED_S, MINUTE_MS, Look, Scene
from infra.world.parameters import DAY_MS, HOUR_MS
from models.inputs import Candidates, Context
from models.phoenix import Phoenix
from schemas.actions import ACTION_INDEX, Action

POSTS: Final = 8  # candidates a question is asked about
FAVORITE: Final = ACTION_INDEX["favorite"]
LIKED: Final[tuple[Action, ...]] = ("favorite",)

Floats = npt.NDArray[np.float64]
Effect = Callable[[Phoenix, Scene], float]


@dataclass(frozen=True)
class Behaviour:
    """One behaviour: its effect in a scene, which way it goes, and the least mean effect that the demo model shows.

    `least` 0 means that the demo model does not show it, and the page says so.
    """

    name: str
    said: str
    effect: Effect
    least: float
    sign: int = 1


def log_chance(phoenix: Phoenix, context: Context, candidates: Candidates) -> float:
    """Return the mean log probability of a favourite."""
    return float(np.log(phoenix.rank(context, candidates)[:, FAVORITE].astype(np.float64)).mean())


def _change(phoenix: Phoenix, before: Context, after: Context, on: Candidates, beside: Candidates | None) -> float:
    change = log_chance(phoenix, after, on) - log_chance(phoenix, before, on)
    if beside is None:
        return change
    return change - (log_chance(phoenix, after, beside) - log_chance(phoenix, before, beside))


def _others(scene: Scene, but: int) -> list[int]:
    return [topic for topic in scene.topics if topic != but][:POSTS]


def _acting(phoenix: Phoenix, scene: Scene, actions: tuple[Action, ...], by_author: bool) -> float:
    """Return the specific effect of an action on six posts of a topic (or by an author), each looked at either way."""
    topic = scene.topics[0]
    author = scene.author() if by_author else None
    now = EVENING_MS
    earlier = scene.earlier(now)
    looks = scene.looks([topic] * 6, now - MINUTE_MS, dwell_s=INTERESTED_S)
    if author is not None:
        about = scene.rng.integers(0, len(scene.topics), 6).tolist()
        looks = [
            Look(one, author, scene.terms(one), look.at_ms, INTERESTED_S)
            for one, look in zip(about, looks, strict=True)
        ]
    before = scene.context(earlier + looks, now)
    after = scene.context(earlier + [look.doing(*actions) for look in looks], now)
    if author is None:
        on, beside = scene.candidates([topic] * POSTS, now), scene.candidates(_others(scene, topic), now)
    else:
        topics = _others(scene, topic)
        on, beside = scene.candidates(topics, now, author), scene.candidates(topics, now)
    return _change(phoenix, before, after, on, beside)


def attraction_topic(phoenix: Phoenix, scene: Scene) -> float:
    """Six posts of a topic are liked, or only looked at as long."""
    return _acting(phoenix, scene, LIKED, by_author=False)


def attraction_author(phoenix: Phoenix, scene: Scene) -> float:
    """Six posts of an author are liked, or only looked at as long."""
    return _acting(phoenix, scene, LIKED, by_author=True)


def repulsion_topic(phoenix: Phoenix, scene: Scene) -> float:
    """Of six posts of a topic the viewer says "not interested", or looks at them as long and says nothing."""
    return _acting(phoenix, scene, ("not_interested",), by_author=False)


def repulsion_author(phoenix: Phoenix, scene: Scene) -> float:
    """An author is reported, muted and blocked after six posts, or these are only looked at as long."""
    return _acting(phoenix, scene, ("not_interested", "report", "mute_author", "block_author"), by_author=True)


def session_interest(phoenix: Phoenix, scene: Scene) -> float:
    """One topic every morning, another every evening, for three days: the former is asked for at eight and at eight."""
    morning, evening = scene.topics[:2]
    midnight = EVENING_MS - EVENING_MS % DAY_MS
    looks = []
    for day in (3, 2, 1):
        for topic, hour in ((morning, 8), (evening, 20)):
            at_ms = midnight - day * DAY_MS + hour * HOUR_MS
            looks += [look.doing(*LIKED) for look in scene.looks([topic] * 10, at_ms, dwell_s=INTERESTED_S)]
    asked = [scene.context(looks, midnight + hour * HOUR_MS) for hour in (20, 8)]
    on, beside = (scene.candidates([topic] * POSTS, EVENING_MS) for topic in (morning, evening))
    return _change(phoenix, asked[0], asked[1], on, beside)


def momentum_rises(phoenix: Phoenix, scene: Scene) -> float:
    """The last eight posts, of any topics, are all liked, or only looked at as long: the chance of any other post."""
    now = EVENING_MS
    earlier, looks = scene.earlier(now), scene.anything(8, now - MINUTE_MS)
    before = scene.context(earlier + looks, now)
    after = scene.context(earlier + [look.doing(*LIKED) for look in looks], now)
    return _change(phoenix, before, after, scene.candidates(scene.topics[:POSTS], now), None)


def momentum_falls(phoenix: Phoenix, scene: Scene) -> float:
    """Another twenty posts are shown and scrolled past, or are not shown: the chance of any other post."""
    now = EVENING_MS
    looks = scene.earlier(now) + scene.anything(8, now - MINUTE_MS)
    before, after = scene.context(looks, now), scene.context(looks, now, passed=20)
    return _change(phoenix, before, after, scene.candidates(scene.topics[:POSTS], now), None)


def context_switch(phoenix: Phoenix, scene: Scene) -> float:
    """After thirty likes of one topic yesterday, five posts of another are liked just now, or five more of the first.

    The effect is on new posts of the second topic, less that on new posts of the first.
    """
    old, new = scene.topics[:2]
    now = EVENING_MS
    earlier = [look.doing(*LIKED) for look in scene.looks([old] * 30, now - DAY_MS, dwell_s=INTERESTED_S)]
    stays, turns = (
        scene.context(
            earlier + [look.doing(*LIKED) for look in scene.looks([topic] * 5, now - MINUTE_MS, dwell_s=INTERESTED_S)],
            now,
        )
        for topic in (old, new)
    )
    on, beside = (scene.candidates([topic] * POSTS, now) for topic in (new, old))
    return _change(phoenix, stays, turns, on, beside)


def intent(phoenix: Phoenix, scene: Scene) -> float:
    """After a look at an author's profile the viewer follows the author, or does neither: the author's other posts."""
    now, author, topic = EVENING_MS, scene.author(), scene.topics[0]
    earlier = scene.earlier(now)
    look = Look(topic, author, scene.terms(topic), now - MINUTE_MS, INTERESTED_S)
    before = scene.context([*earlier, look], now)
    after = scene.context([*earlier, look.doing("profile_click", "follow_author")], now)
    posts = scene.candidates([topic] * POSTS, now, author)
    followed = type(posts)(
        posts.post, posts.author, posts.terms, posts.created_ms, np.ones(POSTS, np.bool_), posts.has_video
    )
    beside = scene.candidates(_others(scene, topic), now)
    on = log_chance(phoenix, after, followed) - log_chance(phoenix, before, posts)
    return on - (log_chance(phoenix, after, beside) - log_chance(phoenix, before, beside))


def glancing(phoenix: Phoenix, scene: Scene) -> float:
    """Six posts of a topic are looked at for long, or glanced at."""
    topic, now = scene.topics[0], EVENING_MS
    earlier, looks = scene.earlier(now), scene.looks([topic] * 6, now - MINUTE_MS)
    longer = [Look(one.topic, one.author, one.terms, one.at_ms, 4 * GLANCE_S) for one in looks]
    before, after = scene.context(earlier + looks, now), scene.context(earlier + longer, now)
    on, beside = scene.candidates([topic] * POSTS, now), scene.candidates(_others(scene, topic), now)
    return _change(phoenix, before, after, on, beside)


BEHAVIOURS: Final = (
    Behaviour("attraction", "likes of a topic raise posts like them", attraction_topic, 0.6),
    Behaviour("attraction", "likes of an author raise the author's posts", attraction_author, 0.03),
    Behaviour("attraction", "long looks at a topic raise posts like them", glancing, 0.2),
    Behaviour("repulsion", '"not interested" in a topic lowers posts like them', repulsion_topic, 0.4, -1),
    Behaviour("repulsion", "report, mute and block lower the author's posts", repulsion_author, 0.12, -1),
    Behaviour("session interest", "mornings' topic is likelier in the morning", session_interest, 0.15),
    Behaviour("momentum", "a streak of likes raises everything", momentum_rises, 0.03),
    Behaviour("momentum", "scrolling past lowers everything", momentum_falls, 0.02, -1),
    Behaviour("context switch", "five likes move the feed to another topic", context_switch, 0.3),
    Behaviour("intent", "profile click and follow raise the author", intent, 0.25),
)


def effects(phoenix: Phoenix, behaviour: Behaviour, pairs: int, seed: int = 0) -> Floats:
    """Return the effect of each of many pairs, float64[pairs]."""
    return np.array([behaviour.effect(phoenix, Scene(seed * 100_000 + pair)) for pair in range(pairs)])


def interval(values: Floats, samples: int = 1000) -> tuple[float, float, float]:
    """Return the mean of some effects, and the 95 % bootstrap interval of it."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (samples, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)
