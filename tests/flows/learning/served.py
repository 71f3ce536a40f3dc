"""Features of feeds by hand."""

import numpy as np

from flows.example_columns import OF_GROUP, OF_POST, VIEWER_COLUMN
from operators.keys import keys_of
from schemas.actions import VIEWER_COUNTS
from schemas.ids import Id
from schemas.learning import ServedFeatures


def served(request: Id, viewer: Id, posts: tuple[Id, ...], at_ms: int) -> ServedFeatures:
    """Return features of a feed of these posts, all zeros but the posts, of a viewer who has done nothing yet."""
    columns = {f"history_{name}": b"" for name in OF_GROUP} | {VIEWER_COLUMN: bytes(4 * VIEWER_COUNTS)}
    for name, (kind, many) in OF_POST.items():
        columns[f"posts_{name}"] = bytes(len(posts) * many * np.dtype(kind).itemsize)
    columns["posts_post"] = keys_of(posts).tobytes()
    return ServedFeatures(at_ms, at_ms, request, viewer, "model", 1, posts, columns)
