"""What the models learn from: features as they were when a feed was ranked, and the examples made of them.

Columns have the names and the kinds that files of examples have (flows/example_files.py): `history_*` of the viewer's
action sequence, `posts_*` of the posts in the order they were served, `viewer_counts`, and `label_*` of an example.
Each is the bytes of a little-endian array (in JSON as base64).
"""

from msgspec import Struct

from schemas.events import TimeMs
from schemas.ids import Id


class ServedFeatures(Struct, tag_field="kind", tag="served_features", frozen=True, gc=False):
    """What the model saw of the posts of a feed, and of their viewer (topic served-features, key viewer).

    `at` is the request's time, `served_at` the job's own when the feed went out, in ms since 1970; `model` the version
    that ranked, or would have where the feed came too late for it.
    """

    at: TimeMs
    served_at: TimeMs
    request: Id
    viewer: Id
    model: str
    surface: int
    posts: tuple[Id, ...]
    columns: dict[str, bytes]


class TrainingExample(Struct, tag_field="kind", tag="training_example", frozen=True, gc=False):
    """A served feed with what came of each of its posts (topic training-examples, key viewer).

    `columns` are those of the features, with the labels. `closed_at` is the time after which nothing counted any more.
    """

    at: TimeMs
    served_at: TimeMs
    closed_at: TimeMs
    request: Id
    viewer: Id
    model: str
    surface: int
    posts: tuple[Id, ...]
    columns: dict[str, bytes]


class LateEngagement(Struct, tag_field="kind", tag="late_engagement", frozen=True, gc=False):
    """An engagement that came after its example was closed, or on nothing served (topic late-engagements, key viewer).

    `late_s` is how long after; `reason` says which of the two it is.
    """

    at: TimeMs
    viewer: Id
    post: Id
    action: str
    reason: str
    request: Id | None = None
    late_s: float = 0.0
