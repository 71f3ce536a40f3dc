"""A closed loop over Kafka: the people's events go to a running job's topics, and its feeds come back to them.

People wait for their feeds, so the job's answers set the pace. What happens before a request is with the broker before
the request is; the job reads topics apart, so a request may still overtake the last of it, as on any real day.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from flows.closed_loop.driver import Driver
from flows.closed_loop.judging import BEST, POPULAR, RANDOM, SERVED
from flows.closed_loop.records import Ints, Judgement, Lived, LoopRefused, ShownFeed
from flows.feed_worth import TOP, Floats, best_worth_of, weigh, worth_of
from flows.serving.sending import SENT_WITHIN_S, partitions_of
from infra.kafka.headers import schema_header
from infra.kafka.inbox import Connection, Lane
from infra.kafka.outbox import DeliveryFailed, Outbox, Outgoing
from infra.kafka.topics import TOPIC, key_and_partition
from infra.world import Crowd
from infra.world.sessions import Asked
from operators.parameters import DEFAULTS
from schemas.codec import encode
from schemas.events import TOPIC_OF, Event, FeedRequest
from schemas.feeds import Feed

FEEDS: Final = "feeds"
POLL_MS: Final = 100


class KafkaLoop:
    """One closed loop with a job that runs somewhere else; whoever joins and learns does so, too.

    Feeds are judged by what the world alone knows: others choose from all posts that a person may be shown there
    and has not been, whatever the job's own filters make of them, and from what the job did show.
    """

    def __init__(
        self,
        connection: Connection,
        crowd: Crowd,
        timeout_s: float,
        judge_every: int = 1,
        written: Callable[[list[Event]], None] = lambda _: None,
    ) -> None:
        """Raises KafkaRefused where the broker does not answer, and Refusal where topics are not there."""
        self.crowd = crowd
        self.lived = Lived()
        self._connection = connection
        self._timeout_s = timeout_s
        self._judge_every = judge_every
        self._rng = np.random.default_rng(0)
        self._outbox = Outbox(connection)
        self._driver = Driver(crowd, self, written, tells_served=False)
        self._partitions = {topic: partitions_of(connection, topic) for topic in dict.fromkeys(TOPIC_OF.values())}
        places = [(FEEDS, partition) for partition in range(partitions_of(connection, FEEDS))]
        self._lane = Lane(connection, dict.fromkeys(places, 0), lost="latest")
        for place in places:
            self._lane.start_at(place, self._lane.bounds(place)[1])

    @property
    def events(self) -> int:
        """How many events there were so far, what was served among them."""
        return self._driver.events

    def run(self, progress: Callable[[float, float], None]) -> Lived:
        """Live to the end of the world. Raises LoopRefused where no feed comes in time, Refusal and KafkaRefused."""
        parameters = self.crowd.parameters
        span_ms = self.crowd.end_ms - parameters.start_ms
        try:
            while events := self._driver.next():
                progress(min(max(events[-1].at - parameters.start_ms, 0), span_ms), span_ms)
                asked = [event for event in events if isinstance(event, FeedRequest)]
                self._publish([event for event in events if not isinstance(event, FeedRequest)])
                if not asked:
                    break
                self._publish(asked)
                self._driver.take(self._feed(asked[0]))
        finally:
            self._lane.close()
        return self.lived

    def shown(self, asked: Asked, feed: Feed) -> None:
        """Remember a feed and judge it."""
        rows = self.crowd.rows_of(feed.shown)
        rows = self.crowd.posts["original"][rows[rows >= 0]].astype(np.int64)
        known = self.lived.models[-1][1] if self.lived.models else ""
        if feed.model != known:
            self.lived.models.append((feed.at, feed.model))
        judgement = self._judged(asked, rows) if len(self.lived.feeds) % self._judge_every == 0 else None
        self.lived.feeds.append(ShownFeed(feed.at, asked.person, feed.model, rows, judgement))

    def _judged(self, asked: Asked, shown: Ints) -> Judgement | None:
        rows = np.union1d(self.crowd.eligible(asked), shown[:TOP])
        if len(rows) < TOP or not len(shown) or asked.request.in_network_only:
            return None
        worth = weigh(self._true(asked, rows), DEFAULTS)
        of_shown = self._true(asked, shown[:TOP])
        found = {
            SERVED: worth_of(weigh(of_shown, DEFAULTS)),
            BEST: best_worth_of(worth),
            POPULAR: worth_of(worth[np.argsort(-self.crowd.popularity(rows, asked.request.at))]),
            RANDOM: worth_of(self._rng.choice(worth, TOP, replace=False)),
        }
        return Judgement(found, np.zeros((0, of_shown.shape[1])), of_shown)

    def _true(self, asked: Asked, rows: Ints) -> Floats:
        return self.crowd.probabilities(asked, rows, self.crowd.followed(asked.person, rows))

    def _publish(self, events: Sequence[Event]) -> None:
        """Send events and wait until the broker has them."""
        for event in events:
            topic = TOPIC_OF[type(event)]
            key, partition = key_and_partition(event, self._partitions[topic])
            self._outbox.send(Outgoing((topic, partition), key, encode(event), [schema_header(TOPIC[topic].schema)]))
            self._outbox.poll()
        try:
            self._outbox.drain(SENT_WITHIN_S)
        except DeliveryFailed as error:
            raise LoopRefused(str(error)) from None
        if left := len(self._outbox.unacknowledged()):
            raise LoopRefused(f"the broker has not taken {left} messages in {SENT_WITHIN_S:g} s")

    def _feed(self, request: FeedRequest) -> Feed:
        """Wait for the feed of a request."""
        end_s = time.monotonic() + self._timeout_s
        while time.monotonic() < end_s:
            for message in self._lane.poll(POLL_MS):
                feed = msgspec.json.decode(message.value() or b"", type=Feed)
                if feed.request == request.request and feed.viewer == request.viewer:
                    return feed
            time.sleep(0.0005)
        raise LoopRefused(
            f"no feed for request {request.request} within {self._timeout_s:g} s: is a job running there, with "
            "topics that hold nothing else? Its dead letters may say more"
        )
