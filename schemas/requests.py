"""What a feed request may say only together; its fields one by one are checked as it is decoded."""

from typing import Final

from schemas.codec import Refused
from schemas.events import FeedRequest, InsertKind


def check_together(request: FeedRequest) -> None:
    """Raise Refused for a request whose fields don't go together."""
    scores = request.feed == "score_posts"
    if scores and not request.posts:
        raise Refused("a request to score posts names none", "$.posts")
    if request.posts and not scores:
        raise Refused(f"posts to score go with feed score_posts, not {request.feed}", "$.posts")
    if scores and request.limit is not None:
        raise Refused("every post asked for is answered: there is no limit to give", "$.limit")
    if scores and request.cursor:
        raise Refused("scores of posts have no pages", "$.cursor")
    if request.inserts:
        _check_inserts(request)


# Of these a feed has one.
SINGLE: Final[tuple[InsertKind, ...]] = ("prompt", "push_to_home", "survey")


def _check_inserts(request: FeedRequest) -> None:
    if request.feed != "blended":
        raise Refused(f"inserts go with feed blended, not {request.feed}", "$.inserts")
    kinds = [one.kind for one in request.inserts]
    several = next((kind for kind in SINGLE if kinds.count(kind) > 1), None)
    if several is not None:
        raise Refused(f"a feed has one {several}, not {kinds.count(several)}", "$.inserts")
    if len(set(request.inserts)) < len(request.inserts):
        raise Refused("the same ad twice", "$.inserts")
