"""Schemas are registered as the registry's documented API has it; a server that behaves like it stands in for one."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from infra.kafka import KafkaRefused
from infra.kafka.registry import register_schemas
from infra.kafka.topics import Naming
from schemas.json_schemas import schema_of, types_by_topic


class Registry(ThreadingHTTPServer):
    """What POST /subjects/{subject}/versions does, after docs.confluent.io: ids by schema, 409, 422 and 401."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.versions: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}
        self.frozen: set[str] = set()  # subjects whose schema may not change
        self.login = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def register(self, subject: str, schema: str) -> tuple[int, dict[str, Any]]:
        try:
            json.loads(schema)
        except ValueError:
            return 422, {"error_code": 42201, "message": "Invalid schema"}
        versions = self.versions.setdefault(subject, [])
        if schema not in versions:
            if subject in self.frozen:
                return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
            versions.append(schema)
        return 200, {"id": self.ids.setdefault(schema, len(self.ids) + 1)}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        registry = self.server
        assert isinstance(registry, Registry)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        steps = self.path.split("/")
        if registry.login and self.headers["Authorization"] != "Basic " + base64.b64encode(registry.login).decode():
            self.answer(401, {"error_code": 40101, "message": "Unauthorized"})
        elif len(steps) != 4 or (steps[1], steps[3]) != ("subjects", "versions"):
            self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})
        elif self.headers["Content-Type"] != "application/vnd.schemaregistry.v1+json":
            self.answer(415, {"error_code": 415, "message": "HTTP 415 Unsupported Media Type"})
        elif body.get("schemaType") != "JSON":
            self.answer(422, {"error_code": 42201, "message": "Invalid schema type"})
        else:
            self.answer(*registry.register(unquote(steps[2]), body["schema"]))

    def answer(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_topics_schema_is_registered_once(registry: Registry) -> None:
    ids = register_schemas(registry.url, Naming("test1"))
    assert set(ids) == {f"test1.{topic}-value" for topic in types_by_topic()}
    assert len(set(ids.values())) == len(ids)
    assert register_schemas(registry.url + "/", Naming("test1")) == ids
    assert {subject: [json.loads(one) for one in versions] for subject, versions in registry.versions.items()} == {
        f"test1.{topic}-value": [json.loads(json.dumps(schema_of(topic)))] for topic in types_by_topic()
    }


def test_a_schema_that_does_not_fit_is_refused_by_name(registry: Registry) -> None:
    registry.frozen.add("graph-value")
    with pytest.raises(
        KafkaRefused, match=r"^the schema of graph-value does not fit .*: Schema being .* incompatible$"
    ):
        register_schemas(registry.url)


def test_a_registry_behind_a_login(registry: Registry) -> None:
    registry.login = b"job:p@ss"
    with pytest.raises(KafkaRefused, match=r"^the schema registry at 127\.0\.0\.1 refuses .* \(401\): Unauthorized$"):
        register_schemas(registry.url)
    assert register_schemas(registry.url.replace("//", "//job:p%40ss@"))


def test_a_registry_that_is_not_there_or_none_at_all(registry: Registry) -> None:
    with pytest.raises(KafkaRefused, match=r"^the schema registry at 127\.0\.0\.1 can't be reached: .*refused"):
        register_schemas("http://127.0.0.1:1")
    with pytest.raises(KafkaRefused, match=r"\(404\): HTTP 404 Not Found$"):
        register_schemas(registry.url + "/elsewhere")
    for bad in ("localhost:8081", "file:///etc/passwd", "", "http://"):
        with pytest.raises(KafkaRefused, match="is no address of a schema registry"):
            register_schemas(bad)
