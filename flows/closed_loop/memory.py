"""A closed loop in memory: the same dataflow as on Kafka, whose source asks the people what they do next."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from flows.closed_loop.driver import Driver
from flows.closed_loop.judging import Judge
from flows.closed_loop.learning import Learner
from flows.closed_loop.records import Act, Lived, LoopRefused, ShownFeed
from flows.closed_loop.trial import Trial
from flows.for_you import Answer, ForYou, Sinks, for_you
from flows.intake import Intake
from infra.polls import EachSink, PollSource, run
from infra.world import Crowd
from infra.world.sessions import Asked
from models.phoenix import Phoenix
from operators.clusters import Clusters
from operators.clusters.clusters import NO_OTHERS
from operators.decode import Ownership, Poll
from operators.experiments import NO_EXPERIMENTS
from operators.parameters import Parameters
from operators.ranked import Ranked
from operators.ranking import Ranker
from operators.state import MemoryState, live_posts
from schemas.codec import encode
from schemas.events import TOPIC_OF, Engagement, Event, FeedRequest, ModelAnnounced
from schemas.feeds import DeadLetter, Feed
from schemas.polls import RawPoll

AT_MAX: Final = 2**53  # simulated days may lie ahead


class MemoryLoop:
    """One closed loop: a crowd, the job that serves it with a model, and perhaps a learner that changes the model."""

    def __init__(
        self,
        crowd: Crowd,
        parameters: Parameters,
        phoenix: Phoenix,
        learner: Learner | None = None,
        judge_every: int = 1,
        written: Callable[[list[Event]], None] = lambda _: None,
        others: Mapping[str, Phoenix] = NO_OTHERS,
        trial: Trial | None = None,
    ) -> None:
        """Make a loop; `others` are further models by name, for arms of the `trial`.

        Raises ParameterRefused where parameters, or an arm's, name a model that there is not.
        """
        self.crowd = crowd
        self.lived = Lived(models=[(crowd.parameters.start_ms, phoenix.version)])
        self._learner = learner
        self._judge = Judge(crowd, judge_every)
        self._driver = Driver(crowd, self, written, besides=self._learned_from)
        posts = live_posts(parameters, phoenix, interest_clusters=True)
        clusters = Clusters(phoenix, others)
        clusters.check(parameters)
        experiments = NO_EXPERIMENTS if trial is None else trial.experiments
        experiments.check(parameters, clusters.check)
        self._trial = trial
        intake = Intake(MemoryState(parameters, posts), parameters, Ownership(), experiments=experiments)
        # One thread: the loop takes one request at a time, the next one hangs on what comes of it.
        self._ranker = Ranker(threads=1, in_work_max=1)
        self._job = _Watched(intake, clusters, self._ranker, self._ranked_now)
        self._ranked: Ranked | None = None
        self._offset = 0

    def run(self, progress: Callable[[float, float], None]) -> Lived:
        """Live to the end of the world, or to the decision of the trial.

        Raises LoopRefused where the job refuses what people do.
        """
        parameters = self.crowd.parameters
        span_ms = self.crowd.end_ms - parameters.start_ms

        def polls() -> Iterator[RawPoll]:
            while self._trial is None or not self._trial.decided:
                events = self._driver.next()
                if not events:
                    return
                progress(min(max(events[-1].at - parameters.start_ms, 0), span_ms), span_ms)
                yield self._poll(events)
                if not isinstance(events[-1], FeedRequest):
                    return

        source = PollSource(polls(), lambda: self._driver.asked is None)
        run(for_you(self._job, source, Sinks(EachSink(self._answers), EachSink(_refuse))))
        self._ranker.close()
        return self.lived

    @property
    def events(self) -> int:
        """How many events there were so far, what was served among them."""
        return self._driver.events

    def shown(self, asked: Asked, feed: Feed) -> None:
        """Remember a feed and judge it: the state is still that of its request."""
        ranked, self._ranked = self._ranked, None
        judgement = None
        if ranked is not None and self._judge.wants(asked):
            judgement = self._judge.judge(asked, ranked, feed, self._job.state.posts, self._job.clusters.prod)
        rows = self.crowd.rows_of(feed.shown)
        originals = self.crowd.posts["original"][rows].astype("i8")
        self.lived.feeds.append(ShownFeed(feed.at, asked.person, feed.model, originals, judgement))

    def _answers(self, answers: list[Answer]) -> None:
        for answer in answers:
            if self._learner is not None and answer.features is not None:
                self._learner.take_features(answer.features)
            if self._trial is not None:
                self._trial.take_feed(answer.feed)
            self._driver.take(answer.feed)

    def _ranked_now(self, ranked: Ranked) -> None:
        self._ranked = ranked

    def _learned_from(self, events: list[Event]) -> list[Event]:
        """Let the learner know what is done; return that with what it publishes announced before the request.

        So the log holds every change of models where it happens, and a replay of it takes them up as the loop does.
        """
        if not events:
            return events
        acts = [event for event in events if isinstance(event, Engagement)]
        for act, row in zip(acts, self.crowd.rows_of([act.post for act in acts]).tolist(), strict=True):
            if not act.undo:
                person = self.crowd.person_of(act.viewer)
                self.lived.acts.append(Act(act.at, person, act.action, int(self.crowd.posts["original"][row])))
        if self._trial is not None:
            self._trial.take_acts(acts, events[-1].at)
        at_ms = events[-1].at
        published = None if self._learner is None else self._learner.learn(acts, at_ms)
        if published is None:
            return events
        phoenix, entry = published
        self._job.published[phoenix.version] = phoenix
        self.lived.models.append((at_ms, phoenix.version))
        # By its path from the log's folder, beside which the registry lies.
        path = f"{entry.path.parent.name}/{entry.path.name}"
        first = len(events) - isinstance(events[-1], FeedRequest)
        return [*events[:first], ModelAnnounced(at_ms, entry.version, path, entry.sha256), *events[first:]]

    def _poll(self, events: list[Event]) -> RawPoll:
        first, self._offset = self._offset, self._offset + len(events)
        return RawPoll(
            raw=[encode(event) for event in events],
            topics=[TOPIC_OF[type(event)] for event in events],
            partitions=[0] * len(events),
            offsets=range(first, self._offset),
            read_at_s=time.perf_counter(),
            at_max=AT_MAX,
        )


class _Watched(ForYou):
    """The job, that lets somebody look at what was ranked before the slate is made of it.

    Models that are announced are those in `published`, by version: they are in memory already.
    """

    def __init__(self, intake: Intake, clusters: Clusters, ranker: Ranker, look: Callable[[Ranked], None]) -> None:
        super().__init__(intake, clusters, ranker)
        self._look = look
        self.published: dict[str, Phoenix] = {}

    def take_announced(self, poll: Poll) -> Poll:
        """Take up the models that a poll announces."""
        for event, _ in poll.announced:
            self.take_model(self.published.pop(event.model), event.cluster)
        return poll

    def slate(self, ranked: Ranked) -> Answer:
        """Make the feed."""
        self._look(ranked)
        return super().slate(ranked)


def _refuse(letters: list[DeadLetter]) -> None:
    raise LoopRefused(f"the job refused what people did: {letters[0].path}: {letters[0].reason}")
