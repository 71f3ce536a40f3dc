"""Parameters of what is kept: action sequences and live posts."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """The viewer's action sequence."""

    groups_max: Annotated[int, meta("groups of actions kept per viewer", "1.5; 128 as 3.1", "job", ge=1, le=1024)] = 128
    taste_change_odds: Annotated[
        float,
        meta(
            "groups before a change of taste are not read, where one is so many times likelier than none; 0: never",
            "ours, measured",
            ge=0.0,
        ),
    ] = 0.0
    window_s: Annotated[
        int, meta("actions on one post within this time form one group", "1.5, 300,000 ms", "job", ge=0)
    ] = 300


class Posts(Struct, frozen=True, forbid_unknown_fields=True):
    """The live posts."""

    retention_s: Annotated[int, meta("how long a post stays live", "2.2", "job", ge=1)] = 172_800
