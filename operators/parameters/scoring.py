"""Parameters of the scorers: from probabilities to a score."""

from typing import Annotated, Final, Literal

from msgspec import Struct

from operators.parameters.entries import meta, switch


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of each predicted probability; a head the model does not have counts as 0.

    What a viewer likes to do may not count against a post, nor the contrary for it: a sign is refused that turns the
    meaning of an action round.
    """

    favorite: Annotated[float, meta("", "1.5", ge=0)] = 0.5
    reply: Annotated[float, meta("", "1.5", ge=0)] = 5.0
    reply_engaged_by_author: Annotated[float, meta("no head yet", "2023-generation.md 2", ge=0)] = 0.0
    retweet: Annotated[float, meta("", "1.5", ge=0)] = 1.0
    photo_expand: Annotated[float, meta("", "1.5", ge=0)] = 0.05
    video_open: Annotated[float, meta("no head yet", "1.5", ge=0)] = 0.05
    click: Annotated[float, meta("", "1.5", ge=0)] = 0.4
    good_click_v2: Annotated[float, meta("no head yet", "2023-generation.md 2", ge=0)] = 0.0
    open_link: Annotated[float, meta("no head yet", "1.5", ge=0)] = 0.2
    profile_click: Annotated[float, meta("", "1.5", ge=0)] = 0.0
    vqv: Annotated[float, meta("video quality view", "1.5", ge=0)] = 0.05
    share: Annotated[float, meta("", "1.5", ge=0)] = 2.0
    share_via_dm: Annotated[float, meta("", "1.5", ge=0)] = 5.0
    share_via_copy_link: Annotated[float, meta("", "1.5", ge=0)] = 20.0
    dwell: Annotated[float, meta("", "1.5", ge=0)] = 0.0
    quote: Annotated[float, meta("", "1.5", ge=0)] = 5.0
    quoted_click: Annotated[float, meta("", "1.5", ge=0)] = 0.05
    quoted_vqv: Annotated[float, meta("no head yet", "1.5", ge=0)] = 0.0
    follow_author: Annotated[float, meta("", "1.5", ge=0)] = 4.0
    post_unexplored: Annotated[float, meta("in-network only; no head yet", "1.5", ge=0)] = 0.02
    not_interested: Annotated[float, meta("", "1.5", le=0)] = -43.2
    block_author: Annotated[float, meta("", "1.5", le=0)] = -31.2
    mute_author: Annotated[float, meta("", "1.5", le=0)] = -58.8
    report: Annotated[float, meta("", "1.5", le=0)] = -234.0
    not_dwelled: Annotated[float, meta("no head yet", "1.5", le=0)] = -0.02
    dwell_time: Annotated[float, meta("per second; continuous, not part of T", "1.5", ge=0)] = 0.004


class Scoring(Struct, frozen=True, forbid_unknown_fields=True):
    """From probabilities to a score."""

    value_model: Annotated[
        Literal["weighted", "mpn", "dwell_regret", "gated", "march_2023"],
        meta("the value model: weighted, mpn, dwell_regret, gated or march_2023", "1.5; 2023-generation.md 2"),
    ] = "weighted"
    author_diversity: Annotated[bool, switch("1.5")] = True
    out_of_network: Annotated[bool, switch("1.5")] = True
    negative_offset: Annotated[float, meta("e: where non-negative scores start", "1.5", ge=0)] = 0.001
    reply_mutual_follow_boost: Annotated[
        float, meta("added to the reply weight for originals of mutual follows", "1.5", ge=0)
    ] = 15.0
    video_ms_min: Annotated[int, meta("vqv counts only for strictly longer videos", "1.5", ge=0)] = 10_000
    video_followers_max: Annotated[
        int, meta("vqv does not count for viewers with this many followers or more", "1.5", ge=0)
    ] = 10_000
    diversity_decay: Annotated[float, meta("per earlier post of the author", "1.5", ge=0, le=1)] = 0.5
    diversity_floor: Annotated[float, meta("least factor of author diversity", "1.5", ge=0, le=1)] = 0.25
    oon_factor: Annotated[float, meta("factor of out-of-network posts", "1.5", ge=0)] = 0.75
    topic_oon_factor: Annotated[float, meta("the factor where topics are asked for", "1.5", ge=0)] = 0.5
    oon_factor_for_replies_and_reposts: Annotated[
        bool, meta("in-network replies and reposts get the factor too", "1.5, item 4")
    ] = True
    new_viewer_oon_factor: Annotated[float, meta("the factor for eligible new viewers", "1.5", ge=0)] = 1e-5
    new_viewer_age_s: Annotated[int, meta("accounts younger than this are new; 0 is off", "1.5", ge=0)] = 0
    new_viewer_follows_min: Annotated[int, meta("follows that make a new viewer eligible", "1.5", ge=0)] = 5


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """The gate of the gated value model: bias plus coefficients times what is known of a viewer, against a threshold.

    X publishes bias and threshold, and neither its 19 features nor their coefficients. These are what this project
    knows of a viewer, each number n as ln(1 + n); with coefficients of 0 the gate is open to everybody.
    """

    bias: Annotated[float, meta("what the sum begins with", "1.5 gated variant")] = 1.033918
    threshold: Annotated[float, meta("above it the gate is open: dwell_regret", "1.5 gated variant")] = -0.634264
    follows: Annotated[float, meta("authors the viewer follows", "not X's; withheld")] = 0.0
    followed_by: Annotated[float, meta("viewers that follow the viewer, as this job has seen", "not X's; withheld")] = (
        0.0
    )
    followers: Annotated[float, meta("followers by the viewer's profile", "not X's; withheld")] = 0.0
    account_age_days: Annotated[float, meta("days since the account began, 0 if unknown", "not X's; withheld")] = 0.0
    groups: Annotated[float, meta("groups of actions in the action sequence", "not X's; withheld")] = 0.0
    shown: Annotated[float, meta("posts shown to the viewer so far", "not X's; withheld")] = 0.0
    favorite: Annotated[float, meta("likes so far", "not X's; withheld")] = 0.0
    reply: Annotated[float, meta("replies so far", "not X's; withheld")] = 0.0
    repost: Annotated[float, meta("reposts and quotes so far", "not X's; withheld")] = 0.0
    click: Annotated[float, meta("clicks so far", "not X's; withheld")] = 0.0
    profile: Annotated[float, meta("clicks on profiles and follows from a post so far", "not X's; withheld")] = 0.0
    vqv: Annotated[float, meta("videos watched so far", "not X's; withheld")] = 0.0
    dwell: Annotated[float, meta("posts dwelled on so far", "not X's; withheld")] = 0.0
    share: Annotated[float, meta("shares so far", "not X's; withheld")] = 0.0
    negative: Annotated[float, meta("blocks, mutes, reports and not interested so far", "not X's; withheld")] = 0.0
    passed: Annotated[float, meta("posts shown since the last action", "not X's; withheld")] = 0.0


class Fatigue(Struct, frozen=True, forbid_unknown_fields=True):
    """What "not interested" in a post does to its author's others, for that viewer."""

    enabled: Annotated[bool, meta("lower authors the viewer was not interested in", "2023-generation.md 3")] = False
    factor: Annotated[float, meta("the factor at once", "2023-generation.md 3", ge=0, le=1)] = 0.2
    recovery_s: Annotated[
        int, meta("time after which it is 1 again, rising in a line; 140 days", "2023-generation.md 3", ge=1)
    ] = 12_096_000


class Reputation(Struct, frozen=True, forbid_unknown_fields=True):
    """What an author is worth whoever looks: the mass that its rank in the graph begins with."""

    enabled: Annotated[bool, meta("multiply scores with the author's mass", "2023-generation.md 3")] = False
    verified_mass: Annotated[float, meta("mass of a verified author", "2023-generation.md 3", ge=1)] = 100.0
    mass: Annotated[
        float, meta("mass of another: a month old, with a device", "2023, twitter/the-algorithm UserMass", ge=0)
    ] = 55.0
    followings_min: Annotated[
        int, meta("whoever follows no more than so many keeps all of it", "2023-generation.md 3", ge=0)
    ] = 500
    ratio_max: Annotated[
        float,
        meta("followings over followers, 1 added to both, that cost nothing", "2023-generation.md 3", ge=0),
    ] = 0.6
    ratio_penalty: Annotated[
        float, meta("mass is divided by e to so many times what is above", "2023-generation.md 3", ge=0)
    ] = 5.0


class ClusterInterest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a viewer's interest in a cluster does to posts by its producers."""

    enabled: Annotated[
        bool, meta("multiply scores with the interest in the author's cluster", "2023-generation.md 4")
    ] = False
    least: Annotated[
        float, meta("least share, for authors of no cluster too: one of 20 clusters", "not X's", ge=0, le=1)
    ] = 0.05


class Dpp(Struct, frozen=True, forbid_unknown_fields=True):
    """The selection of posts that are good and unlike each other."""

    enabled: Annotated[bool, meta("choose the selected posts for diversity too", "1.6")] = True
    theta: Annotated[float, meta("how much quality counts beside diversity", "1.6", ge=0, le=0.99)] = 0.65
    pool: Annotated[int, meta("best posts that `selection.top_k` are chosen from", "1.6", ge=1, le=1000)] = 150


# Continuous terms are not part of T, the sum that scales the negative offset (x-algorithm.md 1.5, item 1).
CONTINUOUS_WEIGHTS: Final = frozenset({"dwell_time"})
