"""What flows out: feeds, what they explain, and dead letters."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.actions import Action
from schemas.events import FeedName, TimeMs
from schemas.ids import Id

ModuleKind = Literal["ad", "prompt", "push_to_home", "survey", "who_to_follow"]


class StageCount(Struct, frozen=True):
    """What one stage was given and what it kept."""

    stage: str
    given: int
    kept: int


class ScoreStep(Struct, frozen=True):
    """What one scorer did: after it the score is `value`, at least `value`, or `value` times what it was."""

    name: str
    operation: Literal["is", "at_least", "times"]
    value: float


class ScoreExplanation(Struct, frozen=True, omit_defaults=True):
    """How a score came about.

    The contributions, summed in order, give `weighted`; the steps, taken in order, turn that into the score of the
    item: exactly, to the last bit (x-algorithm.md 1.3, 1.5). `head_maxima` are the largest probabilities that any of
    the request's candidates had (2023-generation.md 1); `failed` names the components that failed on this post, which
    left it as it was.
    """

    probabilities: dict[str, float]
    contributions: dict[str, float]
    weighted: float
    steps: tuple[ScoreStep, ...]
    rank_before: Annotated[int, Meta(description="rank by the value model alone among all scored, from 1")]
    head_maxima: dict[str, float] = {}
    failed: tuple[str, ...] = ()


class FeedItem(Struct, frozen=True, omit_defaults=True):
    """One post of a feed. `why` says in words why it is there; `counts` how often it was acted on so far, if known.

    An `interstitial` is the notice to show in the post's place, until the viewer wants to see it; `dropped_by` is the
    stage that would drop it where posts are scored and none is dropped.
    """

    post: Id
    author: Id
    score: float
    source: str
    in_network: bool
    why: str
    repost_of: Id | None = None
    explanation: ScoreExplanation | None = None
    counts: dict[Action, int] = {}
    interstitial: str = ""
    dropped_by: str = ""


class Suggestion(Struct, frozen=True):
    """Somebody to follow, why, and the posts that speak for it, best first."""

    author: Id
    why: str
    posts: tuple[Id, ...]


class Module(Struct, frozen=True, omit_defaults=True):
    """What stands between the posts of a blended feed; `position` counts posts and modules together, from 0."""

    position: Annotated[int, Meta(ge=0)]
    kind: ModuleKind
    id: Id | None = None
    suggestions: tuple[Suggestion, ...] = ()


class Dropped(Struct, frozen=True):
    """The posts that one stage removed from a request."""

    stage: str
    rule: str
    posts: tuple[Id, ...]


class Feed(Struct, tag_field="kind", tag="feed", frozen=True, omit_defaults=True):
    """The answer to one request (topic feeds, key viewer).

    `experiments` says which arm of each the viewer is in. `degraded` names the components that failed and were passed
    over ("deadline" where there was no time for the model); `dropped` is given where the request asks to explain. A
    feed with an `error` has no posts. A request with this `cursor` gets the next page; where there is none, nothing is
    left to show.

    `feed` is the one asked for; of posts to score those are `unknown` that are not live. `modules` are what stands
    between the posts of the blended feed, by position.
    """

    at: TimeMs
    request: Id
    viewer: Id
    model: str
    items: tuple[FeedItem, ...]
    stages: tuple[StageCount, ...]
    experiments: dict[str, str] = {}
    degraded: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    error: str | None = None
    feed: FeedName = "for_you"
    unknown: tuple[Id, ...] = ()
    cursor: str | None = None
    modules: tuple[Module, ...] = ()

    @property
    def shown(self) -> tuple[Id, ...]:
        """The posts that it shows, what is pinned to its top first."""
        pinned = [one.id for one in self.modules if one.kind == "push_to_home" and one.id is not None]
        return (*pinned, *(item.post for item in self.items))


class PostCounts(Struct, tag_field="kind", tag="post_counts", frozen=True):
    """How often a post was acted on so far, by action, and `shown` in feeds (topic post-counts, key post).

    `at` is the time of the latest action or feed.
    """

    at: TimeMs
    post: Id
    counts: dict[Action, int]
    shown: int = 0


class ShadowScores(Struct, tag_field="kind", tag="shadow_scores", frozen=True, omit_defaults=True):
    """What several models say of one request's candidates, for comparison (topic shadow-scores, key viewer).

    `cluster` is the model that the request asked for, `ranked_by` the versions that ranked, `models` the version of
    each that answered; `failed` names those that did not. `scores` holds for each model and action, as
    `phoenix.prod.favorite`, a number for each of `posts`: the first of the `candidates` that were ranked.
    """

    at: TimeMs
    request: Id
    viewer: Id
    cluster: str
    ranked_by: str
    models: dict[str, str]
    candidates: int
    posts: tuple[Id, ...]
    scores: dict[str, list[float]]
    failed: tuple[str, ...] = ()


class DeadLetter(Struct, tag_field="kind", tag="dead_letter", frozen=True, omit_defaults=True):
    """An input that was refused: where it came from, why, and its bytes (base64 in JSON) (topic dead-letters).

    A message of Kafka has a key (base64 too) and a time beside them.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    path: str
    raw: bytes
    key: bytes | None = None
    published_ms: int = 0
