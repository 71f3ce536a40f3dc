"""The query: everything the rest of the way needs to know of a request and its viewer."""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from models.inputs import Context, History
from operators.cursors import Cursor, session_of
from operators.experiments import Exposures
from operators.keys import Keys, no_keys
from operators.parameters import Parameters
from operators.viewers.cached_slates import CachedSlate, Keep
from operators.viewers.relations import Relations
from operators.visibility import DEFAULT, ViewerRules
from schemas.events import FeedRequest
from schemas.polls import Headers

DEADLINE: Final = "deadline"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an input came from: its place in the log or on Kafka, and what came with it there."""

    topic: str
    partition: int
    offset: int
    raw: bytes = b""
    key: bytes | None = None
    published_ms: int = 0
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A feed request with its parameters resolved and the moment it was read (`time.perf_counter`, seconds).

    `partition` is that of the viewer. `deadline_ms` is the time after which it is answered from what is there, 0 for
    never; `shed` says that there are more requests than can be answered; `exposures` are the arms of experiments that
    the viewer is in; `cursor` says which page of a session is asked for.
    """

    event: FeedRequest
    viewer: int
    parameters: Parameters
    origin: Origin
    read_at_s: float
    partition: int = 0
    deadline_ms: int = 0
    shed: bool = False
    exposures: Exposures = ()
    cursor: Cursor | None = None

    @property
    def page(self) -> Cursor:
        """The page asked for: without a cursor, the first of a session."""
        return self.cursor or Cursor(session_of(self.viewer, self.event.request, self.event.at), 1)

    @property
    def bottom(self) -> bool:
        """Whether it is for more of the same feed."""
        return self.event.bottom or self.cursor is not None

    def is_late(self) -> bool:
        """Return whether its deadline has passed, by this machine's clock."""
        return 0 < self.deadline_ms < time.time() * 1000


@dataclass(slots=True)
class Query:
    """A hydrated request (x-algorithm.md 1.2 and 1.5, query hydrators).

    `seen` holds what clients said was seen, `engaged` what the action sequence shows was seen, `served` what was served
    of late, `shown` what earlier pages showed (both known from the slate on); all sorted. `visibility` are the rules as
    they are for such viewers. `degraded` collects the components that failed, `failed` the posts on which one did that
    takes them one by one. `slate` is what the request is answered from in place of sources and model, `keep` the
    promise to leave one. `history` is all that is kept of what the viewer did; where a taste changed, `context` holds
    what came after.
    """

    request: Request
    context: Context
    relations: Relations
    seen: Keys
    engaged: Keys
    history: History = field(default_factory=History.empty)
    served: Keys = field(default_factory=no_keys)
    shown: Keys = field(default_factory=no_keys)
    visibility: ViewerRules = field(default_factory=partial(DEFAULT.for_viewer, "", ()))
    degraded: list[str] = field(default_factory=list)
    failed: list[tuple[str, Keys]] = field(default_factory=list)
    slate: CachedSlate | None = None
    keep: Keep | None = None

    def failed_on(self, post: int) -> tuple[str, ...]:
        """Return the components that failed on a post, by key, in their order, each once."""
        return tuple(dict.fromkeys(component for component, posts in self.failed if post in posts))

    def begin(self) -> None:
        """Note among what is degraded that the request is past its deadline: asked once, so that no work is lost."""
        if self.request.is_late():
            self.degraded.append(DEADLINE)

    @property
    def late(self) -> bool:
        """Whether it was past its deadline when work on it began."""
        return DEADLINE in self.degraded

    @property
    def at_ms(self) -> int:
        """The request's own time."""
        return self.request.event.at

    @property
    def parameters(self) -> Parameters:
        """The job's parameters with this request's overrides."""
        return self.request.parameters

    @property
    def feed_size(self) -> int:
        """How many posts the feed is to have."""
        parameters = self.parameters
        sizes = {"following": parameters.following.size, "following_ranked": parameters.following.ranked_size}
        return self.request.event.limit or sizes.get(self.request.event.feed, parameters.selection.result_size)

    @property
    def selected_max(self) -> int:
        """How many posts are selected before the last filters: a longer feed keeps the head-room that top-K has."""
        selection = self.parameters.selection
        return max(selection.top_k, self.feed_size + selection.top_k - selection.result_size)

    @property
    def is_new_viewer(self) -> bool:
        """Whether the out-of-network factor for eligible new viewers holds (x-algorithm.md 1.5; off by default)."""
        scoring, created_ms = self.parameters.scoring, self.relations.account_created_ms
        return (
            created_ms is not None
            and self.at_ms - created_ms < scoring.new_viewer_age_s * 1000
            and len(self.relations.followed) >= scoring.new_viewer_follows_min
        )
