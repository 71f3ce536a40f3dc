"""Parameters of author cold start."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class ColdStart(Struct, frozen=True, forbid_unknown_fields=True):
    """The chance of one post of an author with few followers."""

    enabled: Annotated[bool, meta("raise one post of an author with few followers", "1.6")] = True
    followers_max: Annotated[int, meta("the author's followers, if known, are at most so many", "1.6", ge=0)] = 1000
    views_max: Annotated[int, meta("the post was shown less often than this, if known", "1.6", ge=0)] = 1000
    rank_share: Annotated[
        float, meta("the post ranks in this share of the candidates whose score is not 0", "1.6", ge=0, le=1)
    ] = 0.85
    slot: Annotated[int, meta("places before the one whose score it is raised to", "1.6, the 16th", ge=0)] = 15
    age_s: Annotated[
        int, meta("older posts have no chance; 0 is any age, X's treatment arm has 86,400", "1.6", ge=0)
    ] = 0
    thompson: Annotated[bool, meta("draw the post by Thompson sampling", "1.6, off")] = False
    thompson_top: Annotated[int, meta("of so many with the highest draws the best-scored", "1.6", ge=1)] = 5
    thompson_likes: Annotated[float, meta("likes that a post is taken to have had before", "1.6", ge=0.001)] = 0.75
    thompson_others: Annotated[
        float, meta("views without a like that a post is taken to have had before", "1.6", ge=0.001)
    ] = 49.25
