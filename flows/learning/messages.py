"""What goes between serving and training: what the model saw of a served feed, and that with what came of it.

Columns are the arrays that `Phoenix.rank` was given, bit for bit, of the posts served: nothing is looked up again, so
there can't be a difference between what ranked and what is learned from. Names and kinds are those of files of examples
(flows/example_files.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from flows.example_columns import FEATURES, LABELLED, LABELS, MAY_LACK, OF_GROUP, OF_POST, VIEWER_COLUMN, Kind
from flows.training_examples import Example
from models.inputs import Candidates, Context, History
from operators.keys import keys_of
from operators.pipeline.surfaces import surface_of
from operators.ranked import Ranked
from schemas.actions import ACTIONS, SURFACES
from schemas.codec import Refused
from schemas.feeds import Feed
from schemas.ids import key_of
from schemas.learning import ServedFeatures, TrainingExample

# Values of a column are below this, where not every one of its kind can be.
_BELOW: Final = {
    "history_surface": SURFACES, "history_actions": 1 << len(ACTIONS), "label_actions": 1 << len(ACTIONS),
}  # fmt: skip

Column = npt.NDArray[Any]
Message = TypeVar("Message", ServedFeatures, TrainingExample)
_features = msgspec.json.Decoder(ServedFeatures)
_examples = msgspec.json.Decoder(TrainingExample)


def features_of(ranked: Ranked, feed: Feed) -> ServedFeatures | None:
    """Return what the model saw of the posts of a feed, in the order served, and of their viewer; of `served_at` the
    request's time.

    What is done on a feed that came too late for the model is as true: those are what it would have seen. None for
    other feeds that no model has ranked for itself (shed, from a cached slate, newest first, scores of posts) and for
    one without posts. What is pinned to a feed has not been ranked, and is not in it.
    """
    query, surface = ranked.query, surface_of(ranked.query)
    would_be_ranked = surface.ranked and not surface.each_alone and query.slate is None
    if not feed.items or not would_be_ranked or (ranked.probabilities is None and not query.late):
        return None
    posts = tuple(item.post for item in feed.items)
    rows = (ranked.table.post == keys_of(posts)[:, None]).argmax(axis=1)
    context, shown = query.context, ranked.table.rank_columns().take(rows)
    values = {VIEWER_COLUMN: context.counts}
    values |= {f"history_{name}": getattr(context.history, name) for name in OF_GROUP}
    values |= {f"posts_{name}": getattr(shown, name) for name in OF_POST}
    event = query.request.event
    return ServedFeatures(
        at=event.at,
        served_at=event.at,
        request=event.request,
        viewer=event.viewer,
        model=ranked.model,
        surface=event.surface,
        posts=posts,
        columns={name: _bytes(column, FEATURES[name]) for name, column in values.items()},
    )


def labelled(
    features: ServedFeatures, closed_at: int, actions: Sequence[int], dwell_s: Sequence[float]
) -> TrainingExample:
    """Return a served feed with what came of it until `closed_at` (ms): for each post its actions, as bits by the
    order of schemas.actions.ACTIONS, and the longest dwell time in seconds.
    """
    came = {"actions": np.array(actions), "dwell_s": np.array(dwell_s)}
    labels = {f"label_{name}": _bytes(came[name], kind) for name, kind in LABELS.items()}
    return TrainingExample(
        at=features.at,
        served_at=features.served_at,
        closed_at=closed_at,
        request=features.request,
        viewer=features.viewer,
        model=features.model,
        surface=features.surface,
        posts=features.posts,
        columns={**features.columns, **labels},
    )


def example_of(message: TrainingExample) -> Example:
    """Return a message as trainers take it; one that did not come through `decode_example` must be whole."""
    columns = message.columns
    history = {name: _column(columns, f"history_{name}") for name in OF_GROUP}
    posts = {name: _column(columns, f"posts_{name}") for name in OF_POST}
    return Example(
        context=Context(
            key_of(message.viewer), History(**history), message.at, message.surface, _column(columns, VIEWER_COLUMN)
        ),
        posts=Candidates(**posts),
        actions=_column(columns, "label_actions"),
        dwell_s=_column(columns, "label_dwell_s"),
        shown=True,
    )


def decode_features(raw: bytes) -> ServedFeatures:
    """Return the features of one JSON text. Raises Refused for anything but features that a model can have seen."""
    return _checked(_features, raw, FEATURES)


def decode_example(raw: bytes) -> TrainingExample:
    """Return the example of one JSON text. Raises Refused for anything but one that a model can learn from."""
    return _checked(_examples, raw, LABELLED)


def _checked(decoder: "msgspec.json.Decoder[Message]", raw: bytes, kinds: Mapping[str, Kind]) -> Message:
    try:
        message = decoder.decode(raw)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise Refused(reason, path.rstrip("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    if not message.posts:
        raise Refused("no posts", "$.posts")
    if not 0 <= message.surface < SURFACES:
        raise Refused(f"surface {message.surface}: surfaces are 0 to {SURFACES - 1}", "$.surface")
    if message.columns.keys() != kinds.keys():
        odd = min(message.columns.keys() ^ kinds.keys())
        raise Refused("column is missing" if odd in kinds else "no such column", f"$.columns.{odd}")
    groups = len(message.columns["history_post"]) // 8
    rows = {"viewer": 1, "history": groups, "posts": len(message.posts), "label": len(message.posts)}
    for name, kind in kinds.items():
        _check_column(name, message.columns[name], kind.name, rows[name.partition("_")[0]] * kind.many)
    return message


def _check_column(name: str, raw: bytes, kind: str, entries: int) -> None:
    """Raise Refused for a column of another length, and for values that can't be."""
    path, dtype = f"$.columns.{name}", np.dtype(kind)
    if len(raw) != entries * dtype.itemsize and not (name in MAY_LACK and not raw):
        raise Refused(f"{len(raw)} bytes; {entries} entries of {dtype.itemsize} bytes are needed", path)
    values = np.frombuffer(raw, "|u1" if dtype.kind == "b" else dtype)
    if dtype.kind == "f" and not (np.isfinite(values) & (values >= 0)).all():
        raise Refused(f"it holds {values[~(np.isfinite(values) & (values >= 0))][0]}", path)
    below = 2 if dtype.kind == "b" else _BELOW.get(name)
    if below is not None and len(values) and values.max() >= below:
        raise Refused(f"it holds {values.max()}; values are below {below}", path)


def _bytes(values: Column, kind: Kind) -> bytes:
    return np.ascontiguousarray(values, kind.name).tobytes()


def _column(columns: Mapping[str, bytes], name: str) -> Column:
    """Return a column of a message, with a row for each group or post."""
    kind, many = LABELLED[name]
    values = np.frombuffer(columns[name], kind)
    return values if many == 1 or name == VIEWER_COLUMN else values.reshape(-1, many)
