"""Probes say what holds, over real HTTP."""

import http.client
import json
import socket
import time
from collections.abc import Iterator

import pytest

from infra.operations import Health, Metrics, OperationsRefused, OperationsServer, serve_operations
from infra.operations.health import CLIENTS_MAX, CONDITIONS


@pytest.fixture
def health() -> Health:
    """Return conditions of which none holds."""
    return Health(beat_limit_s=0.2)


@pytest.fixture
def server(health: Health) -> Iterator[OperationsServer]:
    """Return a server on a free port."""
    server = serve_operations(0, health, Metrics().exposition, host="127.0.0.1")
    yield server
    server.close()


def ask(server: OperationsServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Return status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_ready_only_when_all_conditions_hold(server: OperationsServer, health: Health) -> None:
    status, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body)["missing"] == dict.fromkeys(CONDITIONS, "not started")
    for condition in CONDITIONS:
        health.set(condition, True)
    assert ask(server, "/readyz")[0] == 200
    health.set("state", False, "loading 120,000 of 1,000,000 posts")
    status, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "missing": {"state": "loading 120,000 of 1,000,000 posts"}}


def test_lives_while_loading_and_as_long_as_the_loop_beats(server: OperationsServer, health: Health) -> None:
    time.sleep(0.3)
    assert ask(server, "/livez")[0] == 200, "the loop does not turn before all is loaded"
    health.beat()
    assert ask(server, "/livez")[0] == 200
    time.sleep(0.3)
    status, body = ask(server, "/livez")
    assert status == 503
    assert json.loads(body)["silent_s"] >= 0.2
    health.beat()
    assert ask(server, "/livez")[0] == 200


def test_metrics_are_served(server: OperationsServer) -> None:
    status, body = ask(server, "/metrics?name=all")
    assert status == 200
    assert b"foryou_stage_seconds_bucket" in body


def test_head_has_no_body_and_other_paths_say_what_is_here(server: OperationsServer) -> None:
    assert ask(server, "/metrics", "HEAD") == (200, b"")
    status, body = ask(server, "/health")
    assert status == 404
    assert b"/readyz" in body


def test_a_condition_must_be_declared(health: Health) -> None:
    with pytest.raises(ValueError, match="state, index, model, kafka"):
        health.set("stat", True)


def test_a_port_in_use_is_refused_with_a_way_out(server: OperationsServer, health: Health) -> None:
    with pytest.raises(OperationsRefused, match=rf"Port {server.port} .* is in use: give --port another, or 0"):
        serve_operations(server.port, health, bytes, host="127.0.0.1")


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_does_not_exist_is_refused(health: Health, port: int) -> None:
    with pytest.raises(OperationsRefused, match="from 0"):
        serve_operations(port, health, bytes)


def test_a_closed_server_frees_its_port(health: Health) -> None:
    first = serve_operations(0, health, bytes, host="127.0.0.1")
    first.close()
    serve_operations(first.port, health, bytes, host="127.0.0.1").close()


def test_silent_clients_can_not_pile_up(server: OperationsServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CLIENTS_MAX)]
    time.sleep(0.1)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(server, "/livez")
    for one in silent:
        one.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert ask(server, "/livez")[0] == 200
            return
        except (http.client.RemoteDisconnected, ConnectionResetError):
            time.sleep(0.02)
    pytest.fail("the places of clients that left are not given back")


def test_nonsense_is_answered_and_the_server_goes_on(server: OperationsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert client.recv(1000)
    assert ask(server, "/livez")[0] == 200
