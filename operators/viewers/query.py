"""The query: everything the rest of the way needs to know of a request and its viewer."""

from dataclasses import dataclass, field

from models.inputs import Context
from operators.keys import Keys, no_keys
from operators.parameters import Parameters
from operators.viewers.relations import Relations
from schemas.events import FeedRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an input came from: its place in the log or on Kafka."""

    topic: str
    partition: int
    offset: int
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A feed request with its parameters resolved and the moment it was read (`time.perf_counter`, seconds)."""

    event: FeedRequest
    viewer: int
    parameters: Parameters
    origin: Origin
    read_at_s: float


@dataclass(slots=True)
class Query:
    """A hydrated request (x-algorithm.md 1.2 and 1.5, query hydrators).

    `seen` holds what clients said was seen, `engaged` what the action sequence shows was seen, `served` what was served
    of late (known from the slate on); all sorted. `degraded` collects the components that failed.
    """

    request: Request
    context: Context
    relations: Relations
    seen: Keys
    engaged: Keys
    served: Keys = field(default_factory=no_keys)
    degraded: list[str] = field(default_factory=list)

    @property
    def at_ms(self) -> int:
        """The request's own time."""
        return self.request.event.at

    @property
    def parameters(self) -> Parameters:
        """The job's parameters with this request's overrides."""
        return self.request.parameters

    @property
    def is_new_viewer(self) -> bool:
        """Whether the out-of-network factor for eligible new viewers holds (x-algorithm.md 1.5; off by default)."""
        scoring, created_ms = self.parameters.scoring, self.relations.account_created_ms
        return (
            created_ms is not None
            and self.at_ms - created_ms < scoring.new_viewer_age_s * 1000
            and len(self.relations.followed) >= scoring.new_viewer_follows_min
        )
