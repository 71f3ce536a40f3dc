"""Parameters of selection and of serving."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class SlateDiversity(Struct, frozen=True, forbid_unknown_fields=True):
    """Caps at the top of the feed, from a proposal that X has not merged."""

    enabled: Annotated[bool, meta("keep an author from filling the top of a feed", "1.6 slate diversity")] = False
    per_author: Annotated[int, meta("posts of an author at the top", "1.6 slate diversity", ge=1)] = 2
    top: Annotated[int, meta("posts that are the top", "1.6 slate diversity", ge=1)] = 20
    look_ahead: Annotated[int, meta("places from which a post may come up", "1.6 slate diversity", ge=1)] = 10


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """How many go on."""

    candidates_max: Annotated[int, meta("candidates ranked per request", "1.5 scorers", ge=1, le=10_000)] = 2800
    top_k: Annotated[int, meta("posts selected before the last filters", "1.5 selector", ge=1, le=10_000)] = 50
    result_size: Annotated[int, meta("posts in a feed", "1.5", ge=1, le=200)] = 35


class Pagination(Struct, frozen=True, forbid_unknown_fields=True):
    """Pages of one feed, by cursor."""

    enabled: Annotated[bool, meta("give feeds the cursor of their next page", "1.5, bottom requests; not X's")] = True
    ttl_s: Annotated[int, meta("how long a session waits for its next page", "not X's", "job", ge=1)] = 1800
    sessions_max: Annotated[int, meta("sessions kept of a viewer, the newest", "not X's", "job", ge=1, le=64)] = 3
    shown_max: Annotated[
        int, meta("posts a session shows before it ends; 8 bytes each", "1.5, 2800 and some", "job", ge=200, le=10_000)
    ] = 3000


class Serving(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a request may take, where requests come from Kafka; a recorded log knows no hurry."""

    deadline_ms: Annotated[
        int, meta("a request published longer ago is answered without the model; 0 is never", "4", ge=0)
    ] = 1200
    wait_interval_ms: Annotated[
        int, meta("a queue not empty for so long is a standing one; 0 is never", "CoDel's, not X's", "job", ge=0)
    ] = 500
    wait_target_ms: Annotated[
        int, meta("of a standing queue, one published longer ago gets no model", "CoDel's, not X's", ge=1)
    ] = 100
    waiting_max: Annotated[
        int, meta("requests that may wait for the ranker; of more the oldest are shed", "4, as in flight", "job", ge=1)
    ] = 256
