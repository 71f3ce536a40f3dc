"""The feeds that can be asked for, each a list of the same components (x-algorithm.md 1.5, "Other surfaces")."""

from dataclasses import dataclass, replace
from typing import Final

from operators.parameters import Parameters
from operators.pipeline.filters import AT_THE_SLATE, PAGES, PRE_SCORING, Filter
from operators.pipeline.following import conversation_module, native_retweet_deduplication, self_reply_chain
from operators.pipeline.modules import MODULES, Blended
from operators.pipeline.scorers import SCORERS, Scorer
from operators.pipeline.selection import POST_SELECTION, PostSelection
from operators.pipeline.sources import IN_ORDER, REQUESTED_POSTS, THUNDER_POSTS, Source
from operators.viewers.query import Query
from schemas.events import FeedName


@dataclass(frozen=True, slots=True)
class Surface:
    """A feed: what it is in a sentence, and its components in order.

    One that is not `ranked` has no use for the model: newest first. One that is `each_alone` drops nothing and orders
    nothing: it says of every post what the components say of it, without those that look at other posts.
    """

    name: FeedName
    rule: str
    size: str
    sources: tuple[Source, ...]
    filters: tuple[Filter, ...]
    at_the_slate: tuple[Filter, ...] = AT_THE_SLATE
    post_selection: tuple[PostSelection, ...] = POST_SELECTION
    modules: tuple[Blended, ...] = ()
    ranked: bool = True
    each_alone: bool = False

    def scorers(self, parameters: Parameters) -> tuple[Scorer, ...]:
        """Return the scorers in order."""
        chain = SCORERS[parameters.scoring.value_model] if self.ranked else ()
        return tuple(one for one in chain if not self.each_alone or not one.compares_rows or one.operation == "is")

    def has(self, scorer: str, parameters: Parameters) -> bool:
        """Return whether a scorer runs."""
        return any(one.name == scorer and parameters.says(one.switch) for one in self.scorers(parameters))


def _of_these(*names: str) -> tuple[Filter, ...]:
    """Return filters of the For You feed by name, in its order."""
    return tuple(one for one in PRE_SCORING if one.name in names)


def _each_alone(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    return tuple(one for one in filters if not one.compares_rows)


FOLLOWING_FILTERS: Final = (
    *_of_these(
        "drop_duplicates",
        "core_data_hydration",
        "age",
        "ineligible_subscription",
        "viewer_muted_keyword",
        "author_socialgraph",
        "author_list",
        "video",
        "topic_ids",
    ),
    Filter(native_retweet_deduplication, "1.5 following", compares_rows=True),
    Filter(self_reply_chain, "1.5 following"),
    Filter(conversation_module, "1.5 following"),
)
# The rules of visibility; what else comes after selection compares posts.
VISIBILITY: Final = tuple(one for one in POST_SELECTION if one.name in ("visibility", "ancillary_visibility"))

FOR_YOU: Final = Surface(
    "for_you",
    "The best posts in and out of network, ranked by the model.",
    "selection.result_size",
    IN_ORDER,
    PRE_SCORING,
)
BLENDED: Final = replace(
    FOR_YOU,
    name="blended",
    rule="The For You feed with what stands between its posts: ads, prompts and surveys of the host, whom to follow.",
    modules=MODULES,
)
FOLLOWING_RANKED: Final = Surface(
    "following_ranked",
    "The best posts of the accounts the viewer follows, ranked as in For You.",
    "following.ranked_size",
    (THUNDER_POSTS,),
    PRE_SCORING,
)
FOLLOWING: Final = Surface(
    "following",
    "The posts of the accounts the viewer follows, newest first, without the model and whether served before or not.",
    "following.size",
    (THUNDER_POSTS,),
    FOLLOWING_FILTERS,
    at_the_slate=PAGES,
    post_selection=VISIBILITY,
    ranked=False,
)
SCORE_POSTS: Final = Surface(
    "score_posts",
    "The posts that the request names, each with its score and the rule that would drop it, as if it were alone.",
    "",
    (REQUESTED_POSTS,),
    _each_alone(PRE_SCORING),
    at_the_slate=_each_alone(AT_THE_SLATE),
    post_selection=VISIBILITY,
    each_alone=True,
)
SURFACES: Final[dict[str, Surface]] = {
    one.name: one for one in (FOR_YOU, BLENDED, FOLLOWING_RANKED, FOLLOWING, SCORE_POSTS)
}


def surface_of(query: Query) -> Surface:
    """Return the feed that a request asks for."""
    return SURFACES[query.request.event.feed]
