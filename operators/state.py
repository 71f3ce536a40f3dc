"""The state of one instance: its live posts and its viewers, built by the steps that own them.

A dataflow has no cycles, yet the slate must remember what it served where the next query reads it, and candidates are
read from the posts that another step keeps. With one worker in a process that is plain: each part of the state is one
object, one step changes it, others reach it through its methods.
"""

from typing import Protocol

from models.phoenix import Phoenix
from operators.deleted_users import DeletedUsers
from operators.parameters import Parameters
from operators.posts.co_likers import CoLikers
from operators.posts.husks import terms_of
from operators.posts.index import CandidateIndex
from operators.posts.interest_clusters import InterestClusters
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.viewers.viewers import Viewers
from operators.visibility import DEFAULT, VisibilityRules


class State(Protocol):
    """What a flow needs of its state; where it is kept is the state's own business."""

    @property
    def posts(self) -> LivePosts:
        """The live posts."""

    @property
    def viewers(self) -> Viewers:
        """The viewers this instance owns."""

    @property
    def deleted(self) -> DeletedUsers:
        """The users deleted so far, of all instances."""


class MemoryState:
    """State in memory, empty at the start and gone at the end: for replays."""

    def __init__(self, parameters: Parameters, posts: LivePosts, visibility: VisibilityRules = DEFAULT) -> None:
        self.posts = posts
        self.deleted = DeletedUsers()
        self.viewers = Viewers(parameters, deleted=self.deleted, visibility=visibility)


def live_posts(
    parameters: Parameters, phoenix: Phoenix | None = None, co_likers: bool = False, interest_clusters: bool = False
) -> LivePosts:
    """Return empty live posts, with a candidate index of the model's dimensions where there is a model.

    Co-likers are kept up with `co_likers`, and for a model that reads what they say; `interest_clusters` where they are
    switched on, too. Both need the engagements of all viewers.
    """
    table = PostTable(parameters.posts.retention_s, terms_of)
    clustered = interest_clusters and (parameters.simclusters.enabled or parameters.cluster_interest.enabled)
    clusters = InterestClusters(parameters.simclusters) if clustered else None
    asked = co_likers or (phoenix is not None and phoenix.config.co_likers)
    index = None if phoenix is None else CandidateIndex(phoenix.dimensions)
    embed = None if phoenix is None else phoenix.embed_posts
    return LivePosts(table, index, embed, CoLikers() if asked else None, clusters)
