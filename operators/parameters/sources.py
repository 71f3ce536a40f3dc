"""Parameters of the sources."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class Thunder(Struct, frozen=True, forbid_unknown_fields=True):
    """The in-network source."""

    enabled: Annotated[bool, meta("ask Thunder for candidates", "1.5 sources")] = True
    posts_max: Annotated[int, meta("posts returned", "2.2", ge=0, le=10_000)] = 1200
    videos_max: Annotated[int, meta("posts returned to a request for videos", "2.2", ge=0, le=10_000)] = 600
    followees_max: Annotated[int, meta("followed authors looked at", "2.2", ge=0, le=100_000)] = 10_000
    excluded_max: Annotated[int, meta("seen ids excluded at the source", "2.2", ge=0, le=100_000)] = 10_000
    originals_per_author: Annotated[int, meta("originals per author", "2.2", ge=0, le=5000)] = 50
    secondary_per_author: Annotated[int, meta("replies and reposts per author", "2.2", ge=0, le=5000)] = 30
    videos_per_author: Annotated[int, meta("videos per author", "2.2", ge=0, le=5000)] = 100
    scan_per_author: Annotated[int, meta("entries looked at per author and list", "2.2", ge=0, le=5000)] = 500


class Retrieval(Struct, frozen=True, forbid_unknown_fields=True):
    """The out-of-network source: the nearest posts to the viewer's embedding."""

    enabled: Annotated[bool, meta("ask the candidate index", "1.5 sources")] = True
    posts_max: Annotated[int, meta("posts returned", "1.5 sources", ge=0, le=10_000)] = 1000


class CoLikers(Struct, frozen=True, forbid_unknown_fields=True):
    """The source of what people who liked what the viewer liked also liked; for models and jobs that keep co-likers."""

    enabled: Annotated[bool, meta("ask co-likers for candidates", "not X's; loved elsewhere")] = True
    posts_max: Annotated[int, meta("posts returned", "not X's", ge=0, le=10_000)] = 400


class Topics(Struct, frozen=True, forbid_unknown_fields=True):
    """The source of requests for topics."""

    enabled: Annotated[bool, meta("bring posts on the topics a request asks for", "1.5 sources")] = True
    posts_max: Annotated[int, meta("posts returned", "as retrieval.posts_max", ge=0, le=10_000)] = 1000
    scan_max: Annotated[int, meta("newest posts among which they are sought", "not X's", ge=0)] = 20_000


class Fallback(Struct, frozen=True, forbid_unknown_fields=True):
    """Popular and fresh posts for whom the other sources have little."""

    enabled: Annotated[bool, meta("fall back on popular and fresh posts", "not X's")] = True
    below: Annotated[int, meta("candidates so far with which there is no need to", "not X's", ge=0)] = 100
    popular_max: Annotated[int, meta("popular posts returned", "not X's", ge=0, le=10_000)] = 200
    fresh_max: Annotated[int, meta("fresh posts returned", "not X's", ge=0, le=10_000)] = 200
    scan_max: Annotated[int, meta("newest posts among which both are sought", "not X's", ge=0)] = 20_000
