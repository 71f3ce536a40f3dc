"""Metrics count what they say, in bounded series, in Prometheus' own format."""

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.operations import Health, Metrics
from infra.operations.metric_set import REASONS_MAX
from infra.operations.metrics import OUTCOMES, STAGES


def read(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample that a Prometheus server would read."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one sample."""
    return read(metrics)[name, frozenset(labels.items())]


def test_stages_and_outcomes_are_there_before_the_first_request() -> None:
    metrics = Metrics()
    for stage in STAGES:
        assert value(metrics, "foryou_stage_seconds_count", stage=stage) == 0
    for outcome in OUTCOMES:
        assert value(metrics, "foryou_feeds_total", outcome=outcome) == 0


def test_stages_fall_into_buckets_fine_enough_to_tell_our_promises_apart() -> None:
    metrics = Metrics()
    metrics.observe_stages({"rank": 0.019, "request": 0.099, "a new stage": 0.1})
    assert value(metrics, "foryou_stage_seconds_bucket", stage="rank", le="0.015") == 0
    assert value(metrics, "foryou_stage_seconds_bucket", stage="rank", le="0.02") == 1
    assert value(metrics, "foryou_stage_seconds_bucket", stage="request", le="0.08") == 0
    assert value(metrics, "foryou_stage_seconds_bucket", stage="request", le="0.1") == 1
    assert value(metrics, "foryou_stage_seconds_sum", stage="a new stage") == 0.1


def test_an_outcome_must_be_one_of_ours() -> None:
    metrics = Metrics()
    metrics.count_feed("shed")
    assert value(metrics, "foryou_feeds_total", outcome="shed") == 1
    with pytest.raises(KeyError):
        metrics.count_feed("lost")


def test_dead_letters_count_by_reason_whatever_the_reason_quotes() -> None:
    metrics = Metrics()
    for quoted in range(1000):
        metrics.count_dead_letter("posts", f"Invalid enum value 'adore{quoted}' in line {quoted}")
    reason = "Invalid enum value '...' in line N"
    assert value(metrics, "foryou_dead_letters_total", topic="posts", reason=reason) == 1000


def test_hostile_reasons_make_no_more_series_than_allowed_and_none_is_lost() -> None:
    metrics = Metrics()
    letters = "abcdefghijklmnopqrstuvwxyz"
    reasons = [a + b + c for a in letters for b in letters for c in letters[:3]]
    for reason in reasons:
        metrics.count_dead_letter("posts", reason)
    metrics.count_dead_letter("posts", reasons[0])
    metrics.count_dead_letter("posts", "x" * 10_000_000)
    counted = {labels: count for (name, labels), count in read(metrics).items() if name == "foryou_dead_letters_total"}
    assert len(counted) == REASONS_MAX + 1
    assert sum(counted.values()) == len(reasons) + 2
    assert value(metrics, "foryou_dead_letters_total", topic="posts", reason=reasons[0]) == 2


def test_only_the_model_that_ranks_is_shown() -> None:
    metrics = Metrics()
    metrics.set_model("a")
    metrics.set_model("b")
    metrics.set_model("b")
    shown = [labels for (name, labels) in read(metrics) if name == "foryou_model_info"]
    assert shown == [frozenset({("version", "b")})]


def test_readiness_and_free_disk_are_as_they_are_when_read(tmp_path: Path) -> None:
    metrics, health = Metrics(), Health(("state", "kafka"))
    metrics.watch_health(health)
    metrics.watch_disk(tmp_path)
    assert value(metrics, "foryou_ready", condition="state") == 0
    health.set("state", True)
    assert value(metrics, "foryou_ready", condition="state") == 1
    assert value(metrics, "foryou_ready", condition="kafka") == 0
    assert value(metrics, "foryou_state_free_bytes") > 0


def test_what_is_not_known_yet_compares_with_no_threshold() -> None:
    recall = value(Metrics(), "foryou_index_recall")
    assert not recall < 0.9
    assert not recall >= 0.9


def test_instances_say_which_they_are_and_do_not_share_a_registry() -> None:
    first, second = Metrics(0, 2), Metrics(1, 2)
    first.commits.inc()
    assert value(first, "foryou_instance_info", ordinal="0", instances="2") == 1
    assert value(second, "foryou_instance_info", ordinal="1", instances="2") == 1
    assert value(second, "foryou_commits_total") == 0


def test_threads_lose_no_counts() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(2000):
            metrics.observe_stages({"rank": 0.01})
            metrics.count_dead_letter("posts", "bad")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "foryou_stage_seconds_count", stage="rank") == 8000
    assert value(metrics, "foryou_dead_letters_total", topic="posts", reason="bad") == 8000


def test_the_process_itself_is_measured() -> None:
    samples = read(Metrics())
    assert any(name == "python_info" for name, _ in samples)


def test_every_metric_is_described_with_its_labels() -> None:
    metrics = Metrics()
    described = {one.name: one for one in metrics.described()}
    assert described["foryou_dead_letters_total"].labels == ("topic", "reason")
    assert described["foryou_dead_letters_total"].kind == "counter"
    declared = {
        line.split()[2] for line in metrics.exposition().decode().splitlines() if line.startswith("# TYPE foryou_")
    }
    assert declared == set(described)
    assert all(one.help for one in described.values())
