"""The columns of a training example, told once: of files of examples (flows/example_files.py), and of the messages
between serving and training (flows/learning/messages.py).

A column's kind is NumPy's, little-endian, with how many entries it has for each row: the viewer, each group of actions
of the history, each post. What stands here is part of both formats: where it changes, files and messages of before are
of another version.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from models.inputs import CO_LIKED, TERMS
from schemas.actions import COUNTS, VIEWER_COUNTS


class Kind(NamedTuple):
    """The kind of a column's entries, as NumPy names it, and how many entries there are for each row."""

    name: str
    many: int = 1


OF_GROUP: Final = {
    "post": Kind("<u8"), "author": Kind("<u8"), "terms": Kind("<u2", TERMS), "actions": Kind("<u4"),
    "dwell_s": Kind("<f4"), "surface": Kind("|u1"), "at_ms": Kind("<i8"),
}  # fmt: skip
OF_POST: Final = {
    "post": Kind("<u8"), "author": Kind("<u8"), "terms": Kind("<u2", TERMS), "created_ms": Kind("<i8"),
    "followed": Kind("|b1"), "has_video": Kind("|b1"), "counts": Kind("<u4", COUNTS),
    "co_liked": Kind("<u4", CO_LIKED),
}  # fmt: skip
LABELS: Final = {"actions": Kind("<u4"), "dwell_s": Kind("<f4")}
VIEWER_COLUMN: Final = "viewer_counts"

# By the names that columns have in files and messages, in the order of files.
FEATURES: Final[Mapping[str, Kind]] = {
    VIEWER_COLUMN: Kind("<u4", VIEWER_COUNTS),
    **{f"history_{name}": kind for name, kind in OF_GROUP.items()},
    **{f"posts_{name}": kind for name, kind in OF_POST.items()},
}
LABELLED: Final[Mapping[str, Kind]] = {**FEATURES, **{f"label_{name}": kind for name, kind in LABELS.items()}}
# Where nothing was counted, and nobody was asked, these have no entries at all.
MAY_LACK: Final = frozenset({"posts_counts", "posts_co_liked"})
