"""What is known of the authors of candidates beside their posts, for the scorers that ask: both are off by default."""

from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask
from operators.posts.author_followers import UNKNOWN, Followers
from operators.posts.live import LivePosts
from operators.viewers.query import Query

# The label of an author whom the platform has verified (event `author_labelled`).
VERIFIED: Final = "verified"


def followings_of(query: Query, posts: LivePosts, authors: Keys) -> Followers:
    """Return how many accounts authors follow, int32[n]; UNKNOWN where nothing tells or nobody asks."""
    if not query.parameters.reputation.enabled:
        return np.full(len(authors), UNKNOWN, np.int32)
    return posts.followers.followings_of(authors)


def verified(query: Query, posts: LivePosts, authors: Keys) -> Mask:
    """Return which authors carry the label `verified`, bool[n]; none where nobody asks."""
    if not query.parameters.reputation.enabled:
        return np.zeros(len(authors), np.bool_)
    met, place = np.unique(posts.table.author_labels.handles(authors), return_inverse=True)
    return np.array([VERIFIED in posts.table.labels_of(handle) for handle in met.tolist()], np.bool_)[place]


def interest_in(query: Query, posts: LivePosts, authors: Keys) -> npt.NDArray[np.float64]:
    """Return the share of the viewer's interest that is in each author's cluster, float64[n]; -1 where not known."""
    clusters = posts.interest_clusters
    shares = None
    if clusters is not None and query.parameters.cluster_interest.enabled:
        shares = clusters.shares_of(query.request.viewer, authors)
    return np.full(len(authors), -1.0) if shares is None else shares
