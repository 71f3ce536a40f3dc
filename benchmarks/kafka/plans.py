"""What the generator is told and what it tells: one file each way."""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

POSTS_PER_AUTHOR: Final = 10  # 1 M live posts are of 100,000 authors, as in benchmarks/thunder.py

Seconds = npt.NDArray[np.float64]
Arrivals = Literal["even", "random"]


class Bulk(Struct, frozen=True):
    """Engagements, a share of them new posts, at a rate for a time; seconds count from the plan's beginning."""

    rate_hz: float
    from_s: float
    to_s: float
    posts_share: float = 0.0


class Plan(Struct, frozen=True):
    """A run of the generator.

    Requests come from viewers 1 to `asking` at `requests_hz`, evenly or as a Poisson process. `effects`: each request
    begins a trial of how soon a like takes effect instead (`effects.py`). With a `pace` above 0 people read the feeds
    that come and act on them (`readers.py`), so many times as fast as people do.
    """

    address: str
    prefix: str
    duration_s: float
    requests_hz: float
    asking: int
    viewers: int
    posts: int
    parameters: dict[str, bool | int | float | str] = {}
    bulk: tuple[Bulk, ...] = ()
    arrivals: Arrivals = "even"
    effects: bool = False
    pace: float = 0.0
    seed: int = 0


class Told(Struct):
    """What came of a run, one row a request: seconds from the plan's beginning, NaN for what never came.

    `due` is when it was to be sent, from which latencies count. `ranked` counts the candidates ranked. Of trials of
    effects, `due` is when the like was sent, `received` when a feed first showed its effect, `tries` how many were
    asked for.
    """

    due: Seconds
    sent: Seconds
    received: Seconds
    ranked: Seconds
    whole: Seconds  # 1 for a feed that lacks nothing, 0 for one degraded, late or shed
    tries: Seconds
    start_s: float  # Unix time of the plan's beginning
    bulk_sent: int  # all that is no request
    bulk_late_s: float  # the most that a bulk message left behind its time
    cpu_s: float
    feed_bytes: float
    unchanged: float  # of trials without a like: the share whose feed stayed as it was


COLUMNS: Final = ("due", "sent", "received", "ranked", "whole", "tries")


def write(path: Path, told: Told) -> None:
    """Write what came of a run."""
    np.savez(path, **msgspec.structs.asdict(told))


def read(path: Path) -> Told:
    """Read what came of a run."""
    with np.load(path) as found:
        values: dict[str, Any] = {name: found[name] if name in COLUMNS else found[name].item() for name in found.files}
    return Told(**values)
