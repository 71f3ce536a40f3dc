"""The For You dataflow: posts, engagements, graph changes and feed requests in; ranked, explained feeds out.

    source ─▶ decode ─▶ posts ─▶ viewers ─▶ candidates ─▶ filter ─▶ rank ─▶ slate ─▶ feeds, served
                 └───────┴──▶ dead letters              (live posts)      (threads)

Models that the log announces are taken up between posts and viewers, at their place in the log.

One worker, one source: Bytewax takes each poll through the whole chain before it asks for the next, so what a request
sees is what the log says before it (docs/decisions/0001-one-chain.md). Source, sinks and state come from outside.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from flows.intake import Intake
from flows.learning.messages import features_of
from models.phoenix import CheckpointRefused, Phoenix
from operators.clusters import PROD, Clusters, Compared, load_announced
from operators.decode import Poll, dead_letter
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.reranking import promised, slate_for
from operators.pipeline.runner import Accounting, attempt, run_filters
from operators.pipeline.sources import gather
from operators.pipeline.surfaces import surface_of
from operators.ranked import Ranked
from operators.ranking import Ranker, RankLogic
from operators.score_posts import would_drop
from operators.slate import SHED, make_feed, refused_feed
from operators.viewers.query import Query, Request
from schemas.codec import Refused
from schemas.events import Served
from schemas.feeds import DeadLetter, Feed
from schemas.learning import ServedFeatures
from schemas.polls import RawPoll


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a flow's outputs go: `Answer` items, dead letters, and `Compared` items where there are shadow models."""

    answers: Sink[Any]
    dead_letters: Sink[Any]
    shadow_scores: Sink[Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A feed, what was served with it (None where nothing could be), its request, and the seconds each stage took.

    `features` are what the model saw of the posts served, where they are to be learned from.
    """

    feed: Feed
    served: Served | None
    request: Request
    durations_s: dict[str, float]
    features: ServedFeatures | None = None


@dataclass(slots=True)
class Hydrated:
    """A query with its candidates on the way to the ranker, and the models that it is answered with."""

    query: Query
    table: CandidateTable
    accounting: Accounting
    clusters: Clusters


class _Owned(StatefulBatchLogic[Any, Any, None]):
    """A step that owns a part of the state: hands it every batch, in order."""

    def __init__(self, apply: Callable[[Any], Iterable[Any]]) -> None:
        self._apply = apply

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        return [out for value in values for out in self._apply(value)], self.RETAIN

    def snapshot(self) -> None:
        return


class ForYou:
    """The work of each step from the query on, over the state that the intake keeps up, and models.

    A request is answered with the models that are there when its candidates are gathered, however long it takes.
    Announced checkpoints lie in `models` unless their paths are absolute.
    """

    def __init__(self, intake: Intake, clusters: Clusters, ranker: Ranker, models: Path = Path()) -> None:
        """Raises CheckpointRefused for a model that reads more of a viewer than is kept here."""
        clusters.check_groups(intake.parameters.history.groups_max)
        self.intake = intake
        self.state = intake.state
        self.clusters = clusters
        self.ranker = ranker
        self._models = models
        # Requests read and not yet answered, by partition and offset; the answers so far, and the query of the last.
        self.unanswered: set[tuple[int, int]] = set()
        self.answers = 0
        self.latest: Query | None = None

    def take_announced(self, poll: Poll) -> Poll:
        """Take up the models that a poll announces; those that can't be are dead letters, and nothing changes."""
        for event, origin in poll.announced:
            try:
                if event.model != self.clusters.version(event.cluster):
                    candidates_max = self.intake.parameters.selection.candidates_max
                    self.take_model(load_announced(event, self._models, candidates_max), event.cluster)
            except CheckpointRefused as error:
                poll.dead_letters.append(dead_letter(origin, Refused(str(error), "$.checkpoint")))
                self.intake.dead_letters += 1
        return poll

    def take_model(self, phoenix: Phoenix, name: str = PROD) -> None:
        """Answer all later requests with another model in the place of the one of that name.

        Of `prod` all live posts are embedded anew, here and now: 256 of them take some milliseconds. Requests handed to
        the ranker keep the models they came with. Raises CheckpointRefused, and changes nothing, for a model that reads
        what isn't kept here, and for a name that no model has.
        """
        clusters = self.with_model(phoenix, name)
        if name == PROD:
            renewal = self.state.posts.renew(phoenix.dimensions, phoenix.embed_posts)
            while renewal.left:
                renewal.advance()
            self.state.posts.adopt(renewal)
        self.switch(clusters)

    def with_model(self, phoenix: Phoenix, name: str = PROD) -> Clusters:
        """Return the models as they would be with another; raises CheckpointRefused as `take_model` does."""
        if phoenix.config.co_likers and self.state.posts.co_likers is None:
            raise CheckpointRefused(
                f"the model {phoenix.version} reads what co-likers say, and nobody keeps that here: begin with such a "
                "model, or give one without `co_likers`"
            )
        clusters = self.clusters.with_model(name, phoenix)
        clusters.check_groups(self.intake.parameters.history.groups_max)
        return clusters

    def switch(self, clusters: Clusters) -> None:
        """Answer all later requests with other models; the candidate index is theirs already.

        Cached slates hold what the models before said, and are dropped.
        """
        self.clusters = clusters
        self.state.viewers.slates.clear()

    def candidates(self, query: Query) -> Hydrated:
        """Gather and hydrate the candidates of a query from the live posts."""
        accounting = Accounting(explain=query.request.event.explain)
        accounting.timed("queue", time.perf_counter() - query.request.read_at_s)
        self.unanswered.add((query.request.origin.partition, query.request.origin.offset))
        query.begin()
        with accounting.timing("candidates"):
            query.slate = slate_for(query, self.state.viewers.slates)
            sources = surface_of(query).sources
            table = gather(query, self.state.posts, self.clusters.prod, accounting, sources)
        return Hydrated(query, table, accounting, self.clusters)

    def filter(self, hydrated: Hydrated) -> Hydrated:
        """Run the pre-scoring filters, or only say what they would drop."""
        query, accounting, surface = hydrated.query, hydrated.accounting, surface_of(hydrated.query)
        with accounting.timing("filter"):
            if surface.each_alone:
                would_drop(surface, query, hydrated.table, accounting)
            else:
                hydrated.table, _ = run_filters(surface.filters, query, hydrated.table, accounting)
        return hydrated

    def rank(self, hydrated: Hydrated) -> None:
        """Hand candidates to the ranker's threads; what needs no model only keeps its place in the order."""
        query, names = hydrated.query, self.state.posts.table
        if query.request.shed:
            version = hydrated.clusters.prod.version
            self.ranker.pass_by(Ranked(query, hydrated.table, None, hydrated.accounting, names, version))
        else:
            query.keep = promised(query, self.state.viewers.slates)
            self.ranker.submit(query, hydrated.table, hydrated.accounting, names, hydrated.clusters)

    def slate(self, ranked: Ranked) -> Answer:
        """Make the feed, and remember it as served."""
        query, accounting = ranked.query, ranked.accounting
        features = None
        if query.request.shed:
            feed, served = refused_feed(ranked, SHED)
        else:
            with accounting.timing("slate"):
                feed, served = make_feed(ranked, self.state.viewers)
            if query.parameters.learning.features_enabled:
                with accounting.timing("features"):
                    features = attempt(query, "features", partial(features_of, ranked, feed), None)
        accounting.timed("request", time.perf_counter() - query.request.read_at_s)
        self.unanswered.discard((query.request.origin.partition, query.request.origin.offset))
        self.answers += 1
        self.latest = query
        return Answer(feed, served, query.request, accounting.durations_s, features)


def for_you(job: ForYou, source: Source[RawPoll], sinks: Sinks) -> Dataflow:
    """Return the dataflow of one instance."""
    flow, intake = Dataflow("for_you"), job.intake
    polls = op.input("source", flow, source)
    decoded = op.key_on("decode", op.map("decode_poll", polls, intake.decode), lambda _poll: "posts")
    kept = op.key_rm("posts", op.stateful_batch("posts_step", decoded, lambda _: _Owned(intake.update_posts)))
    posts: Stream[Any] = op.map("models", kept, job.take_announced)

    dead_letters: op.KeyedStream[DeadLetter] = op.flat_map("dead_letters", posts, lambda poll: poll.dead_letters)
    op.output("dead_letters_out", dead_letters, sinks.dead_letters)

    by_viewers = op.key_on("by_viewers", posts, lambda _poll: "viewers")
    queries = op.key_rm("queries", op.stateful_batch("viewers", by_viewers, lambda _: _Owned(intake.update_viewers)))
    hydrated = op.map("candidates", queries, job.candidates)
    filtered = op.key_on("filtered", op.map("filter", hydrated, job.filter), lambda _: "rank")
    done = op.stateful_batch("rank", filtered, lambda _: RankLogic(job.ranker, job.rank))
    ranked: Stream[Any] = op.key_rm("ranked", done)
    if sinks.shadow_scores is not None:
        apart = op.branch("compared", ranked, lambda one: isinstance(one, Compared))
        op.output("shadow_scores", apart.trues, sinks.shadow_scores)
        ranked = apart.falses
    answers = op.map("slate", ranked, job.slate)
    op.output("answers", answers, sinks.answers)
    return flow
