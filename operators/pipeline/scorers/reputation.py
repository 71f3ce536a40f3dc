"""What an author stands for: its reputation, and the viewer's interest in the cluster it belongs to."""

import numpy as np

from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers.steps import Scored, Scores
from operators.viewers.query import Query


def author_reputation(query: Query, table: CandidateTable, _scored: Scored) -> Scores:
    """Multiply with the author's mass over that of a verified one, less where it follows many for its followers (2023).

    A verified author, one with the label `verified`, has the mass `verified_mass`, others have `mass`. Where somebody
    follows more than `followings_min`, and r = (1 + followings) / (1 + followers) is above `ratio_max`, the mass is
    divided by exp(`ratio_penalty` x (r - `ratio_max`)). What nobody told of an author counts for nothing.
    """
    reputation = query.parameters.reputation
    mass = np.where(table.author_verified, reputation.verified_mass, reputation.mass)
    followers, followings = (column.astype(np.float64) for column in (table.author_followers, table.author_followings))
    ratio = (1.0 + followings) / (1.0 + np.maximum(followers, 0.0))
    many = (followers >= 0) & (followings > reputation.followings_min) & (ratio > reputation.ratio_max)
    # A product, since the quotient's divisor may be larger than any number.
    less = np.exp(-reputation.ratio_penalty * (np.where(many, ratio, reputation.ratio_max) - reputation.ratio_max))
    return np.asarray(mass * less / reputation.verified_mass)


def cluster_interest(query: Query, table: CandidateTable, _scored: Scored) -> Scores:
    """Multiply with the share of the viewer's interest that is in the author's cluster, `least` at least (2023, 4).

    For a repost that is the cluster of the original's author. Where interest clusters are not kept, and for a viewer
    without interests, nothing changes.
    """
    share = table.cluster_interest
    return np.where(share < 0, 1.0, np.maximum(share, query.parameters.cluster_interest.least))
