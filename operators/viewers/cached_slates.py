"""The cached slate: a viewer's best candidates of a moment ago, with the model's outputs, to be ranked again.

In memory only. After a restart it isn't there, and a request is answered from all sources that an unbroken run would
have answered from the slate: so it is off unless asked for (x-algorithm.md 1.5 keeps it in Redis).
"""

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys

# What a request must have in common with another to be answered from its slate.
Kind = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CachedSlate:
    """Candidates, best first: their posts, the sources that brought them, and the outputs float32[n, 19] of `model`."""

    posts: Keys
    sources: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.float32]
    model: str

    def __len__(self) -> int:
        return len(self.posts)

    def places(self, posts: Keys) -> npt.NDArray[np.intp]:
        """Return where in the slate posts stand, all of which are in it."""
        order = np.argsort(self.posts)
        return order[np.searchsorted(self.posts, posts, sorter=order)]


class Keep:
    """The promise of a slate by a request that is at the ranker, which must end it: with a slate, or without one."""

    def __init__(self, kind: Kind, at_ms: int) -> None:
        self.kind, self.at_ms = kind, at_ms
        self._slate: Future[CachedSlate | None] = Future()

    def end(self, slate: CachedSlate | None = None) -> None:
        """End it, in the ranker's thread; the first word counts."""
        if not self._slate.done():
            self._slate.set_result(slate)

    def slate(self) -> CachedSlate | None:
        """Return the slate, once the ranker has it."""
        return self._slate.result()


NO_ENTRIES: Final[OrderedDict[int, Keep]] = OrderedDict()


class CachedSlates:
    """The slates of viewers, the latest `viewers_max`, shared out evenly among the viewer partitions.

    By partition, and promised when a request goes to the ranker, in the order of requests: so what is there when a
    request comes depends neither on how many instances share the viewers, nor on when the ranker is done.
    """

    def __init__(self, viewers_max: int, partitions: int) -> None:
        self._per_partition = max(1, viewers_max // partitions)
        self._entries: dict[int, OrderedDict[int, Keep]] = {}

    def __len__(self) -> int:
        """Count the viewers that have a slate, or the promise of one."""
        return sum(map(len, self._entries.values()))

    def promise(self, partition: int, viewer: int, kind: Kind, at_ms: int) -> Keep:
        """Return the promise of a slate by a request of a viewer; it takes the place of an earlier one."""
        entries = self._entries.setdefault(partition, OrderedDict())
        entries.pop(viewer, None)
        while len(entries) >= self._per_partition:
            entries.popitem(last=False)
        promised = entries[viewer] = Keep(kind, at_ms)
        return promised

    def find(self, partition: int, viewer: int, kind: Kind, at_ms: int, ttl_s: int) -> CachedSlate | None:
        """Return a viewer's slate by a request of the same kind within `ttl_s` before a time; waits for the ranker."""
        promised = self._entries.get(partition, NO_ENTRIES).get(viewer)
        if promised is None or promised.kind != kind or not 0 <= at_ms - promised.at_ms <= ttl_s * 1000:
            return None
        return promised.slate()

    def clear(self) -> None:
        """Forget all slates, and what is promised yet."""
        self._entries.clear()

    def forget(self, viewer: int) -> None:
        """Forget the slate of a viewer who was deleted."""
        for entries in self._entries.values():
            entries.pop(viewer, None)
