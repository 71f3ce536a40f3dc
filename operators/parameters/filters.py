"""Parameters of the filters."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta, switch


class Filters(Struct, frozen=True, forbid_unknown_fields=True):
    """The filters, each with a switch of its name, and what they go by."""

    drop_duplicates: Annotated[bool, switch("1.5 row 1")] = True
    core_data_hydration: Annotated[bool, switch("1.5 row 2")] = True
    age: Annotated[bool, switch("1.5 row 3")] = True
    self_tweet: Annotated[bool, switch("1.5 row 4")] = True
    oon_retweet_reply: Annotated[bool, switch("1.5 row 5")] = True
    oon_nsfw_simclusters: Annotated[bool, switch("1.5 row 6")] = True
    retweet_deduplication: Annotated[bool, switch("1.5 row 7")] = True
    ineligible_subscription: Annotated[bool, switch("1.5 row 8")] = True
    previously_seen: Annotated[bool, switch("1.5 row 9")] = True
    previously_seen_backup: Annotated[bool, switch("1.5 row 10")] = True
    previously_served: Annotated[bool, switch("1.5 row 11")] = True
    shown_before: Annotated[bool, switch("1.5, bottom requests; not X's")] = True
    visible_first: Annotated[bool, switch("1.5, bottom requests; not X's")] = True
    viewer_muted_keyword: Annotated[bool, switch("1.5 row 12")] = True
    author_socialgraph: Annotated[bool, switch("1.5 row 13")] = True
    video: Annotated[bool, switch("1.5 row 15")] = True
    author_list: Annotated[bool, switch("1.5 row 14, in general")] = True
    topic_ids: Annotated[bool, switch("1.5 row 16")] = True
    new_user_min_engagement: Annotated[bool, switch("1.5 row 17")] = False
    inventory_holdout: Annotated[bool, switch("1.5 row 18")] = False
    fav_holdout: Annotated[bool, switch("1.5, [S]")] = False
    native_retweet_deduplication: Annotated[bool, switch("1.5 following")] = True
    self_reply_chain: Annotated[bool, switch("1.5 following")] = True
    conversation_module: Annotated[bool, switch("1.5 following")] = True
    visibility: Annotated[bool, switch("1.5 post-selection")] = True
    ancillary_visibility: Annotated[bool, switch("1.5 post-selection")] = True
    dedup_conversation: Annotated[bool, switch("1.5 post-selection")] = True
    originals_pass: Annotated[
        bool, meta("of a post and its retweets only retweets are dropped, as in January", "1.2 row 5")
    ] = False
    listed_authors: Annotated[
        tuple[str, ...], meta("authors kept from all who do not follow them, ids as text", "1.5 row 14, in general")
    ] = ()
    new_user_age_s: Annotated[int, meta("an account younger than this is new", "1.5 row 17", ge=0)] = 1800
    new_user_engagement_min: Annotated[
        int,
        meta("actions a post needs to be shown to a new account out of network", "1.5 row 17", ge=0),
    ] = 1
    holdout_percent: Annotated[int, meta("posts held out, of a hundred", "1.5 row 18", ge=0, le=100)] = 1
    holdout_percent_oon: Annotated[
        int, meta("posts held out from who does not follow the author", "1.5 row 18", ge=0, le=100)
    ] = 1
    age_s: Annotated[int, meta("older posts are dropped", "1.5 row 3", ge=0)] = 172_800
    served_every_request: Annotated[
        bool, meta("drop served posts on every request, not only at the bottom of the feed", "1.5 row 11")
    ] = True
    served_window_s: Annotated[int, meta("how long served posts are remembered", "1.5 row 11", "job", ge=0)] = 600
    served_max: Annotated[int, meta("how many served posts are remembered", "1.5 row 11", "job", ge=0)] = 100
    seen_max: Annotated[
        int, meta("seen ids remembered per viewer, newest kept", "2.2 limit on excluded ids", "job", ge=0)
    ] = 10_000
