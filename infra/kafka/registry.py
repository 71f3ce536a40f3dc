"""The JSON Schemas of the topics' messages in a schema registry, under the usual subject names."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from infra.kafka import KafkaRefused
from infra.kafka.topics import TABLE, Naming
from schemas.json_schemas import schema_of, types_by_topic

TIMEOUT_S: Final = 5.0
CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


def subject_of(topic: str) -> str:
    """Return the subject of a topic's values, by the registry's TopicNameStrategy."""
    return f"{topic}-value"


def register_schemas(url: str, naming: Naming | None = None) -> dict[str, int]:
    """Register each topic's schema at a registry and return the ids by subject; the same schema keeps its id.

    `url` may carry a user and password (`https://user:password@host`). Raises KafkaRefused where the registry can't
    be reached or refuses: a schema that is not compatible with what is registered (409), an invalid one (422).
    """
    naming = naming or Naming()
    with_types = types_by_topic()
    return {
        subject_of(naming.of(topic.name)): _register(url, subject_of(naming.of(topic.name)), topic.name)
        for topic in TABLE
        if topic.name in with_types
    }


def _register(url: str, subject: str, topic: str) -> int:
    body = json.dumps({"schemaType": "JSON", "schema": json.dumps(schema_of(topic))}).encode()
    request = _request(url, f"/subjects/{quote(subject, safe='')}/versions", body)
    host = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return int(json.load(response)["id"])
    except urllib.error.HTTPError as error:
        with error:
            said = _message(error.read())
        if error.code == 409:
            raise KafkaRefused(f"the schema of {subject} does not fit what the registry holds: {said}") from None
        raise KafkaRefused(f"the schema registry at {host} refuses {subject} ({error.code}): {said}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise KafkaRefused(f"the schema registry at {host} can't be reached: {reason}.") from None
    except (ValueError, KeyError, TypeError):
        raise KafkaRefused(f"what answers at {host} is no schema registry: it gives {subject} no id.") from None


def _request(url: str, path: str, body: bytes) -> urllib.request.Request:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KafkaRefused(f"{url!r} is no address of a schema registry: give one as in http://localhost:8081.")
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + path, "", ""))
    headers = {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return urllib.request.Request(plain, body, headers, method="POST")


def _message(body: bytes) -> str:
    """Return what a registry says of an error, else the start of what it sent."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or "it gives no reason"
