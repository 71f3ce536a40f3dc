"""What requests notice of a model that is taken up: the case `swap`."""

import hashlib
import threading
import time
from pathlib import Path
from typing import Final

import jax
import numpy as np

from benchmarks.kafka.bench import Bench, Measured, Outcome, Session, Verdict
from benchmarks.kafka.cases import latency_row
from benchmarks.kafka.plans import Seconds
from infra.kafka.settings import open_producer, producer_settings
from infra.kafka.topics import Naming, key_and_partition
from models.phoenix import Phoenix
from schemas.codec import encode
from schemas.events import TOPIC_OF, ModelAnnounced

RATE_HZ: Final = 10.0
ANNOUNCED_AFTER_S: Final = 5.0
# How long is waited: more than it takes beside requests on two cores.
TAKEN_WITHIN_S: Final = 30.0
POSTS_PER_S: Final = 4_000
LONGER_MS: Final = 50.0


class Announcing(threading.Thread):
    """Announces a model after a while, and looks until it is taken up; times are Unix seconds, NaN before."""

    def __init__(self, session: Session, model: ModelAnnounced, within_s: float) -> None:
        super().__init__()
        self._session, self._model, self._within_s = session, model, within_s
        self.announced_s = self.taken_s = self.taking_s = float("nan")

    def run(self) -> None:
        """Announce and look."""
        time.sleep(ANNOUNCED_AFTER_S)
        naming = Naming(self._session.prefix)
        producer = open_producer(producer_settings(self._session.bench.address))
        key, partition = key_and_partition(self._model)
        producer.produce(naming.of(TOPIC_OF[ModelAnnounced]), encode(self._model), key, partition)
        producer.flush(10)
        self.announced_s = time.time()
        series = f'foryou_model_info{{version="{self._model.model}"}}'
        while time.time() - self.announced_s < self._within_s:
            metrics = self._session.job.metrics()
            if series in metrics:
                self.taken_s, self.taking_s = time.time(), metrics["foryou_model_swap_seconds"]
                return
            time.sleep(0.25)


def swap(bench: Bench) -> Outcome:
    """A model of the same shapes is taken up under requests: how much longer they wait meanwhile, what it costs."""
    outcome, sizes = Outcome(), bench.sizes
    session = bench.session(sizes.posts, sizes.viewers)
    session.run(RATE_HZ, sizes.window_s)  # for what a process takes once
    within_s = TAKEN_WITHIN_S + sizes.posts / POSTS_PER_S
    usual = session.run(RATE_HZ, sizes.window_s * sizes.windows)
    announcing = Announcing(session, _other(bench), within_s)
    announcing.start()
    during = session.run(RATE_HZ, ANNOUNCED_AFTER_S + within_s)
    announcing.join()
    before_ms = _waits_ms(usual, 0.0, np.inf)
    meanwhile_ms = _waits_ms(during, announcing.announced_s, announcing.taken_s)
    outcome.add("requests", latency_row("usual", usual))
    outcome.add("requests", latency_row("with a model taken up", during))
    more_cpu_s = during.job_cpu_s - usual.job_cpu_s * during.wall_s / usual.wall_s
    taken = {"posts": sizes.posts, "seconds": f"{announcing.taking_s:.1f}", "requests meanwhile": len(meanwhile_ms)}
    outcome.add("taking it up", taken | {"more CPU seconds": f"{more_cpu_s:.1f}"})
    p99s = [float(np.percentile(one, 99)) if len(one) else np.inf for one in (before_ms, meanwhile_ms)]
    measured = f"{p99s[1]:.0f} ms, usually {p99s[0]:.0f}; longest {max(meanwhile_ms, default=np.inf):.0f}"
    reached = p99s[1] <= p99s[0] + LONGER_MS
    outcome.verdicts.append(Verdict("p99 while it is taken up", measured, "<= 50 ms more", reached))
    return outcome


def _waits_ms(one: Measured, from_s: float, to_s: float) -> Seconds:
    """Return how long requests due between two Unix times waited, in milliseconds; infinite where nothing came."""
    due_s = one.told.start_s + one.told.due
    waits_ms = np.where(np.isnan(one.told.received), np.inf, one.told.received - one.told.due) * 1000
    return np.asarray(waits_ms[(due_s >= from_s) & (due_s <= to_s)])


def _other(bench: Bench) -> ModelAnnounced:
    """Return the announcement of a model with the same configuration as the one that serves, and other weights."""
    path: Path = bench.folder / "other.phoenix"
    phoenix = Phoenix.load(bench.checkpoint)
    parameters = phoenix.parameters
    moved = jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(1.01), parameters.two_tower)
    other = Phoenix(phoenix.config, parameters._replace(two_tower=moved))
    other.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelAnnounced(int(time.time() * 1000), other.version, str(path), digest)
