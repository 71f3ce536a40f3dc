"""`serve`: the For You dataflow of one instance on Kafka, from its stores to its last commit."""

import gc
import math
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from flows.for_you import ForYou, Sinks, for_you
from flows.intake import Intake, TakenIn
from flows.serving.accounts import GRAPH, Accounts
from flows.serving.announced_models import AnnouncedModels, begun_by, clusters_at_start
from flows.serving.answers import Answers
from flows.serving.commits import Commits
from flows.serving.counts import COUNTS, Counts
from flows.serving.durable import DurableState
from flows.serving.earlier import read_earlier
from flows.serving.positions import MODELS, starts
from flows.serving.signals import stopped_by_signals
from infra.kafka import KafkaRefused
from infra.kafka.admin import check_topics, list_topics
from infra.kafka.inbox import REQUESTS, Connection, Inbox, LostPolicy
from infra.kafka.outbox import Outbox
from infra.kafka.source import KafkaSource, Turns
from infra.operations import Health, Metrics, get_log, serve_operations, tracing_from_environment
from infra.polls import EachSink, run
from operators.clusters import Clusters, Shadows
from operators.decode import Ownership
from operators.experiments import NO_EXPERIMENTS, Experiments
from operators.parameters import Parameters
from operators.ranking import Ranker
from operators.visibility import DEFAULT, VisibilityRules
from schemas.polls import RawPoll

log = get_log("serve")

LOST_POLICIES: Final[dict[str, LostPolicy]] = {"stop": "stop", "earliest": "earliest", "latest": "latest"}
# Requests in work for each thread: one being ranked, one waiting so that the thread never idles.
IN_WORK_PER_THREAD: Final = 2
# How long an end may take: feeds still out are taken in by the broker in milliseconds, or it is away.
DRAIN_S: Final = 6.0
GAUGES_EVERY_S: Final = 1.0
# A probe is one exact search: some 17 ms among a million posts.
PROBE_EVERY_S: Final = 60.0
# What lives at the start is not looked at again, and the young are looked at less often: with the default thresholds
# the collector walks all of a large state in the middle of a request.
GC_THRESHOLDS: Final = (10_000, 50, 100)
# The interpreter's lock goes round so often. A commit gives it up for each of its records: beside a busy loop 2,500 of
# them take 7 s with the default of 5 ms, 0.6 s with 0.5 ms, 0.3 s with 0.1 ms, and 0.13 s alone.
SWITCH_INTERVAL_S: Final = 0.0001


@dataclass(frozen=True, slots=True)
class Serving:
    """What to serve, with what, and where.

    `viewers_in_memory_max` viewers at most stay in memory between epochs; `epoch_s` is the time between commits;
    `clusters` are the checkpoints of further models by their names; announced ones lie in `models`, in the state's
    folder unless told.
    """

    connection: Connection
    state: Path
    checkpoint: Path
    parameters: Parameters
    instance: int = 0
    instances: int = 1
    port: int = 0
    threads: int = min(2, os.cpu_count() or 1)
    viewers_in_memory_max: int = 200_000
    epoch_s: float = 0.5
    lost: LostPolicy = "stop"
    experiments: Experiments = NO_EXPERIMENTS
    visibility: VisibilityRules = DEFAULT
    clusters: Mapping[str, Path] = field(default_factory=dict)
    models: Path | None = None

    @property
    def models_folder(self) -> Path:
        """The folder of announced checkpoints whose paths are relative."""
        return self.models or self.state


class Job:
    """One instance at work: its turns, and what they leave behind."""

    def __init__(
        self,
        what: Serving,
        topics: Mapping[str, int],
        ownership: Ownership,
        clusters: Clusters,
        state: DurableState,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._what, self._state, self._metrics, self._health = what, state, metrics, health
        begin = starts(state.viewer_positions, state.posts_positions, topics, ownership.owned)
        announced = {(MODELS, one): state.posts_positions.of(MODELS, one) for one in range(topics[MODELS])}
        self._earlier = read_earlier(what.connection, state.viewer_positions, begin | announced)
        self._outbox = Outbox(what.connection)
        # Between two commits there may be a few more than the limit.
        state.viewers.reserve(what.viewers_in_memory_max * 5 // 4)
        serving = what.parameters.serving
        interval_s = serving.wait_interval_ms / 1000 or math.inf
        self._inbox = Inbox(what.connection, begin, serving.waiting_max, what.lost, ownership.owns, interval_s)
        self._commits = Commits(state, self._outbox, self._earlier, metrics, what.viewers_in_memory_max)
        tracing = tracing_from_environment(f"{ownership.instance}/{ownership.instances}")
        self._counts = Counts(what.connection, topics[COUNTS], state.posts)
        self._accounts = Accounts(what.connection, topics[GRAPH], state.posts.followers, state.deleted)
        self._answers = Answers(self._outbox, self._earlier, self._counts, metrics, tracing, ownership.owns)
        self._journal: list[TakenIn] = []
        self.intake = Intake(
            state,
            what.parameters,
            ownership,
            answered=self._answers.answered,
            journal=self._journal,
            counts_events=False,
            experiments=what.experiments,
            check=clusters.check,
        )
        self.intake.clock_ms = state.posts_positions.clock_ms
        # Viewers wait here: what shadow models have no time for is passed over.
        self._shadows = Shadows(may_lose=True) if len(clusters.names) > 1 else None
        self._ranker = Ranker(what.threads, what.threads * IN_WORK_PER_THREAD, self._shadows)
        self._flow = ForYou(self.intake, clusters, self._ranker, what.models_folder)
        self._models = AnnouncedModels(
            what.connection,
            topics[MODELS],
            self._flow,
            what.models_folder,
            state.posts_positions,
            metrics,
            self._answers.bury,
        )
        self._polls = 0
        self._due = False
        self._stopping = False
        self._shadow_lost = 0
        self._gauged_at_s = self._probed_at_s = 0.0
        log.info(
            "beginning",
            owned=list(ownership.owned),
            earlier_answers=len(self._earlier.answers),
            to_load=self._inbox.to_load,
        )

    def run(self) -> None:
        """Serve until told to stop; then answer what is in work, commit, and return.

        Raises what ended it otherwise: KafkaRefused, StoreRefused, OSError of a full disk.
        """
        turns = Turns(self._poll, self._before, self._epoch_ended, lambda: self._stopping)
        shadow_scores = EachSink(self._answers.compare) if self._shadows is not None else None
        sinks = Sinks(EachSink(self._answers.send), EachSink(self._answers.bury), shadow_scores)
        source = KafkaSource(turns)
        run(for_you(self._flow, source, sinks), timedelta(seconds=self._what.epoch_s))
        if source.failure is not None:
            self._ranker.close()
            self._models.close()
            self._leave_commit()
            raise source.failure
        self._finish()

    def stop(self) -> None:
        """Take no more polls."""
        self._stopping = True

    # -- turns

    def _poll(self) -> RawPoll | None:
        poll = self._inbox.poll(self._ranker.room() if self._models.started else 0)
        if poll is not None:
            self._polls += 1
            for topic in set(poll.topics):
                self._metrics.events.labels(topic).inc(poll.topics.count(topic))
        return poll

    def _before(self) -> None:
        self._health.beat()
        self._outbox.poll()
        self._counts.take()
        self._accounts.take()
        self._models.take(busy=self._ranker.in_work + self._inbox.waiting > 0)
        self._committed(self._commits.finish())
        if self._due and self._commits.may_begin() and self._settled():
            self._commit()
        now_s = time.monotonic()
        just_loaded = self._loaded and not self._health.holds("state")
        if just_loaded or now_s - self._gauged_at_s >= GAUGES_EVERY_S:
            self._gauged_at_s = now_s
            self._gauge()

    @property
    def _loaded(self) -> bool:
        return self._inbox.loaded and self._models.started

    def _epoch_ended(self) -> None:
        self._due = True

    def _settled(self) -> bool:
        """Return whether all that was polled has gone through: the state is that of the positions, to the message."""
        made = (self._polls, self._flow.answers, self.intake.dead_letters)
        return made == (self.intake.polls, self._answers.answers, self._answers.letters)

    def _commit(self) -> None:
        self._due = False
        table = self._state.posts.table
        # Times ahead of the clock are kept as long as any post could be.
        latest_ms = max(table.clock_ms, self.intake.clock_ms)
        taken_in = self._journal.copy()
        self._journal.clear()
        self._commits.begin(
            self._inbox.positions,
            self._flow.unanswered,
            taken_in,
            latest_ms,
            self.intake.clock_ms,
            self._models.recorded(),
        )

    def _committed(self, offsets: dict[tuple[str, int], int] | None) -> None:
        if offsets is not None:
            self._inbox.commit(offsets)
            self._models.committed()

    def _gauge(self) -> None:
        """Bring the gauges up to now, and say once when all is loaded."""
        metrics, inbox = self._metrics, self._inbox
        self._probe_index(time.monotonic())
        metrics.requests_in_work.set(self._ranker.in_work)
        metrics.requests_waiting.set(inbox.waiting)
        if self._shadows is not None:
            lost = self._shadows.lost + self._outbox.lost
            metrics.shadow_lost.inc(lost - self._shadow_lost)
            self._shadow_lost = lost
        metrics.live_posts.set(len(self._state.posts.table))
        metrics.viewers.labels("memory").set(len(self._state.viewers))
        metrics.viewers.labels("store").set(sum(len(store) for store in self._state.stores.values()))
        metrics.store_bytes.labels("posts").set(self._state.posts_store.size_bytes())
        metrics.store_bytes.labels("viewers").set(sum(store.size_bytes() for store in self._state.stores.values()))
        for topic, messages in inbox.lags().items():
            metrics.lag_messages.labels(topic).set(messages)
        for topic, lag_s in inbox.lags_s().items():
            metrics.lag_seconds.labels(topic).set(lag_s)
        if self._loaded and not self._health.holds("state"):
            self._ready()
        elif inbox.loaded and not self._loaded:
            self._health.set("state", False, "a model that was announced is taken up")
        elif not inbox.loaded:
            left = inbox.left_to_load()
            self._health.set("state", False, f"{left:,} of {inbox.to_load:,} messages to read")
            metrics.warm_up_ratio.set(1 - left / max(1, inbox.to_load))

    def _ready(self) -> None:
        self._health.set("state", True)
        self._health.set("kafka", True)
        self._metrics.warm_up_ratio.set(1)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        log.info("ready", live_posts=len(self._state.posts.table), viewers=len(self._state.viewers))

    def _probe_index(self, now_s: float) -> None:
        """Measure, now and then, how much of the exact answer the index finds for the viewer last served."""
        latest, index = self._flow.latest, self._state.posts.index
        if latest is None or index is None or now_s - self._probed_at_s < PROBE_EVERY_S:
            return
        self._probed_at_s = now_s
        vector = self._flow.clusters.prod.embed_viewer(latest.context)
        self._metrics.index_recall.set(index.recall(vector[None], latest.parameters.retrieval.posts_max))

    def _finish(self) -> None:
        self._ranker.close()
        self._models.close()
        if not self._outbox.drain(DRAIN_S):
            log.warning("answers_left", reason="the broker did not take them in time; they are made again")
            self._leave_commit()
            return
        self._commits.finish(wait=True)
        self._commit()
        offsets = self._commits.finish(wait=True)
        self._committed(offsets)
        self._commits.close()
        self._counts.close()
        self._accounts.close()
        self._inbox.close()
        log.info("stopped", events=self.intake.events, feeds=self._answers.answers)

    def _leave_commit(self) -> None:
        """End a commit that waits for a broker; one that writes is written to its end, before the stores close."""
        self._outbox.abandon()
        self._commits.close()
        self._inbox.close()


def serve(what: Serving) -> None:
    """Serve as one instance until SIGTERM or SIGINT.

    Raises KafkaRefused, StoreRefused, OperationsRefused, CheckpointRefused and ParameterRefused for what keeps it from
    beginning.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    metrics, health = Metrics(what.instance, what.instances), Health()
    metrics.watch_health(health)
    server = serve_operations(what.port, health, metrics.exposition)
    log.info("operations", port=server.port)
    try:
        topics = _checked_topics(what)
        ownership = _ownership(what, topics)
        begun = begun_by(what.state, what.instance)
        clusters = clusters_at_start(begun, what.models_folder, what.checkpoint, what.clusters)
        clusters.check(what.parameters)
        what.experiments.check(what.parameters, clusters.check)
        metrics.set_model(clusters.version(what.parameters.models.cluster))
        state = DurableState(
            what.state, ownership.owned, ownership.instance, what.parameters, clusters.prod, what.visibility
        )
        metrics.watch_disk(what.state)
        try:
            _load(what, clusters, state, metrics, health)
            job = Job(what, topics, ownership, clusters, state, metrics, health)
            with stopped_by_signals(job.stop):
                job.run()
        finally:
            state.close()
    finally:
        server.close()


def _checked_topics(what: Serving) -> dict[str, int]:
    """Return the numbers of partitions of the job's topics, once they are as they must be."""
    cluster = what.connection
    wrong = check_topics(
        cluster.address,
        cluster.naming,
        store_retention_s=what.parameters.posts.retention_s,
        overrides=cluster.settings,
    )
    if wrong:
        raise KafkaRefused(" ".join(wrong))
    states = list_topics(cluster.address, cluster.naming, overrides=cluster.settings)
    return {one.name: one.partitions for one in states}


def _ownership(what: Serving, topics: Mapping[str, int]) -> Ownership:
    try:
        return Ownership(what.instance, what.instances, topics[REQUESTS])
    except ValueError as error:
        raise KafkaRefused(f"--instance {what.instance}/{what.instances} can't be: {error}.") from None


def _load(what: Serving, clusters: Clusters, state: DurableState, metrics: Metrics, health: Health) -> None:
    """Compile the model's shapes while the live posts come back."""

    def compiling(done: int, of: int) -> None:
        health.set("model", done == of, f"{done} of {of} shapes compiled")

    def loading(done: int, of: int) -> None:
        health.set("index", False, f"{done} of {of} chunks of posts loaded")
        metrics.warm_up_ratio.set(done / of / 2)

    with ThreadPoolExecutor(1) as compiler:
        compiled = compiler.submit(clusters.warm_up, what.parameters.selection.candidates_max, compiling)
        state.load_posts(loading)
        health.set("index", True)
        compiled.result()
