"""What stands between the posts of the blended feed, each kind with its rule (x-algorithm.md 1.5)."""

from dataclasses import dataclass
from typing import Final

from operators.parameters import Parameters
from schemas.feeds import ModuleKind


@dataclass(frozen=True, slots=True)
class Blended:
    """A component of the blended feed: a kind of module, where it stands and how often."""

    name: ModuleKind
    rule: str
    reads: tuple[str, ...]

    @property
    def switch(self) -> str:
        """The parameter that says whether there is any."""
        return f"blending.{self.name}"

    @property
    def origin(self) -> str:
        """The section of X's publication."""
        return "1.5 blending"

    def enable(self, parameters: Parameters) -> bool:
        """Return whether there may be any."""
        return parameters.says(self.switch)


MODULES: Final[tuple[Blended, ...]] = (
    Blended(
        "ad",
        "Put the host's ads between posts, so many posts apart, and none beside a post that stands behind a notice.",
        ("blending.ads_max", "blending.ads_gap"),
    ),
    Blended("push_to_home", "Pin the post whose notification brought the viewer here to the top.", ()),
    Blended("prompt", "Put the host's prompt at its position, below what is pinned.", ("blending.prompt_position",)),
    Blended(
        "who_to_follow",
        "Suggest the strangers who wrote most of the best-ranked posts, unless that was done a short time ago.",
        (
            "blending.who_to_follow_position",
            "blending.who_to_follow_fatigue_s",
            "blending.suggestions_max",
            "blending.suggested_from",
        ),
    ),
    Blended(
        "survey",
        "Put the host's survey at its position, unless there was one a short time ago.",
        ("blending.survey_position", "blending.survey_fatigue_s"),
    ),
)
