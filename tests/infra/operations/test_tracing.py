"""Spans tell where a request spent its time, as part of the trace it came with; without an endpoint, none are made."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra.operations import Tracing, tracing_from_environment
from infra.operations.tracing import ENDPOINT_VARIABLES, STAGES_IN_ORDER, tracing_to

DURATIONS_S = {
    "queue": 0.001,
    "candidates": 0.002,
    "filter": 0.003,
    "rank": 0.02,
    "slate": 0.004,
    "request": 0.031,
    "end_to_end": 0.05,
}
END_NS = 1_767_800_000_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return where spans go in a test."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    """Return tracing into it."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = tracing_to(provider)
    yield tracing
    tracing.close()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans made."""
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_one_span_with_its_stages_one_after_the_other(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    tracing.request(PARENT, DURATIONS_S, {"foryou.viewer": "7", "foryou.outcome": "ranked"}, END_NS)
    spans = by_name(exporter)
    assert set(spans) == {"request", *STAGES_IN_ORDER}
    whole = spans["request"]
    assert (whole.end_time, whole.start_time) == (END_NS, END_NS - 31_000_000)
    assert whole.attributes == {"foryou.viewer": "7", "foryou.outcome": "ranked"}
    at_ns = whole.start_time
    for stage in STAGES_IN_ORDER:
        assert spans[stage].start_time == at_ns
        at_ns += int(DURATIONS_S[stage] * 1e9)
        assert spans[stage].end_time == at_ns
        assert spans[stage].parent is not None
        assert spans[stage].parent.span_id == whole.context.span_id
    assert at_ns <= END_NS


def test_the_trace_of_the_message_goes_on_with_the_answer(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    onward = tracing.request(PARENT, DURATIONS_S)
    span = by_name(exporter)["request"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert onward == f"00-{TRACE}-{span.context.span_id:016x}-01".encode()


def test_a_message_that_is_not_to_be_sampled_is_not(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    onward = tracing.request(PARENT[:-1] + b"0", DURATIONS_S)
    assert not exporter.get_finished_spans()
    assert onward is not None
    assert onward.endswith(b"-00")


@pytest.mark.parametrize("header", [None, b"", b"\xff\xfe", b"00-zz-zz-01", PARENT + b"-more", PARENT[:20]])
def test_a_broken_or_missing_header_begins_a_trace(
    tracing: Tracing, exporter: InMemorySpanExporter, header: bytes | None
) -> None:
    tracing.request(header, {})
    span = by_name(exporter)["request"]
    assert span.parent is None


def test_without_an_endpoint_nothing_is_made_or_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    tracing = tracing_from_environment()
    assert not tracing.enabled
    assert tracing.request(PARENT, DURATIONS_S) == PARENT
    tracing.close()


def test_an_endpoint_without_the_extra_is_said_and_the_job_runs_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLES[0], "http://127.0.0.1:1/v1/traces")
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert not tracing_from_environment().enabled
    assert [record.message for record in caplog.records] == ["tracing_is_off"]


def test_spans_reach_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
        tracing = tracing_from_environment("1/2")
        assert tracing.enabled
        tracing.request(PARENT, DURATIONS_S)
        tracing.close()
        server.shutdown()
        thread.join()
    (path, body) = received[0]
    assert path == "/v1/traces"
    assert bytes.fromhex(TRACE) in body
    assert b"foryou-stream" in body
    assert b"1/2" in body


def test_the_switch_of_opentelemetry_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing_from_environment().enabled
