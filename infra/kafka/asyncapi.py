"""The AsyncAPI document of the topics, from their table; `python -m infra.kafka.asyncapi` writes docs/asyncapi.json."""

import json
from pathlib import Path
from typing import Any, Final

from infra.kafka import headers
from infra.kafka.topics import PARTITIONS, TABLE, Topic
from schemas.json_schemas import DIALECT, types_by_topic

FILE: Final = Path(__file__).parents[2] / "docs" / "asyncapi.json"
SCHEMAS: Final = "../schemas/json"  # as seen from FILE
DIALECT_VERSION: Final = DIALECT.removeprefix("https://json-schema.org/draft/").removesuffix("/schema")
BINDING: Final = "0.5.0"  # of AsyncAPI's Kafka binding
KEYS: Final = {
    "author": "the author's id as text",
    "viewer": "the viewer's id as text",
    "change": 'what changes, as a JSON array: [viewer,"follow",author]; the partition is that of the viewer\'s id',
    "post": "the post's id as text",
    "cluster": "the name of the model that is replaced",
    "source": "the refused message's own key, on a partition of the same number",
}


def document() -> dict[str, Any]:
    """Return the document, after https://www.asyncapi.com/docs/reference/specification/v3.0.0."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "foryou-stream",
            "version": "1.0.0",
            "description": "Topics of the For You feed as a stream job. Values are JSON; a header names their schema.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TABLE},
        "operations": {_operation_name(topic): _operation(topic) for topic in TABLE},
        "components": {"messages": {topic.name: _message(topic) for topic in TABLE}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    config = topic.config()
    return {
        "address": topic.name,
        "description": topic.carries,
        "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": PARTITIONS,
                "topicConfiguration": {
                    "cleanup.policy": config["cleanup.policy"].split(","),
                    "retention.ms": int(config["retention.ms"]),
                    "max.message.bytes": int(config["max.message.bytes"]),
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation_name(topic: Topic) -> str:
    return f"{'send' if topic.ours else 'receive'}-{topic.name}"


def _operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send" if topic.ours else "receive",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.name}"}],
    }


def _message(topic: Topic) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": topic.name,
        "contentType": "application/json",
        "headers": _headers(topic),
        "bindings": {
            "kafka": {"key": {"type": "string", "description": KEYS[topic.key]}, "bindingVersion": BINDING},
        },
    }
    if topic.name in types_by_topic():
        message["payload"] = {
            "schemaFormat": f"application/schema+json;version={DIALECT_VERSION}",
            "schema": {"$ref": f"{SCHEMAS}/{topic.name}.json"},
        }
    return message


def _headers(topic: Topic) -> dict[str, Any]:
    """Return the schema of a topic's record headers: optional on what comes in, on what we write as we write them."""
    text = {"type": "string"}
    number = {"type": "string", "pattern": "^-?[0-9]+$"}
    properties: dict[str, Any] = {
        headers.SCHEMA: {"type": "string", "const": topic.schema},
        headers.TRACEPARENT: {"type": "string", "description": "W3C trace context"},
    }
    required = [headers.SCHEMA] if topic.ours else []
    if topic.name in ("feeds", "served", "shadow-scores", "dead-letters"):
        origin = {
            headers.ORIGIN_TOPIC: text,
            headers.ORIGIN_PARTITION: number,
            headers.ORIGIN_OFFSET: number,
            headers.ORIGIN_TIMESTAMP: number,
        }
        properties |= origin
        required += origin
    if topic.name == "dead-letters":
        properties[headers.REASON] = text
        required.append(headers.REASON)
    return {"type": "object", "properties": properties, "required": required}


def text() -> str:
    """Return the document as it stands in docs/asyncapi.json."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
