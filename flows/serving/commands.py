"""Commands of the job on Kafka: serve, request, publish and topics."""

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from flows.options import (
    Checkpoint,
    Cluster,
    ExperimentFile,
    FeedCursor,
    FeedOption,
    InsertsOption,
    Json,
    Log,
    ParameterFile,
    PostsOption,
    Set,
    VisibilityFile,
    checkpoint_path,
    clusters_from,
    experiments_from,
    feed_name,
    inserts_from,
    parameters_from,
    visibility_from,
)
from flows.terminal import Refusal, bar, console, print_json, refusals, rows_table, viewer_id

topics_app = typer.Typer(
    no_args_is_help=True,
    help="Create, list and check the job's topics.\n\nExample: `run_flow.py topics create --kafka localhost:9092`",
)

Kafka = Annotated[str, typer.Option("--kafka", "-k", envvar="FORYOU_KAFKA", help="brokers, as host:port,host:port")]
Prefix = Annotated[str, typer.Option("--prefix", help="what the names of all topics begin with, and a dot")]
KafkaSet = Annotated[
    list[str] | None,
    typer.Option("--kafka-set", help="one setting of librdkafka, as name=value; may be repeated"),
]
OperationsPort = Annotated[
    int | None, typer.Option("--port", help="metrics and probes; 0 is any free one, none if left out")
]
LOCAL = "localhost:9092"


def connection(kafka: str, prefix: str, settings: list[str] | None):  # type: ignore[no-untyped-def]
    """Return where Kafka is, from the options."""
    from infra.kafka.inbox import Connection
    from infra.kafka.settings import parse_overrides
    from infra.kafka.topics import Naming

    return Connection(kafka, Naming(prefix), parse_overrides(settings or []))


def instance_of(text: str) -> tuple[int, int]:
    """Return k and n of `k/n`; k may be a StatefulSet's host name that ends with the ordinal."""
    ordinal, _, instances = text.partition("/")
    ordinal = ordinal.rpartition("-")[2]
    if not (ordinal.isdigit() and instances.isdigit() and int(ordinal) < int(instances)):
        raise Refusal(f"--instance {text} is not k/n with k from 0 to n-1, as in 0/2")
    return int(ordinal), int(instances)


def serve(
    kafka: Kafka = LOCAL,
    state: Annotated[Path, typer.Option("--state", help="the folder of the durable stores")] = Path("out/state"),
    instance: Annotated[str, typer.Option("--instance", "-i", help="which instance this is: k/n, k from 0")] = "",
    instances: Annotated[
        int, typer.Option("--instances", "-n", min=1, max=64, help="start and supervise so many on this machine")
    ] = 1,
    port: Annotated[int, typer.Option("--port", help="metrics and probes; 0 is any free one")] = 9400,
    checkpoint: Checkpoint = "demo",
    file: ParameterFile = None,
    assignments: Set = None,
    experiments: ExperimentFile = None,
    visibility: VisibilityFile = None,
    cluster: Cluster = None,
    models: Annotated[
        Path | None,
        typer.Option("--models", help="where announced models lie whose paths are relative; the state if left out"),
    ] = None,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    threads: Annotated[int, typer.Option(min=1, help="threads that rank; 0 cores are left over by default")] = 2,
    viewers_in_memory: Annotated[
        int, typer.Option(min=1, help="viewers kept in memory; the rest stay on disk until they are touched")
    ] = 200_000,
    epoch: Annotated[float, typer.Option(min=0.05, help="seconds between commits")] = 0.5,
    on_lost_offsets: Annotated[
        str, typer.Option(help="where retention took unread messages: stop, earliest or latest")
    ] = "stop",
    log_form: Annotated[str, typer.Option("--log", help="log lines: auto, json or human")] = "auto",
) -> None:
    """Serve feeds on Kafka: requests from feed-requests are answered on feeds, until SIGTERM.

    Example: `run_flow.py serve --kafka localhost:9092 --state out/state --instance 0/2`
    """
    from flows.serving.job import LOST_POLICIES, Serving
    from flows.serving.job import serve as run
    from flows.serving.supervision import supervise
    from infra.operations import configure_logging

    with refusals():
        configure_logging(form=log_form)
        if instances > 1 and instance:
            raise Refusal("give --instance k/n to be one of several, or --instances n to start them all; not both")
        if instances > 1:
            raise typer.Exit(supervise(instances, port))
        if on_lost_offsets not in LOST_POLICIES:
            raise Refusal(f"--on-lost-offsets {on_lost_offsets}: choose one of {', '.join(LOST_POLICIES)}")
        ordinal, count = instance_of(instance or "0/1")
        run(
            Serving(
                connection(kafka, prefix, kafka_set),
                state,
                checkpoint_path(checkpoint),
                parameters_from(file, assignments),
                instance=ordinal,
                instances=count,
                port=port,
                threads=threads,
                viewers_in_memory_max=viewers_in_memory,
                epoch_s=epoch,
                lost=LOST_POLICIES[on_lost_offsets],
                experiments=experiments_from(experiments),
                visibility=visibility_from(visibility),
                clusters=clusters_from(cluster),
                models=models,
            )
        )


def post_counts(
    kafka: Kafka = LOCAL,
    state: Annotated[Path, typer.Option("--state", help="the folder of the durable stores")] = Path("out/state"),
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two sends of what changed")] = 2.0,
    file: ParameterFile = None,
    assignments: Set = None,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    log_form: Annotated[str, typer.Option("--log", help="log lines: auto, json or human")] = "auto",
) -> None:
    """Count actions on posts for everybody: from engagements and served to post-counts, until SIGTERM. One is enough.

    Example: `run_flow.py post-counts --kafka localhost:9092 --state out/state`
    """
    from flows.post_counts import Counting, count
    from infra.operations import configure_logging

    with refusals():
        configure_logging(form=log_form)
        retention_s = parameters_from(file, assignments).posts.retention_s
        count(Counting(connection(kafka, prefix, kafka_set), state, every, retention_s))


def request(
    user: Annotated[str, typer.Argument(help="the viewer's id")],
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    at: Annotated[str, typer.Option(help="the request's own time: milliseconds or ISO 8601; now if left out")] = "",
    explain: Annotated[bool, typer.Option(help="show how each score came about and what was dropped why")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="how many posts")] = None,
    cursor: FeedCursor = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the feed")] = 10.0,
    log: Annotated[Path | None, typer.Option(help="a log with the posts' text, to show it")] = None,
    which: FeedOption = "for_you",
    posts: PostsOption = None,
    inserts: InsertsOption = None,
    as_json: Json = False,
) -> None:
    """Publish a request for a feed and print the feed that comes back.

    Example: `run_flow.py request 17 --kafka localhost:9092 --explain`
    """
    from flows.report import feed_picture, posts_of, related_posts
    from flows.serving.asking import ask
    from flows.terminal import time_ms
    from schemas.events import FeedRequest

    with refusals():
        at_ms = time_ms(at) if at else time.time_ns() // 1_000_000
        event = FeedRequest(
            at_ms,
            f"cli-{time.time_ns()}",
            viewer_id(user),
            limit=limit,
            explain=explain,
            cursor=cursor,
            feed=feed_name(which),
            posts=tuple(viewer_id(post) for post in posts or ()),
            inserts=inserts_from(inserts),
        )
        feed = ask(connection(kafka, prefix, kafka_set), event, timeout)
        texts = posts_of(log, related_posts([feed])) if log is not None else {}
    if as_json:
        print_json(feed)
    else:
        console.print(feed_picture(feed, texts, explain))


def publish(
    log: Log,
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    rate: Annotated[float, typer.Option(min=0, help="events a second; 0 is as fast as the broker takes them")] = 0.0,
    as_json: Json = False,
) -> None:
    """Publish a recorded log onto the topics: each event with its key, on its partition.

    Example: `run_flow.py publish out/demo/log.jsonl.zst --kafka localhost:9092`
    """
    from flows.serving.publishing import publish as run
    from infra.kafka.admin import list_topics

    with refusals():
        cluster = connection(kafka, prefix, kafka_set)
        states = list_topics(cluster.address, cluster.naming, overrides=cluster.settings)
        partitions = min(state.partitions for state in states)
        if not partitions:
            raise Refusal("the topics are not there: create them with `run_flow.py topics create`")
        with bar(f"publishing {log.name}", as_json) as progress:
            counts = run(cluster, log, partitions, rate, progress)
    if as_json:
        print_json(counts)
    else:
        console.print(rows_table("published", [{"topic": name, "events": count} for name, count in counts.items()]))


@topics_app.command()
def create(
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="of every topic; can't change later")] = 16,
    replicas: Annotated[int | None, typer.Option(min=1, help="copies of each partition; the brokers' default")] = None,
    registry: Annotated[str, typer.Option("--schema-registry", help="register the JSON Schemas at this URL")] = "",
    file: ParameterFile = None,
    assignments: Set = None,
) -> None:
    """Create the topics that are missing; those that exist stay as they are.

    Example: `run_flow.py topics create --kafka localhost:9092 --partitions 16`
    """
    from infra.kafka.admin import create_topics
    from infra.kafka.registry import register_schemas

    with refusals():
        cluster = connection(kafka, prefix, kafka_set)
        retention_s = parameters_from(file, assignments).posts.retention_s
        made = create_topics(
            cluster.address,
            cluster.naming,
            partitions=partitions,
            replicas=replicas,
            store_retention_s=retention_s,
            overrides=cluster.settings,
        )
        registered = register_schemas(registry, cluster.naming) if registry else {}
    console.print(f"created {', '.join(made)}" if made else "all topics exist")
    if registered:
        console.print(f"registered {', '.join(registered)}")


@topics_app.command(name="list")
def list_command(kafka: Kafka = LOCAL, prefix: Prefix = "", kafka_set: KafkaSet = None, as_json: Json = False) -> None:
    """List the topics with partitions, retention and messages.

    Example: `run_flow.py topics list --kafka localhost:9092`
    """
    from infra.kafka.admin import list_topics

    with refusals():
        cluster = connection(kafka, prefix, kafka_set)
        states = list_topics(cluster.address, cluster.naming, overrides=cluster.settings)
    if as_json:
        print_json(states)
    else:
        console.print(rows_table("topics", [msgspec.structs.asdict(state) for state in states]))


@topics_app.command()
def check(
    kafka: Kafka = LOCAL,
    prefix: Prefix = "",
    kafka_set: KafkaSet = None,
    file: ParameterFile = None,
    assignments: Set = None,
) -> None:
    """Say what is not as the job needs it; status 1 where anything is.

    Example: `run_flow.py topics check --kafka localhost:9092`
    """
    from infra.kafka.admin import check_topics

    with refusals():
        cluster = connection(kafka, prefix, kafka_set)
        retention_s = parameters_from(file, assignments).posts.retention_s
        wrong = check_topics(cluster.address, cluster.naming, store_retention_s=retention_s, overrides=cluster.settings)
    for sentence in wrong:
        console.print(sentence, markup=False, soft_wrap=True)
    if not wrong:
        console.print("the topics are as the job needs them")
    raise typer.Exit(1 if wrong else 0)


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    from flows.serving import letter_commands, state_commands  # which take their options from here

    for command in (serve, post_counts, request, publish):
        app.command()(command)
    app.add_typer(topics_app, name="topics")
    state_commands.add_to(app)
    app.add_typer(letter_commands.letters_app, name="dead-letters")
