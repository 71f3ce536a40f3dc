"""A load of all kinds of events, by a thread, from a seed."""

import random
import threading
import time
from collections.abc import Iterator
from typing import Final, get_args

from schemas.actions import Action
from schemas.events import Block, Engagement, Event, FeedRequest, Follow, Mute, MuteKeyword, PostDeleted, PostLabelled
from tests.kafka.cluster import Cluster
from tests.kafka.events import AUTHORS, MINUTE_MS, NOW_MS, WORDS, post

# The posts that are there before the load begins: all that is engaged with, so that the order between topics, which
# nobody promises, makes no difference to what is known of a post when somebody engages with it.
OLD_POSTS: Final = range(1, 61)
# The world of a load begins a day ago and its time runs faster than ours; nothing in it is older than posts may be.
BEGIN_MS: Final = NOW_MS - 24 * 60 * MINUTE_MS
ACTIONS: Final = get_args(Action)
EVENTS_HZ: Final = 400
# The world's time between two engagements of one viewer, on the whole, and the posts that each engages with: most
# come back to a post after its group of five minutes is over. What is counted twice is then another group.
STEP_MS: Final = 100_000
POSTS_EACH: Final = 5
# In so many events: one request, one post, one change of the graph, one bad message. The rest are engagements.
REQUEST_IN, POST_IN, GRAPH_IN, BAD_IN = 16, 20, 12, 25


class Load:
    """Sends events until stopped; `requests` are the names of the requests sent, `bad` counts the bad messages.

    In one poll of a job that loads there must be fewer engagements of one viewer than groups are kept (128 of 4,096).
    """

    def __init__(self, cluster: Cluster, seed: int, viewers: int = 40, events_hz: float = EVENTS_HZ) -> None:
        self._cluster, self._rng, self._events_hz = cluster, random.Random(seed), events_hz
        self._viewers = [*range(100, 100 + viewers // 2), *(f"viewer-{number}" for number in range(viewers // 2))]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()
        self.requests: list[str] = []
        self.engagements = 0
        self.bad = 0

    def __enter__(self) -> "Load":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until the broker has everything."""
        self._ended.set()
        self._thread.join()
        self._cluster.flush()

    def _run(self) -> None:
        start_s = time.monotonic()
        for sent, event in enumerate(self._events()):
            if self._ended.is_set():
                return
            if isinstance(event, bytes):
                self._cluster.send_raw(self._rng.choice(("posts", "engagements", "feed-requests")), 0, b"k", event)
                self.bad += 1
            else:
                self._cluster.send(event)
            if isinstance(event, FeedRequest):
                self.requests.append(str(event.request))
            self.engagements += isinstance(event, Engagement)
            time.sleep(max(0.0, start_s + sent / self._events_hz - time.monotonic()))

    def _events(self) -> Iterator[Event | bytes]:
        rng, number = self._rng, 0
        while True:
            number += 1
            at_ms = BEGIN_MS + number * STEP_MS // len(self._viewers)
            assert at_ms < NOW_MS, "the load has gone on for longer than its world"
            place = rng.randrange(len(self._viewers))
            viewer = self._viewers[place]
            if number % REQUEST_IN == 0:
                seen = tuple(rng.sample(OLD_POSTS, rng.randrange(4)))
                yield FeedRequest(at_ms, f"r{number}", viewer, seen_ids=seen, limit=5)
            elif number % POST_IN == 0:
                yield from self._of_a_post(1000 + number, at_ms)
            elif number % GRAPH_IN == 0:
                yield self._of_the_graph(viewer, at_ms)
            elif number % BAD_IN == 0:
                yield rng.randbytes(20)
            else:
                about = OLD_POSTS[(place + rng.randrange(POSTS_EACH)) % len(OLD_POSTS)]
                yield Engagement(at_ms, viewer, about, rng.choice(ACTIONS), undo=rng.random() < 0.05)

    def _of_a_post(self, number: int, at_ms: int) -> Iterator[Event]:
        new = post(number, at_ms - number)
        yield new
        if self._rng.random() < 0.3:
            yield PostLabelled(at_ms + 1, new.post, new.author, ("nsfw",))
        if self._rng.random() < 0.3:
            yield PostDeleted(at_ms + 2, new.post, new.author)

    def _of_the_graph(self, viewer: str | int, at_ms: int) -> Event:
        rng = self._rng
        kind = rng.choice((Follow, Follow, Block, Mute, MuteKeyword))
        about = rng.choice(WORDS) if kind is MuteKeyword else rng.choice((*AUTHORS, *self._viewers))
        return kind(at_ms, viewer, about, undo=rng.random() < 0.2)
