"""A durable state worked on as the job does: polls through the intake, commits, processes that come back."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from flows.intake import Intake, TakenIn
from flows.serving.durable import DurableState
from flows.serving.positions import Positions
from models.phoenix import Phoenix
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Parameters
from operators.viewers.query import Origin, Query, Request
from schemas.codec import encode
from schemas.events import TOPIC_OF, Event, FeedRequest
from schemas.feeds import Feed
from schemas.ids import Id, key_of
from schemas.message_keys import message_key, message_partition, partition_of_id
from schemas.polls import RawPoll

PARTITIONS = 3
T0 = 1_767_571_200_000  # Monday 5 January 2026, 00:00 UTC


class Process:
    """One process over a state folder: takes events in as they come from Kafka, each topic's offsets counted."""

    def __init__(
        self,
        folder: Path,
        phoenix: Phoenix,
        owned: Iterable[int] = range(PARTITIONS),
        parameters: Parameters = DEFAULTS,
        answered: Callable[[Request], Feed | None] | None = None,
    ) -> None:
        self.owned = list(owned)
        self.state = DurableState(folder, self.owned, 0, parameters, phoenix)
        self.journal: list[TakenIn] = []
        self.intake = Intake(
            self.state, parameters, Ownership(partitions=PARTITIONS), answered=answered, journal=self.journal
        )
        self.intake.clock_ms = self.state.posts_positions.clock_ms
        self.state.load_posts(lambda _done, _of: None)
        self.taken = 0
        self.letters: list[str] = []

    def take(self, *events: Event) -> list[Query]:
        """Take one poll in and return its queries."""
        count = len(events)
        places = range(self.taken, self.taken + count)
        self.taken += count
        raw = RawPoll(
            [encode(one) for one in events],
            [TOPIC_OF[type(one)] for one in events],
            [message_partition(one, PARTITIONS) for one in events],
            list(places),
            0.0,
            T0 * 2,
            keys=[message_key(one) for one in events],
            published_ms=[0] * count,
        )
        poll = self.intake.decode(raw)
        self.intake.update_posts(poll)
        self.letters += [letter.reason for letter in poll.dead_letters]
        return list(self.intake.update_viewers(poll))

    def ask(self, *viewers: Id) -> list[Query]:
        """Return what is known of viewers, without leaving a trace of having asked."""
        known = self.state.viewers
        return [
            known.query(
                Request(
                    FeedRequest(T0, "r", viewer),
                    key_of(viewer),
                    self.intake.parameters,
                    Origin("feed-requests", 0, 0),
                    0.0,
                    partition_of_id(viewer, PARTITIONS),
                )
            )
            for viewer in viewers
        ]

    def commit(self) -> None:
        """Make all that changed durable, posts first, as a commit of the job does."""
        state = self.state
        records = state.viewers.take_changed().records()
        clock_ms, expired_ms = self.intake.clock_ms, state.expired_ms()
        latest_ms = max(state.posts.table.clock_ms, clock_ms)
        journal = self.journal.copy()
        self.journal.clear()
        state.commit_posts(journal, latest_ms, expired_ms, Positions({"posts": {0: self.taken}}, clock_ms=clock_ms))
        for partition in self.owned:
            state.commit_viewers(partition, records.get(partition, []), Positions({"graph": {0: self.taken}}))

    def close(self) -> None:
        """End; what was not committed is lost."""
        self.state.close()


def live(state: DurableState) -> list[object]:
    """Return all that the table and the index say of the live posts."""
    posts = state.posts
    posts.refresh_index()
    table, index = posts.table, posts.index
    assert index is not None
    columns = table.gather(np.arange(table.base, table.end))
    vector = np.zeros(index.dimensions, np.float32)
    vector[0] = 1.0
    rows, scores = index.search(vector, 50, table.clock_ms, table.clock_ms - table.retention_ms)
    return [
        [getattr(columns, name).tolist() for name in columns.__dataclass_fields__ if name != "row"],
        [table.original_id(key) for key in columns.key.tolist()],
        [table.labels_of(table.author_labels.of(key_of(one))) for one in ("ada", "bob", 7, 8)],
        (rows - table.base).tolist(),
        scores.tobytes(),
        table.clock_ms,
    ]
