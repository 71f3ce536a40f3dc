"""What a feed request may say only together; its fields one by one are checked as it is decoded."""

from schemas.codec import Refused
from schemas.events import FeedRequest


def check_together(request: FeedRequest) -> None:
    """Raise Refused for a request whose fields don't go together."""
    scores = request.feed == "score_posts"
    if scores and not request.posts:
        raise Refused("a request to score posts names none", "$.posts")
    if request.posts and not scores:
        raise Refused(f"posts to score go with feed score_posts, not {request.feed}", "$.posts")
    if scores and request.limit is not None:
        raise Refused("every post asked for is answered: there is no limit to give", "$.limit")
