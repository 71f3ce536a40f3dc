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

# Looks at a post, short or long: who only looks has not acted, and passes the post over.
LOOKS: Final = frozenset({"dwell", "dwell_time"})

# What is counted of a post and of a viewer beside how often it was shown, or was shown posts: like actions together,
# since each of them alone is rare (x-algorithm.md 3.4 has five counts and does not name them). `dwell_time` says how
# long, which `dwell` counts already.
COUNTED: Final[dict[str, tuple[Action, ...]]] = {
    "favorite": ("favorite",),
    "reply": ("reply",),
    "repost": ("retweet", "quote"),
    "click": ("click", "photo_expand", "quoted_click"),
    "profile": ("profile_click", "follow_author"),
    "vqv": ("vqv",),
    "dwell": ("dwell",),
    "share": ("share", "share_via_dm", "share_via_copy_link"),
    "negative": ("not_interested", "block_author", "mute_author", "report"),
}
# The columns of counts, everywhere: impressions, then the kinds.
COUNT_NAMES: Final[tuple[str, ...]] = ("shown", *COUNTED)
COUNTS: Final = len(COUNT_NAMES)
# A viewer's have one more: the posts shown in this session since the last action that was more than a look.
VIEWER_COUNTS: Final = COUNTS + 1

# Product surfaces are numbers 0 to 15 (x-algorithm.md 3.4: home 1, gallery 10, ranked following 15).
SURFACES: Final = 16
SURFACE_HOME: Final = 1
