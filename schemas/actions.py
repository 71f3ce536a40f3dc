"""The 19 actions of the January ranker, in the order of its outputs (x-algorithm.md 3.1)."""

from typing import Final, Literal, get_args

Action = Literal[
    "favorite",
    "reply",
    "retweet",
    "photo_expand",
    "click",
    "profile_click",
    "vqv",
    "share",
    "share_via_dm",
    "share_via_copy_link",
    "dwell",
    "quote",
    "quoted_click",
    "follow_author",
    "not_interested",
    "block_author",
    "mute_author",
    "report",
    "dwell_time",
]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
ACTION_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(ACTIONS)}
NEGATIVE_ACTIONS: Final[frozenset[str]] = frozenset({"not_interested", "block_author", "mute_author", "report"})
# The only continuous output: seconds, not a probability.
DWELL_TIME: Final = ACTION_INDEX["dwell_time"]

# Product surfaces are numbers 0 to 15 (x-algorithm.md 3.4: home 1, gallery 10, ranked following 15).
SURFACES: Final = 16
SURFACE_HOME: Final = 1
