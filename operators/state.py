"""The state of one instance: its live posts and its viewer partitions, built by the steps that own them.

A dataflow has no cycles, yet the slate must remember what it served where the next query reads it, and candidates are
read from the posts that another step keeps. With one worker in a process that is plain: each part of the state is one
object, one step changes it, others reach it through its methods.
"""

from typing import Protocol

from operators.keys import Interner
from operators.parameters import Parameters
from operators.posts.live import LivePosts
from operators.viewers.partition import ViewerPartition


class State(Protocol):
    """What a flow needs of its state; where it is kept is the state's own business."""

    @property
    def posts(self) -> LivePosts:
        """The live posts."""

    def viewers(self, partition: int) -> ViewerPartition:
        """Return a viewer partition, built at its first use."""


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

    @property
    def viewer_partitions(self) -> dict[int, ViewerPartition]:
        """The partitions built so far."""
        return self._viewers
