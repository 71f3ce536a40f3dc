"""Trace spans of requests with OpenTelemetry, an optional extra (`foryou-stream[tracing]`); nothing without it."""

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from infra.operations.logging import get_log

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE: Final = "foryou-stream"
TRACEPARENT: Final = "traceparent"
# The stages that follow each other within a request; other durations span several of them.
STAGES_IN_ORDER: Final = ("queue", "candidates", "filter", "rank", "slate")
# OpenTelemetry's own names: where spans go, and the switch that turns all of it off.
ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DISABLED_VARIABLE: Final = "OTEL_SDK_DISABLED"

log = get_log("tracing")


class Tracing:
    """Spans of requests, made afterwards from what each stage took. This one makes none, at no cost."""

    enabled: bool = False

    def request(
        self,
        traceparent: bytes | None,
        durations_s: Mapping[str, float],
        attributes: Mapping[str, str | int | float | bool] | None = None,
        ended_at_ns: int | None = None,
    ) -> bytes | None:
        """Record a request: a span for the whole, and one for each stage, laid one after the other up to its end.

        `traceparent` is the W3C header of the message (a broken one counts as none), `ended_at_ns` the time the answer
        was made, in nanoseconds since 1970 (now by default). Returns the header to send on with the answer.
        """
        return traceparent

    def close(self) -> None:
        """Send what has not been sent yet."""


class _Spans(Tracing):
    enabled = True

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.CONSUMER

    def request(
        self,
        traceparent: bytes | None,
        durations_s: Mapping[str, float],
        attributes: Mapping[str, str | int | float | bool] | None = None,
        ended_at_ns: int | None = None,
    ) -> bytes | None:
        from opentelemetry.trace import set_span_in_context

        end_ns = time.time_ns() if ended_at_ns is None else ended_at_ns
        stages = [(stage, int(durations_s[stage] * 1e9)) for stage in STAGES_IN_ORDER if stage in durations_s]
        whole_ns = max(int(durations_s.get("request", 0.0) * 1e9), sum(duration_ns for _, duration_ns in stages))
        carrier = {TRACEPARENT: traceparent.decode("ascii", "replace")} if traceparent else {}
        parent = self._propagator.extract(carrier)
        at_ns = end_ns - whole_ns
        span = self._tracer.start_span("request", parent, self._kind, dict(attributes or {}), start_time=at_ns)
        context = set_span_in_context(span, parent)
        if span.is_recording():
            for stage, duration_ns in stages:
                child = self._tracer.start_span(stage, context, start_time=at_ns)
                at_ns += duration_ns
                child.end(at_ns)
        span.end(end_ns)
        onward: dict[str, str] = {}
        self._propagator.inject(onward, context)
        return onward[TRACEPARENT].encode() if TRACEPARENT in onward else traceparent

    def close(self) -> None:
        self._provider.shutdown()


def tracing_to(provider: "TracerProvider") -> Tracing:
    """Return tracing into a provider of one's own."""
    return _Spans(provider)


def tracing_from_environment(instance: str = "0/1") -> Tracing:
    """Return tracing as OpenTelemetry's usual environment variables say: nothing where they name no endpoint.

    An endpoint without the extra installed is said in one warning; the job runs on without spans.
    """
    if not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return Tracing()
    if os.environ.get(DISABLED_VARIABLE, "").lower() == "true":
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("tracing_is_off", reason="an endpoint is set, but foryou-stream[tracing] is not installed")
        return Tracing()
    named = {"service.instance.id": instance}
    if "OTEL_SERVICE_NAME" not in os.environ:
        named["service.name"] = SERVICE
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _Spans(provider)
