"""The JSON Schemas in the repository are those of the types, and say what the codec does."""

import json

import jsonschema
import msgspec
import pytest

from schemas import events
from schemas.codec import decode, encode
from schemas.json_schemas import FOLDER, files, schema_of

EXAMPLES = [
    events.PostCreated(at=1, post=2, author="did:plc:a", text="hello", topics=("cats",), reply_to=3),
    events.PostDeleted(at=1, post="p", author=2),
    events.PostLabelled(at=1, post=2, author=2, labels=("nsfw",)),
    events.AuthorLabelled(at=1, author=2, labels=("suspended", "withheld:DE")),
    events.Engagement(at=1, viewer=1, post=2, action="dwell_time", dwell_s=3.5),
    events.Follow(at=1, viewer=1, author=2, undo=True),
    events.Block(at=1, viewer=1, author=2),
    events.Mute(at=1, viewer=1, author=2),
    events.MuteKeyword(at=1, viewer=1, keyword="spoiler"),
    events.Subscribe(at=1, viewer=1, author=2),
    events.Profile(at=1, viewer=1, account_created_at=5, followers=7, country="DE", settings=("show_sensitive",)),
    events.UserDeleted(at=1, viewer=1),
    events.FeedRequest(at=1, request="r", viewer=1, seen_ids=(4,), parameters={"scoring.oon_factor": 0.5}),
    events.Served(at=1, request="r", viewer=1, posts=(1, "b")),
    events.ModelAnnounced(at=1, model="1f55ff932d4d", checkpoint="1f55ff932d4d.phoenix", sha256="0a" * 32),
]


def test_the_files_are_generated_from_the_types() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == files(), (
        "run python -m schemas.json_schemas"
    )


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_every_event_survives_a_round_trip_and_fits_its_schema(event: msgspec.Struct) -> None:
    line = encode(event)
    assert decode(line) == event
    jsonschema.validate(json.loads(line), schema_of(events.TOPIC_OF[type(event)]))


def test_every_kind_has_an_example() -> None:
    assert {type(event) for event in EXAMPLES} == set(events.TOPIC_OF)
