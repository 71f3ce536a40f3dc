"""Probes: whether the job lives, whether it is ready, and one small HTTP server for them and the metrics."""

import errno
import json
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from infra.operations.refused import OperationsRefused

CONDITIONS: Final = ("state", "index", "model", "kafka")
# The event loop turns every millisecond, a commit stalls it for tens; half a minute of nothing is a hang.
BEAT_LIMIT_S: Final = 30.0
# Who asks and then says nothing holds a thread for this long, and only so many do: probes must get through.
CLIENT_TIMEOUT_S: Final = 5.0
CLIENTS_MAX: Final = 16
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """What must hold for the job to be ready, and the beat of its event loop. For any thread."""

    def __init__(self, conditions: tuple[str, ...] = CONDITIONS, beat_limit_s: float = BEAT_LIMIT_S) -> None:
        """No condition holds yet; the loop is not watched before its first beat, as it does not turn while loading."""
        self.conditions = conditions
        self.beat_limit_s = beat_limit_s
        self._states = dict.fromkeys(conditions, (False, "not started"))
        self._beat_at_s: float | None = None

    def set(self, condition: str, holds: bool, detail: str = "") -> None:
        """Say whether a condition holds, and in words how far it is; raises ValueError for one not declared."""
        if condition not in self._states:
            raise ValueError(f"{condition!r} is no condition of readiness; they are {', '.join(self.conditions)}")
        self._states[condition] = (holds, detail)

    def holds(self, condition: str) -> bool:
        """Return whether a condition holds."""
        return self._states[condition][0]

    def missing(self) -> dict[str, str]:
        """Return the conditions that do not hold, each with how far it is; empty when the job is ready."""
        states = ((condition, self._states[condition]) for condition in self.conditions)
        return {condition: detail for condition, (holds, detail) in states if not holds}

    def beat(self) -> None:
        """Say that the event loop turned."""
        self._beat_at_s = time.monotonic()

    def silent_s(self) -> float:
        """Return the seconds since the last beat, 0 before the first."""
        beat_at_s = self._beat_at_s
        return 0.0 if beat_at_s is None else time.monotonic() - beat_at_s

    def lives(self) -> bool:
        """Return whether the event loop has beaten within the limit, or has not begun."""
        return self.silent_s() <= self.beat_limit_s


class OperationsServer:
    """/metrics, /livez and /readyz in a thread of their own, until closed."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="operations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_operations(
    port: int, health: Health, exposition: Callable[[], bytes], host: str = "0.0.0.0"
) -> OperationsServer:
    """Serve probes and metrics; port 0 takes any free one (see `.port`).

    `exposition` returns the metrics as text, such as `Metrics.exposition`. Raises OperationsRefused when the port can't
    be had.
    """
    try:
        return OperationsServer(_Server((host, port), health, exposition))
    except OverflowError:
        raise OperationsRefused(f"Port {port} does not exist: give --port one from 0 (any free) to 65535.") from None
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
        raise OperationsRefused(
            f"Port {port} of {host} for metrics and probes {reason}: give --port another, or 0 for any free one."
        ) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], health: Health, exposition: Callable[[], bytes]) -> None:
        self.health = health
        self.exposition = exposition
        self._places = threading.BoundedSemaphore(CLIENTS_MAX)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own also looks up the host's name, which can take seconds where names resolve slowly.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that went away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_TIMEOUT_S
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, METRICS_TYPE, self.server.exposition())
        elif path == "/livez":
            self._livez()
        elif path == "/readyz":
            missing = self.server.health.missing()
            self._json(503 if missing else 200, {"ready": not missing, "missing": missing})
        else:
            self._json(404, {"error": f"{path} is not here; /metrics, /livez and /readyz are"})

    do_HEAD = do_GET

    def _livez(self) -> None:
        health = self.server.health
        if health.lives():
            self._json(200, {"lives": True})
        else:
            self._json(503, {"lives": False, "silent_s": round(health.silent_s(), 1), "limit_s": health.beat_limit_s})

    def _json(self, status: int, content: dict[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(content).encode() + b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""
