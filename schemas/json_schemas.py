"""JSON Schemas of every topic, generated from the types; `python -m schemas.json_schemas` writes schemas/json/."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.events import TOPIC_OF, TOPICS
from schemas.feeds import DeadLetter, Feed, PostCounts, ShadowScores
from schemas.learning import LateEngagement, ServedFeatures, TrainingExample

FOLDER: Final = Path(__file__).parent / "json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def types_by_topic() -> dict[str, list[type[Struct]]]:
    """Return the types of messages on each topic."""
    by_topic: dict[str, list[type[Struct]]] = {topic: [] for topic in TOPICS}
    for kind, topic in TOPIC_OF.items():
        by_topic[topic].append(kind)
    return by_topic | {
        "feeds": [Feed],
        "post-counts": [PostCounts],
        "shadow-scores": [ShadowScores],
        "served-features": [ServedFeatures],
        "training-examples": [TrainingExample],
        "late-engagements": [LateEngagement],
        "dead-letters": [DeadLetter],
    }


def schema_of(topic: str) -> dict[str, Any]:
    """Return the JSON Schema of a topic's messages."""
    (schema,), components = msgspec.json.schema_components(
        [_union(types_by_topic()[topic])], ref_template="#/$defs/{name}"
    )
    return {"$schema": DIALECT, "title": topic, **schema, "$defs": dict(sorted(components.items()))}


def _union(types: list[type[Struct]]) -> Any:
    union: Any = types[0]
    for one in types[1:]:
        union |= one
    return union


def files() -> dict[str, str]:
    """Return the text of each schema file by name."""
    return {f"{topic}.json": json.dumps(schema_of(topic), indent=2) + "\n" for topic in types_by_topic()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
