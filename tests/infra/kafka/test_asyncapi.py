"""The AsyncAPI document is that of the table, and all it points at is there."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from infra.kafka.asyncapi import FILE, document, text
from infra.kafka.headers import origin_headers, schema_header
from infra.kafka.topics import TABLE
from schemas.json_schemas import types_by_topic


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for one in node:
            yield from references(one)


def test_the_document_is_written_from_the_table() -> None:
    assert FILE.read_text() == text(), "run python -m infra.kafka.asyncapi"


def test_every_topic_is_in_with_its_schema_and_direction() -> None:
    found = json.loads(FILE.read_text())
    assert found["asyncapi"] == "3.0.0"
    assert list(found["channels"]) == [topic.name for topic in TABLE]
    assert {name for name, one in found["components"]["messages"].items() if "payload" in one} == set(types_by_topic())
    directions = {one["channel"]["$ref"].rpartition("/")[2]: one["action"] for one in found["operations"].values()}
    assert directions == {topic.name: "send" if topic.ours else "receive" for topic in TABLE}


def test_every_reference_leads_somewhere() -> None:
    found = document()
    targets = list(references(found))
    assert len(targets) > 3 * len(TABLE)
    for target in targets:
        if target.startswith("#/"):
            node: Any = found
            for step in target[2:].split("/"):
                node = node[step]
        else:
            json.loads((FILE.parent / target).read_text())


@pytest.mark.parametrize("topic", ["feeds", "dead-letters"])
def test_the_headers_we_write_are_those_documented(topic: str) -> None:
    (row,) = (one for one in TABLE if one.name == topic)
    schema = document()["components"]["messages"][topic]["headers"]
    reason = "not JSON" if topic == "dead-letters" else ""
    written = dict([schema_header(row.schema), *origin_headers("posts", 3, 7, 1_700_000_000_000, reason)])
    assert set(written) <= set(schema["properties"])
    jsonschema.validate({name: value.decode() for name, value in written.items()}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)
