"""Parameters of the cached slate."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class CachedSlate(Struct, frozen=True, forbid_unknown_fields=True):
    """A viewer's best candidates of a moment ago, ranked again in place of all sources and the model."""

    enabled: Annotated[
        bool, meta("answer from the slate of a moment ago; off, as a restart loses it", "1.5, on at X")
    ] = False
    candidates_min: Annotated[int, meta("candidates that a slate must have to be used", "1.5", ge=0)] = 500
    kept_max: Annotated[int, meta("best candidates kept", "1.5", ge=0, le=10_000)] = 750
    ttl_s: Annotated[int, meta("how long a slate is used, by the times of requests", "1.5", ge=0)] = 180
    viewers_max: Annotated[
        int, meta("viewers with a slate, shared out among the partitions; some 64 KB each", "not X's", "job", ge=1)
    ] = 4096
