"""State that survives: a store for each viewer partition and one for the live posts, each beside how far it is.

Viewers are read from their stores when they are first touched. Live posts are kept as the post events taken in, in
their order, and come back by taking them in again: the table and the index follow from that order alone. Of deleted
posts husks are kept, of deleted users nothing but that they were.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from flows.intake import TakenIn
from flows.serving.author_labels import MARK, in_force
from flows.serving.deleting import (
    ANY_TIME,
    DELETED_USERS,
    chunk_without,
    deleted_record,
    read_deleted,
    viewers_without,
)
from flows.serving.positions import Positions
from infra.stores import PartitionStore
from models.checkpoints import CheckpointRefused
from models.phoenix import Phoenix
from operators.deleted_users import DeletedUsers
from operators.parameters import Parameters
from operators.posts.live import TRIM_LAG_MS, LivePosts
from operators.state import live_posts
from operators.viewers.viewers import Viewers
from operators.visibility import DEFAULT, VisibilityRules
from schemas.codec import decode_batch
from schemas.events import POST_EVENTS, PostEvent

# Of viewer records, of post chunks and of Positions: one number, since they are written together.
FORMAT_VERSION: Final = 1
# So many chunks at a commit are looked through for the words of deleted posts: 250 posts each take 0.5 ms.
TIDIED_AT_ONCE: Final = 16
# Post events taken in at once while they are loaded: a batch of few costs as much as one of a hundred.
LOADED_AT_ONCE: Final = 2048

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
    """The state of one instance, over stores that nobody else may open meanwhile.

    Raises StoreRefused, and CheckpointRefused for a model that reads what isn't kept here.
    """

    def __init__(
        self,
        folder: Path,
        owned: Iterable[int],
        instance: int,
        parameters: Parameters,
        phoenix: Phoenix,
        visibility: VisibilityRules = DEFAULT,
    ) -> None:
        if phoenix.config.co_likers:
            raise CheckpointRefused(
                f"the model {phoenix.version} reads what co-likers say, and an instance on Kafka sees only its own "
                "viewers' likes: serve a model without `co_likers`, or replay a log with this one."
            )
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
        # What each store knows of, by partition, and None for that of the posts; together what this instance knows.
        self._told = {None: read_deleted(self.posts_store)} | {
            one: read_deleted(store) for one, store in self.stores.items()
        }
        self.deleted = DeletedUsers(key for told in self._told.values() for key in told)
        self.viewers = Viewers(
            parameters, records=self, deleted=self.deleted, own_feeds_count=True, visibility=visibility
        )
        self.posts: LivePosts = live_posts(parameters, phoenix)
        self.viewer_positions = {one: Positions.decoded(store.meta) for one, store in self.stores.items()}
        self.posts_positions = Positions.decoded(self.posts_store.meta)
        self._chunks: deque[tuple[int, int]] = deque()  # key of a chunk, latest time in it
        self._next_chunk = 1
        self._untidy: list[int] = []  # chunks to look through, the next one last
        self._tidied = 0  # deletions of posts when they were listed

    def get_many(self, partition: int, viewers: list[int]) -> Sequence[bytes | None]:
        """Return viewers' records; of a partition that is not owned there are none."""
        store = self.stores.get(partition)
        return store.get_many(viewers) if store is not None else [None] * len(viewers)

    def load_posts(self, progress: Callable[[int, int], None]) -> None:
        """Take in the stored post events again; `progress` is told how many chunks are done, of how many."""
        count = len(self.posts_store)
        chunks = ((key, raw) for key, raw in self.posts_store.items() if key != DELETED_USERS)
        gathered: dict[int, list[TakenIn]] = {}
        lines = 0
        with self.posts.index_aside():
            for done, (key, raw) in enumerate(chunks, start=1):
                gathered[key] = _chunks.decode(raw)
                lines += sum(len(some) for _, some in gathered[key])
                if lines >= LOADED_AT_ONCE or done == count:
                    self._take_in(gathered)
                    gathered, lines = {}, 0
                    progress(done, count)
            self._take_in(gathered)
        for author in self._untold(None):
            self.posts.delete_author(author)

    def _take_in(self, chunks: dict[int, list[TakenIn]]) -> None:
        """Take in the post events of chunks again."""
        taken_in = [(key, clock_ms, line) for key, chunk in chunks.items() for clock_ms, some in chunk for line in some]
        decoded = decode_batch([line for _, _, line in taken_in], ANY_TIME)
        events: list[PostEvent] = []
        clocks_ms: list[int] = []
        latest_ms = dict.fromkeys(chunks, 0)
        for (key, clock_ms, _), event in zip(taken_in, decoded, strict=True):
            if isinstance(event, POST_EVENTS):
                events.append(event)
                clocks_ms.append(clock_ms)
                latest_ms[key] = max(latest_ms[key], event.at)
        if events:
            self.posts.apply(events, clocks_ms)
        self._chunks += latest_ms.items()
        self._next_chunk = max(latest_ms, default=self._next_chunk - 1) + 1

    def commit_viewers(self, partition: int, records: list[tuple[int, bytes]], positions: Positions) -> None:
        """Make a partition's changed viewers durable, with how far they are."""
        store, gone = self.stores[partition], self._untold(partition)
        if gone:
            told = DeletedUsers((*self._told[partition], *gone))
            records = [*viewers_without(store, records, gone), deleted_record(told)]
            store.commit(records, gone, positions.encoded())
            self._told[partition] = told
        else:
            store.commit(records, [], positions.encoded())
        self.viewer_positions[partition] = positions

    def commit_posts(self, taken_in: list[TakenIn], latest_ms: int, expired_ms: int, positions: Positions) -> None:
        """Make post events durable, and forget those whose posts have all expired by a time.

        The labels of authors do not expire: they are written again with what is new.
        """
        gone, deletes = self._untold(None), self._take_expired(expired_ms)
        lines = self._labels_of_authors(deletes)
        if lines:
            taken_in = [(taken_in[0][0] if taken_in else positions.clock_ms, lines), *taken_in]
        told = DeletedUsers((*self._told[None], *gone))
        puts = self._without_deleted(told, all_chunks=bool(gone))
        if gone:
            puts.append(deleted_record(told))
        if taken_in:
            taken_in = chunk_without(taken_in, told, self.posts.table.is_deleted) or taken_in
            puts.append((self._next_chunk, msgspec.msgpack.encode(taken_in)))
            self._chunks.append((self._next_chunk, latest_ms))
            self._next_chunk += 1
        self.posts_store.commit(puts, deletes, positions.encoded())
        self._told[None] = told
        self.posts_positions = positions

    def _take_expired(self, expired_ms: int) -> list[int]:
        """Return the chunks at the front whose posts have all expired by a time, and count them no more."""
        expired = []
        while self._chunks and self._chunks[0][1] < expired_ms:
            expired.append(self._chunks.popleft()[0])
        return expired

    def _labels_of_authors(self, chunks: list[int]) -> list[bytes]:
        """Return the events in chunks that say which labels authors have now."""
        records = (self.posts_store.get(key) for key in chunks)
        table = self.posts.table
        return [line for raw in records if raw and MARK in raw for line in in_force(_chunks.decode(raw), table)]

    @property
    def untidy(self) -> bool:
        """Whether the words of deleted posts may still be in the store, or deleted users."""
        return bool(self._untidy) or self._deletions != self._tidied or bool(self._untold(None))

    @property
    def _deletions(self) -> int:
        return self.posts.table.counts.deleted

    def _untold(self, partition: int | None) -> list[int]:
        """Return the deleted users of whom a store has not been told."""
        told = self._told[partition]
        return [] if len(told) == len(self.deleted) else [key for key in self.deleted if key not in told]

    def _without_deleted(self, deleted: DeletedUsers, all_chunks: bool) -> list[tuple[int, bytes]]:
        """Return chunks written anew: of the next few those that hold what was deleted, or of all."""
        if all_chunks or (not self._untidy and self._deletions != self._tidied):
            self._tidied = self._deletions
            self._untidy = [key for key, _ in reversed(self._chunks)]
        count = len(self._untidy) if all_chunks else min(TIDIED_AT_ONCE, len(self._untidy))
        rewritten = []
        for key in [self._untidy.pop() for _ in range(count)]:
            raw = self.posts_store.get(key)
            chunk = chunk_without(_chunks.decode(raw), deleted, self.posts.table.is_deleted) if raw else None
            if chunk is not None:
                rewritten.append((key, msgspec.msgpack.encode(chunk)))
        return rewritten

    def expired_ms(self) -> int:
        """Return the time before which no event can matter to the live posts."""
        table = self.posts.table
        return table.clock_ms - table.retention_ms - TRIM_LAG_MS

    def close(self) -> None:
        """Close the stores and give them up."""
        for store in (*self.stores.values(), self.posts_store):
            store.close()
