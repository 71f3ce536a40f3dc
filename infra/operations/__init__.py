"""What a running job tells about itself: metrics, probes, log lines and trace spans."""

from infra.operations.health import Health, OperationsServer, serve_operations
from infra.operations.learning_metrics import JoinMetrics, LearnMetrics
from infra.operations.logging import Log, configure_logging, get_log
from infra.operations.metrics import Metrics
from infra.operations.refused import OperationsRefused
from infra.operations.tracing import Tracing, tracing_from_environment

__all__ = [
    "Health",
    "JoinMetrics",
    "LearnMetrics",
    "Log",
    "Metrics",
    "OperationsRefused",
    "OperationsServer",
    "Tracing",
    "configure_logging",
    "get_log",
    "serve_operations",
    "tracing_from_environment",
]
