"""Parameters of interest clusters: how they are fitted, what people are interested in, and the source."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class SimClusters(Struct, frozen=True, forbid_unknown_fields=True):
    """The source of posts liked by people with the interests of those who liked what the viewer engages with."""

    enabled: Annotated[bool, meta("ask interest clusters, where the job keeps them", "1.5 sources")] = True
    posts_max: Annotated[int, meta("posts returned", "1.5 sources", ge=0, le=10_000)] = 800
    signals_max: Annotated[int, meta("newest posts of the viewer's that are looked up", "1.5, per type", ge=0)] = 15
    per_signal_max: Annotated[int, meta("posts returned for each of them", "1.5", ge=0, le=10_000)] = 200
    score_min: Annotated[float, meta("least cosine, itself not enough", "1.5", ge=0, le=1)] = 0.5
    age_s: Annotated[int, meta("older posts are not returned", "1.5", ge=0)] = 172_800
    clusters_scanned: Annotated[int, meta("clusters of a post that are looked through", "1.5", ge=1)] = 50
    posts_per_cluster: Annotated[int, meta("top posts kept of each cluster", "1.5", "job", ge=1)] = 800
    engagements_min: Annotated[
        int, meta("likes from which on a post's embedding is used", "2023-generation.md 3", "job", ge=1)
    ] = 16
    refresh_s: Annotated[int, meta("time between two looks at all posts", "1.5, cache", "job", ge=1)] = 600
    refit_s: Annotated[int, meta("time between two fits; X's is a week", "not X's", "job", ge=1)] = 86_400
    followers_min: Annotated[
        int, meta("followers that make a producer", "not X's; X takes the top 20 M", "job", ge=1)
    ] = 4
    interests_max: Annotated[
        int, meta("clusters that a viewer is interested in", "2023-generation.md 4", "job", ge=1, le=255)
    ] = 20
    follow_weight: Annotated[float, meta("of a follow", "2023-generation.md 4", "job", ge=0)] = 1.0
    like_weight: Annotated[float, meta("of a like as it is given", "2023-generation.md 4", "job", ge=0)] = 5.0
    like_half_life_s: Annotated[
        int, meta("in which a like's weight halves; 100 days", "2023-generation.md 4", "job", ge=1)
    ] = 8_640_000
