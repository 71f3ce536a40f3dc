"""People who read the feeds that come: what they do with each post, and when, by the rates of the simulated world.

Looks are drawn before the run, some for each degree of liking, so that a feed costs the generator no more than a few
draws. A person looks at one post after the other, goes on to the next by the world's chance and acts as they look.
"""

from typing import Final, NamedTuple

import numpy as np

from benchmarks.kafka.worlds import Posts
from infra.world.acting import LOOKS_ON, NOTED_S, STARTS_AFTER_MS, WRITING_MS
from infra.world.parameters import WorldParameters
from infra.world.people import make_people
from infra.world.phrases import TOPICS
from infra.world.rates import DWELL_S_MAX, DWELL_SIGMA, DWELLED_S, Floats, Shown, action_probabilities, dwell_mu
from schemas.actions import ACTIONS, Action

# Kinds of taste; viewers have them in turn.
TASTES: Final = 400
# Looks drawn for each degree of liking, which are a twentieth apart.
LOOKS: Final = 2_000
DEGREES_OF_ONE: Final = 20
QUALITY_SIGMA: Final = 0.6  # of posts, as the world's rates say
_LOOKING: Final = [place for place, action in enumerate(ACTIONS) if action not in {"dwell", "dwell_time"}]


class Act(NamedTuple):
    """What is done with a post, so many seconds after it came on the screen; seconds looked at it for dwell times."""

    after_s: float
    action: Action
    dwell_s: float = 0.0


class Look(NamedTuple):
    """A look at a post: what is done, and after how many seconds the next post comes on the screen."""

    acts: tuple[Act, ...]
    lasts_s: float


class Readers:
    """The people of a run. `pace` is how much sooner everything happens than people do it: 1 is as they do."""

    def __init__(self, posts: int, pace: float, rng: np.random.Generator) -> None:
        """`posts` is how many the world has whose topics are known; others leave everybody cold."""
        self._rng, self._pace = rng, pace
        parameters = WorldParameters(people=TASTES)
        self._tastes = make_people(parameters, np.random.default_rng(parameters.seed)).tastes
        self._focus = parameters.focus
        world = Posts(posts)
        names = {topic.name: place for place, topic in enumerate(TOPICS)}
        self._topic = np.array([names[name] for name in world.topics])[world.text]
        least = int(np.floor(self._tastes.min() * DEGREES_OF_ONE))
        self._looks = {one: self._drawn(one / DEGREES_OF_ONE) for one in range(least, DEGREES_OF_ONE + 1)}

    def read(self, viewer: int, posts: list[int], now_s: float) -> list[tuple[float, int, Act]]:
        """Return what a viewer does with a feed that comes now: when, with which post, what, in order of time."""
        taste = self._tastes[viewer % TASTES]
        liked = np.flatnonzero(taste > 0)
        focus = int(self._rng.choice(liked, p=taste[liked] / taste[liked].sum()))
        draws, goes_on = self._rng.integers(0, LOOKS, len(posts)), self._rng.random(len(posts)) < LOOKS_ON
        done, at_s = [], now_s + STARTS_AFTER_MS / 1000 / self._pace
        for post, draw, next_one in zip(posts, draws.tolist(), goes_on.tolist(), strict=True):
            look = self._looks[self._degree(post, taste, focus)][draw]
            done += [(at_s + act.after_s / self._pace, post, act) for act in look.acts]
            at_s += look.lasts_s / self._pace
            if not next_one:
                break
        return sorted(done, key=lambda one: one[0])

    def _degree(self, post: int, taste: Floats, focus: int) -> int:
        if not 0 < post <= len(self._topic):
            return 0
        topic = int(self._topic[post - 1])
        felt = (1 - self._focus) * float(taste[topic]) + self._focus * (topic == focus)
        return round(felt * DEGREES_OF_ONE)

    def _drawn(self, affinity: float) -> list[Look]:
        """Draw what people do with posts that they like to some degree."""
        rng = self._rng
        parameters = WorldParameters()
        nobody = np.zeros(LOOKS, np.bool_)
        shown = Shown(
            affinity=np.full(LOOKS, affinity),
            quality=rng.normal(0, QUALITY_SIGMA, LOOKS),
            followed=nobody,
            video_ms=np.where(rng.random(LOOKS) < parameters.video_share, 30_000, 0),
            photo=rng.random(LOOKS) < parameters.photo_share,
            quote=nobody,
            spam=nobody,
        )
        chances = action_probabilities(shown)
        seconds = np.minimum(rng.lognormal(dwell_mu(shown), DWELL_SIGMA), DWELL_S_MAX)
        acted = rng.random(chances.shape) < chances
        moments = rng.uniform(0.2, 0.95, chances.shape)
        return [self._look(float(seconds[one]), acted[one], moments[one]) for one in range(LOOKS)]

    @staticmethod
    def _look(look_s: float, acted: np.typing.NDArray[np.bool_], moments: Floats) -> Look:
        acts = [Act(look_s * float(moments[place]), ACTIONS[place]) for place in _LOOKING if acted[place]]
        if look_s >= NOTED_S:
            acts.append(Act(look_s, "dwell_time", round(look_s, 1)))
        if look_s >= DWELLED_S:
            acts.append(Act(look_s, "dwell"))
        writes = any(act.action in {"reply", "quote"} for act in acts)
        return Look(tuple(acts), look_s + writes * WRITING_MS[1] / 1000)
