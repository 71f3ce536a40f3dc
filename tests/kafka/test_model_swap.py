"""Models taken up by a job on Kafka: under requests, refused, gone back from, and through kills."""

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from msgspec import structs

from flows.replay import FEEDS, Replay, replay
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from schemas.codec import encode
from schemas.events import Event, ModelAnnounced
from schemas.feeds import Feed
from tests.acceptance.playing import decoded, write_log
from tests.conftest import reconfigured, shaken
from tests.kafka.cluster import Cluster, by_input, wait_until
from tests.kafka.conftest import StartJob
from tests.kafka.events import NOW_MS, ask, post
from tests.kafka.jobs import Job

POSTS = range(1, 61)
# By one author, and so on one partition: the order of posts on several is nobody's promise.
WORLD: tuple[Event, ...] = tuple(structs.replace(post(number), author="author-1") for number in POSTS)


@pytest.fixture
def models(tiny: PhoenixConfig, tmp_path: Path, checkpoint: Path) -> Sequence[Phoenix]:
    """Return the model of `--checkpoint` and two more, saved in the state's folder as 1.phoenix and 2.phoenix."""
    made = [shaken(Phoenix.untrained(tiny, seed=seed), seed=seed) for seed in (1, 2)]
    for number, phoenix in enumerate(made, start=1):
        phoenix.save(tmp_path / "state" / f"{number}.phoenix")
    return [Phoenix.load(checkpoint), *made]


def announced(phoenix: Phoenix, checkpoint: str, **fields: str) -> ModelAnnounced:
    return ModelAnnounced(NOW_MS, phoenix.version, checkpoint, **fields)


@dataclass
class Asking:
    """Asks by a thread, each time for another viewer, until its end; `requests` are the names of the requests."""

    cluster: Cluster
    every_s: float = 0.02
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> "Asking":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.cluster.flush()

    def _run(self) -> None:
        while not self._ended.is_set():
            number = len(self.requests)
            self.cluster.send(ask(f"r{number}", f"viewer-{number}", explain=True))
            self.requests.append(f"r{number}")
            time.sleep(self.every_s)


def until_ranked_by(job: Job, phoenix: Phoenix) -> None:
    name = f'foryou_model_info{{version="{phoenix.version}"}}'
    wait_until(lambda: job.metric(name) == 1, f"{phoenix.version} is never taken up: {job.said()}")


def model_of(cluster: Cluster, request: str, viewer: str) -> str:
    """Ask, and return the model of the answer."""
    cluster.publish(ask(request, viewer))
    return cluster.feeds([request])[request].feed.model


def never_back(cluster: Cluster, versions: Sequence[str]) -> None:
    """Fail where a partition has a feed of an older model after one of a newer."""
    places = [(one.partition, versions.index(one.feed.model)) for one in cluster.read("feeds") if one.feed.model]
    assert places == sorted(places)


def test_every_feed_is_that_of_the_model_it_names_alone(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], checkpoint: Path, tmp_path: Path
) -> None:
    cluster.publish(*WORLD)
    # Nobody is answered without the model, however busy the machine is.
    job = start_job("--set", "serving.deadline_ms=0").ready()
    digest = hashlib.sha256((tmp_path / "state" / "1.phoenix").read_bytes()).hexdigest()
    with Asking(cluster) as asking:
        wait_until(lambda: len(cluster.read("feeds")) > 20, "nothing is answered")
        cluster.publish(announced(models[1], "1.phoenix", sha256=digest))
        until_ranked_by(job, models[1])
        before = len(asking.requests)
        wait_until(lambda: len(asking.requests) > before + 20, "nobody asks any more")
    feeds = cluster.feeds(asking.requests)
    job.stop()

    versions = [models[0].version, models[1].version]
    assert {one.feed.model for one in feeds.values()} == set(versions)
    never_back(cluster, versions)
    assert all(len(some) == 1 for some in by_input(cluster.read("feeds")).values())
    assert cluster.read("dead-letters") == []
    # Each viewer asked once, so that a replay with one model alone makes the same feeds.
    log = write_log(
        tmp_path / "log.jsonl", [*WORLD, *(ask(r, f"viewer-{r[1:]}", explain=True) for r in asking.requests)]
    )
    parameters = DEFAULTS.overridden({"selection.candidates_max": 64})
    for phoenix, path in zip(models[:2], (checkpoint, tmp_path / "state" / "1.phoenix"), strict=True):
        out = tmp_path / phoenix.version
        replay(Replay(log, out, path, parameters))
        alone = {feed.request: feed for feed in decoded(out / FEEDS, Feed)}
        for request, one in feeds.items():
            same = what_ranks(one.feed) == what_ranks(alone[request])
            assert same == (one.feed.model == phoenix.version), request


def what_ranks(feed: Feed) -> list[object]:
    """Return posts, sources, scores and the model's outputs; counts come of a flow of their own on Kafka."""
    return [
        (item.post, item.source, item.score, item.explanation.probabilities if item.explanation else None)
        for item in feed.items
    ]


def test_what_cannot_be_taken_up_is_a_dead_letter_and_serving_goes_on(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], tmp_path: Path
) -> None:
    cluster.publish(*WORLD)
    job = start_job().ready()
    state = tmp_path / "state"
    raw = (state / "1.phoenix").read_bytes()
    (state / "cut.phoenix").write_bytes(raw[:-100])
    (state / "later.phoenix").write_bytes(reconfigured(raw, b'"format":1', b'"format":9'))
    refused = {
        announced(models[1], "none.phoenix"): "there is no such file",
        announced(models[1], "cut.phoenix"): "it is cut off or damaged",
        announced(models[1], "later.phoenix"): "it has format 9; this version reads format 1",
        announced(models[1], "1.phoenix", sha256="0" * 64): "another file than the one told of",
        announced(models[2], "1.phoenix"): f"it holds model {models[1].version}, not {models[2].version}",
        announced(models[1], "1.phoenix", cluster="experiment1"): "no cluster is called experiment1",
    }
    for number, (event, reason) in enumerate(refused.items(), start=1):
        cluster.publish(event)
        wait_until(lambda wanted=number: len(cluster.read("dead-letters")) == wanted, f"no dead letter: {reason}")
    about = by_input(cluster.read("dead-letters"))
    reasons = [
        one.letter.reason
        for one, *_ in sorted(about.values(), key=lambda some: some[0].headers["origin-timestamp"] or b"")
    ]
    assert len(reasons) == len(refused)
    for reason in refused.values():
        assert any(reason in told for told in reasons), reason
    assert job.metric("foryou_models_refused_total") == len(refused)
    assert model_of(cluster, "still", "ann") == models[0].version

    wrong = encode(announced(models[1], "1.phoenix"))
    cluster.send_raw("models", 0, b"other", wrong)
    cluster.send_raw("models", 0, b"prod", None)
    cluster.send_raw("models", 0, b"prod", encode(post(1)))
    cluster.flush()
    wait_until(
        lambda: len(cluster.read("dead-letters")) == len(refused) + 2, "a wrong key and a post are no dead letters"
    )
    cluster.publish(announced(models[1], str(state / "1.phoenix")))
    until_ranked_by(job, models[1])
    assert model_of(cluster, "then", "bob") == models[1].version
    job.stop()


def test_going_back_is_announcing_the_older_one(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], checkpoint: Path
) -> None:
    cluster.publish(*WORLD)
    job = start_job().ready()
    paths = ("1.phoenix", "2.phoenix", "1.phoenix", str(checkpoint))
    for number, (path, phoenix) in enumerate(zip(paths, (models[1], models[2], models[1], models[0]), strict=True)):
        cluster.publish(announced(phoenix, path))
        until_ranked_by(job, phoenix)
        assert model_of(cluster, f"r{number}", f"viewer-{number}") == phoenix.version
    job.stop()


def test_between_two_models_it_rests(cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix]) -> None:
    cluster.publish(*WORLD)
    job = start_job().ready()
    for phoenix, path in zip(models[1:], ("1.phoenix", "2.phoenix"), strict=True):
        cluster.publish(announced(phoenix, path))
        until_ranked_by(job, phoenix)
    job.stop()
    (first_at, first_s), (second_at, second_s) = (
        (datetime.fromisoformat(str(line["at"])).timestamp(), float(str(line["seconds"])))
        for line in job.all_logged("model_taken_up")
    )
    written_s = 0.1  # after the end that it tells of, a line is written; seconds are rounded
    assert second_at - second_s >= first_at + first_s - written_s


def test_a_job_that_begins_knows_what_was_announced_last(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], tmp_path: Path
) -> None:
    """The newest that can be taken up is in force before the first answer, whatever was announced before and after."""
    cluster.publish(*WORLD, announced(models[1], "1.phoenix"), announced(models[2], "2.phoenix"))
    cluster.publish(announced(models[1], "gone.phoenix"), ask("r1", "ann"))
    job = start_job()
    assert cluster.feeds(["r1"])["r1"].feed.model == models[2].version
    job.ready().stop()
    job.start()
    job.ready()
    assert model_of(cluster, "r2", "bob") == models[2].version
    job.stop()
    assert len(cluster.read("dead-letters")) == 1, "not again after a restart"

    (tmp_path / "state" / "2.phoenix").unlink()
    job.start()
    job.ready()
    gone = job.logged("model_in_force_is_gone")
    assert gone is not None
    assert (gone["model"], gone["goes_on_with"], gone["level"]) == (models[2].version, models[0].version, "error")
    assert model_of(cluster, "r3", "cat") == models[0].version
    job.stop()


@pytest.mark.parametrize("after_s", [0.1, 0.6, *(pytest.param(at, marks=pytest.mark.full) for at in (0.0, 0.3, 1.2))])
def test_killed_while_a_model_is_taken_up(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], after_s: float
) -> None:
    cluster.publish(*WORLD)
    job = start_job("--epoch", "0.2").ready()
    with Asking(cluster) as asking:
        wait_until(lambda: len(cluster.read("feeds")) > 5, "nothing is answered")
        cluster.publish(announced(models[1], "1.phoenix"))
        job.until_logged("model_announced")
        time.sleep(after_s)
        job.kill()
        job.start()
        job.ready()
        until_ranked_by(job, models[1])
        before = len(asking.requests)
        wait_until(lambda: len(asking.requests) > before + 10, "nobody asks any more")
    cluster.feeds(asking.requests)
    job.stop()
    never_back(cluster, [models[0].version, models[1].version])
    feeds = by_input(cluster.read("feeds"))
    assert len(feeds) == len(asking.requests)
    # A feed whose acknowledgement died with the job may come twice, as the same.
    assert all(len({one.value for one in some}) == 1 for some in feeds.values())
    assert cluster.read("dead-letters") == []


def test_instances_take_it_up_each_for_itself(
    cluster: Cluster, start_job: StartJob, models: Sequence[Phoenix], tmp_path: Path
) -> None:
    cluster.publish(*WORLD)
    jobs = [start_job("--instance", f"{k}/2").ready() for k in range(2)]
    cluster.publish(announced(models[1], "1.phoenix"))
    for job in jobs:
        until_ranked_by(job, models[1])
    cluster.publish(*(ask(f"r{number}", f"viewer-{number}") for number in range(20)))
    feeds = cluster.feeds([f"r{number}" for number in range(20)])
    assert {one.feed.model for one in feeds.values()} == {models[1].version}
    cluster.publish(announced(models[2], "gone.phoenix"))
    wait_until(lambda: all(job.metric("foryou_models_refused_total") == 1 for job in jobs), "not all refuse it")
    wait_until(lambda: len(cluster.read("dead-letters")) == 1, "one of them says so")
    for job in jobs:
        job.stop()
