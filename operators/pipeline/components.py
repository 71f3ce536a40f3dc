"""All components of each feed in the order they run, as documents and the command line tell of them."""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from operators.parameters import Parameters
from operators.pipeline.candidates import CACHED_SLATE
from operators.pipeline.filters import Filter
from operators.pipeline.modules import Blended
from operators.pipeline.scorers import Scorer
from operators.pipeline.selection import PostSelection, visibility
from operators.pipeline.sources import Source
from operators.pipeline.surfaces import SURFACES, Surface
from operators.visibility import DEFAULT, VisibilityRules


class Component(Struct, frozen=True):
    """One component: its stage, name, rule in a sentence, origin, the parameter that switches it, those it goes by."""

    stage: str
    name: str
    rule: str
    origin: str
    switch: str = ""
    reads: tuple[str, ...] = ()

    def runs(self, parameters: Parameters) -> bool:
        """Return whether it is switched on."""
        return parameters.says(self.switch)


MODEL: Final = Component(
    "scorer",
    "phoenix",
    "Predict for each candidate what the viewer will do with it.",
    "1.5, 3",
    reads=("models.cluster", "models.fallback", "selection.candidates_max", "serving.deadline_ms"),
)
HYBRID: Final = Component(
    "scorer",
    "hybrid",
    "Take the outputs of those actions that name another model (`hybrid.favorite` and so on) from that one.",
    "2023-generation.md 1",
)
VALUE: Final = Component(
    "scorer",
    "weighted_sum",
    "Sum the outputs times their weights; vqv counts for long videos only, replies to mutual follows count more.",
    "1.3, 1.5 item 1",
    reads=("scoring.reply_mutual_follow_boost", "scoring.video_ms_min", "scoring.video_followers_max"),
)
SELECTOR: Final = Component(
    "selector",
    "top_k",
    "Take the best by score; ties go to the newest, then to the highest id.",
    "1.5 selector",
    reads=("selection.top_k",),
)
NEWEST: Final = Component("selector", "newest", "Take the newest.", "1.5 following", reads=("selection.top_k",))
TRUNCATE: Final = Component(
    "result", "truncate", "Cut to the length asked for.", "1.5", reads=("selection.result_size",)
)
SIDE_EFFECTS: Final = (
    Component(
        "side effect",
        "served",
        "Remember what was served, and tell everybody.",
        "1.5 side effects",
        reads=("filters.served_window_s", "filters.served_max"),
    ),
    Component(
        "side effect",
        "shadow",
        "Let other models score the same candidates, and log what all of them say, for comparison.",
        "2023-generation.md 1",
        switch="models.shadow",
        reads=("models.shadow_rate",),
    ),
    Component(
        "side effect",
        "session",
        "Remember what the session has shown, and give the feed the cursor of its next page where anything is left.",
        "1.5, bottom requests; not X's",
        "pagination.enabled",
        ("pagination.ttl_s", "pagination.sessions_max", "pagination.shown_max"),
    ),
)


KEEP_SLATE: Final = Component(
    "side effect",
    "keep_slate",
    "Keep the best candidates with the model's outputs for the source `cached_slate`.",
    "1.5 side effects",
    switch="cached_slate.enabled",
    reads=("cached_slate.kept_max",),
)


def components(parameters: Parameters, visibility: VisibilityRules = DEFAULT, feed: str = "for_you") -> list[Component]:
    """Return every component of a feed in the order in which it runs, those switched off among them.

    The rules of visibility stand behind the filter that asks them.
    """
    return list(_in_order(parameters, visibility, SURFACES[feed]))


def _in_order(parameters: Parameters, rules: VisibilityRules, surface: Surface) -> Iterator[Component]:
    yield from (_told("source", one) for one in surface.sources)
    yield from (_told("filter", one) for one in surface.filters)
    yield from (MODEL, HYBRID) * surface.ranked
    yield from (_told("filter at the slate", one) for one in surface.at_the_slate)
    yield from (VALUE,) * surface.ranked
    yield from (_told("scorer", one) for one in surface.scorers(parameters))
    yield from (SELECTOR if surface.ranked else NEWEST,) * (not surface.each_alone)
    for last in surface.post_selection:
        yield _told("filter after selection", last)
        if last.keeps is visibility:
            yield from (Component("rule", one.name, one.said(), "1.7", last.switch) for one in rules.rules)
            stricter = "rule for recommendations"
            yield from (Component(stricter, one.name, one.said(), "1.7", last.switch) for one in rules.recommended)
    if not surface.each_alone:
        yield msgspec.structs.replace(TRUNCATE, reads=(surface.size,))
        yield from (_told("module", one) for one in surface.modules)
        yield from SIDE_EFFECTS
    if any(one.code == CACHED_SLATE for one in surface.sources):
        yield KEEP_SLATE


def _told(stage: str, one: Source | Filter | Scorer | PostSelection | Blended) -> Component:
    return Component(stage, one.name, one.rule, one.origin, one.switch, one.reads)
