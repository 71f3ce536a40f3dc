"""The state of one instance: its live posts and its viewer partitions, built by the steps that own them.

A dataflow has no cycles, yet the slate must remember what it served where the next query reads it, and candidates are
read from the posts that another step keeps. With one worker in a process that is plain: each part of the state is one
object, one step changes it, others reach it through its methods.
"""

from typing import Protocol

from models.phoenix import Phoenix
from operators.keys import Interner
from operators.parameters import Parameters
from operators.posts.index import CandidateIndex
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.viewers.partition import ViewerPartition
from schemas.ids import partition_of


class State(Protocol):
    """What a flow needs of its state; where it is kept is the state's own business."""

    @property
    def posts(self) -> LivePosts:
        """The live posts."""

    def viewers(self, partition: int) -> ViewerPartition:
        """Return a viewer partition, built at its first use."""

    def viewers_of(self, viewer: int, partitions: int) -> ViewerPartition:
        """Return the partition of a viewer."""


class MemoryState:
    """State in memory, empty at the start and gone at the end: for replays."""

    def __init__(self, parameters: Parameters, posts: LivePosts) -> None:
        self._parameters = parameters
        self._authors = Interner()
        self._viewers: dict[int, ViewerPartition] = {}
        self.posts = posts

    def viewers(self, partition: int) -> ViewerPartition:
        """Return a viewer partition, built at its first use."""
        one = self._viewers.get(partition)
        if one is None:
            one = self._viewers[partition] = ViewerPartition(partition, self._parameters, self._authors)
        return one

    def viewers_of(self, viewer: int, partitions: int) -> ViewerPartition:
        """Return the partition of a viewer."""
        return self.viewers(partition_of(viewer, partitions))

    @property
    def viewer_partitions(self) -> dict[int, ViewerPartition]:
        """The partitions built so far."""
        return self._viewers


def live_posts(parameters: Parameters, phoenix: Phoenix | None = None) -> LivePosts:
    """Return empty live posts, with a candidate index of the model's dimensions where there is a model."""
    index = None if phoenix is None else CandidateIndex(phoenix.dimensions)
    return LivePosts(PostTable(parameters.posts.retention_s), index)
