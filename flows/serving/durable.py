"""State that survives: a store for each viewer partition and one for the live posts, each beside how far it is.

Viewers are read from their stores when they are first touched. Live posts are kept as the post events taken in, in
their order, and come back by taking them in again: the table and the index follow from that order alone.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from flows.intake import TakenIn
from flows.serving.positions import Positions
from infra.stores import PartitionStore
from models.phoenix import Phoenix
from operators.parameters import Parameters
from operators.posts.live import TRIM_LAG_MS, LivePosts
from operators.state import live_posts
from operators.viewers.viewers import Viewers
from schemas.codec import decode_batch
from schemas.events import PostCreated, PostDeleted, PostLabelled

# Of viewer records, of post chunks and of Positions: one number, since they are written together.
FORMAT_VERSION: Final = 1
# A process that replays its own log has checked each event's time before.
ANY_TIME: Final = 2**53

_chunks: Final = msgspec.msgpack.Decoder(list[TakenIn])


def viewers_folder(folder: Path, partition: int) -> Path:
    """Return where a viewer partition's store lies."""
    return folder / f"viewers-{partition:03d}"


def posts_folder(folder: Path, instance: int) -> Path:
    """Return where the store of an instance's live posts lies."""
    return folder / f"posts-{instance:03d}"


def viewer_partitions(folder: Path) -> list[int]:
    """Return the viewer partitions that have a store in a folder."""
    found = (re.fullmatch(r"viewers-(\d{3})", path.name) for path in folder.glob("viewers-*"))
    return sorted(int(one[1]) for one in found if one)


class DurableState:
    """The state of one instance, over stores that nobody else may open meanwhile. Raises StoreRefused."""

    def __init__(
        self, folder: Path, owned: Iterable[int], instance: int, parameters: Parameters, phoenix: Phoenix
    ) -> None:
        self.stores: dict[int, PartitionStore] = {}
        opened: list[PartitionStore] = []
        try:
            for partition in owned:
                opened.append(PartitionStore.open(viewers_folder(folder, partition), FORMAT_VERSION))
                self.stores[partition] = opened[-1]
            self.posts_store = PartitionStore.open(posts_folder(folder, instance), FORMAT_VERSION)
        except BaseException:
            for store in opened:
                store.close()
            raise
        self.viewers = Viewers(parameters, records=self)
        self.posts: LivePosts = live_posts(parameters, phoenix)
        self.viewer_positions = {one: Positions.decoded(store.meta) for one, store in self.stores.items()}
        self.posts_positions = Positions.decoded(self.posts_store.meta)
        self._chunks: deque[tuple[int, int]] = deque()  # key of a chunk, latest time in it
        self._next_chunk = 1

    def get(self, partition: int, viewer: int) -> bytes | None:
        """Return a viewer's record; of a partition that is not owned there is none."""
        store = self.stores.get(partition)
        return store.get(viewer) if store is not None else None

    def load_posts(self, progress: Callable[[int, int], None]) -> None:
        """Take in the stored post events again; `progress` is told how many chunks are done, of how many."""
        count = len(self.posts_store)
        with self.posts.index_aside():
            for done, (key, raw) in enumerate(self.posts_store.items(), start=1):
                self._chunks.append((key, self._take_in(_chunks.decode(raw))))
                self._next_chunk = key + 1
                progress(done, count)

    def _take_in(self, chunk: list[TakenIn]) -> int:
        """Take in the post events of a chunk again; return the latest time among them."""
        latest_ms = 0
        for clock_ms, lines in chunk:
            decoded = decode_batch(lines, ANY_TIME)
            events = [event for event in decoded if isinstance(event, PostCreated | PostDeleted | PostLabelled)]
            self.posts.apply(events, clock_ms)
            latest_ms = max(latest_ms, *(event.at for event in events), 0)
        return latest_ms

    def commit_viewers(self, partition: int, records: list[tuple[int, bytes]], positions: Positions) -> None:
        """Make a partition's changed viewers durable, with how far they are."""
        self.stores[partition].commit(records, [], positions.encoded())
        self.viewer_positions[partition] = positions

    def commit_posts(self, taken_in: list[TakenIn], latest_ms: int, expired_ms: int, positions: Positions) -> None:
        """Make post events durable, and forget those whose posts have all expired by a time."""
        puts, deletes = [], []
        if taken_in:
            puts.append((self._next_chunk, msgspec.msgpack.encode(taken_in)))
            self._chunks.append((self._next_chunk, latest_ms))
            self._next_chunk += 1
        while self._chunks and self._chunks[0][1] < expired_ms:
            deletes.append(self._chunks.popleft()[0])
        self.posts_store.commit(puts, deletes, positions.encoded())
        self.posts_positions = positions

    def expired_ms(self) -> int:
        """Return the time before which no event can matter to the live posts."""
        table = self.posts.table
        return table.clock_ms - table.retention_ms - TRIM_LAG_MS

    def close(self) -> None:
        """Close the stores and give them up."""
        for store in (*self.stores.values(), self.posts_store):
            store.close()
