"""Parameters of the feeds beside For You."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class Following(Struct, frozen=True, forbid_unknown_fields=True):
    """The feeds of followed accounts alone."""

    ranked_size: Annotated[
        int, meta("posts in a ranked feed of those followed", "1.5 other surfaces", ge=1, le=200)
    ] = 38
    size: Annotated[int, meta("posts in the feed of those followed, newest first", "1.5 following", ge=1, le=200)] = 110
