"""Parameters of the models: which of those that a job has loaded ranks, which lends an output, which only watches."""

from typing import Annotated

from msgspec import Struct

from operators.parameters.entries import meta

ORIGIN = "2023-generation.md 1"


class Models(Struct, frozen=True, forbid_unknown_fields=True):
    """The job's models by their names ("clusters"): `prod` is that of `--checkpoint`, others come with `--cluster`."""

    cluster: Annotated[str, meta("the model that ranks", ORIGIN)] = "prod"
    fallback: Annotated[
        str, meta("the model that ranks where the other fails; none: newest first", ORIGIN + ", the old model")
    ] = "prod"
    shadow: Annotated[tuple[str, ...], meta("models that score the same candidates, for comparison only", ORIGIN)] = ()
    shadow_rate: Annotated[
        float, meta("share of requests that they score, by a hash of the request's id", "not X's", ge=0, le=1)
    ] = 0.01


class Hybrid(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that each action's output is taken from; nothing said, it is the one that ranks."""

    favorite: Annotated[str, meta("", ORIGIN)] = ""
    reply: Annotated[str, meta("", ORIGIN)] = ""
    retweet: Annotated[str, meta("", ORIGIN)] = ""
    photo_expand: Annotated[str, meta("", ORIGIN)] = ""
    click: Annotated[str, meta("", ORIGIN)] = ""
    profile_click: Annotated[str, meta("", ORIGIN)] = ""
    vqv: Annotated[str, meta("video quality view", ORIGIN)] = ""
    share: Annotated[str, meta("", ORIGIN)] = ""
    share_via_dm: Annotated[str, meta("", ORIGIN)] = ""
    share_via_copy_link: Annotated[str, meta("", ORIGIN)] = ""
    dwell: Annotated[str, meta("", ORIGIN)] = ""
    quote: Annotated[str, meta("", ORIGIN)] = ""
    quoted_click: Annotated[str, meta("", ORIGIN)] = ""
    follow_author: Annotated[str, meta("", ORIGIN)] = ""
    not_interested: Annotated[str, meta("", ORIGIN)] = ""
    block_author: Annotated[str, meta("", ORIGIN)] = ""
    mute_author: Annotated[str, meta("", ORIGIN)] = ""
    report: Annotated[str, meta("", ORIGIN)] = ""
    dwell_time: Annotated[str, meta("", ORIGIN)] = ""

    def lent(self) -> dict[str, str]:
        """Return the model of each action that is taken from one by name."""
        return {action: name for action in self.__struct_fields__ if (name := getattr(self, action))}
