"""The blended feed: posts with what stands between them (x-algorithm.md 1.5, outer For You pipeline)."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from operators.keys import contains
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.modules import MODULES
from operators.pipeline.scorers import ScoreTable, best_first
from operators.posts.names import Names
from operators.viewers.query import Query
from operators.viewers.viewers import FATIGUED
from schemas.feeds import Feed, FeedItem, Module, ModuleKind, StageCount, Suggestion

# Modules that stand at a place of their own; of two for one place the first here has it, the other the next.
PLACED: Final[tuple[ModuleKind, ...]] = ("push_to_home", "prompt", "who_to_follow", "survey")
# Those that have no place in a feed without posts.
AMONG_POSTS: Final = frozenset({"who_to_follow", "survey"})


def suggestions(query: Query, table: CandidateTable, scores: ScoreTable, names: Names) -> tuple[Suggestion, ...]:
    """Return whom to follow: the strangers who wrote most of the best-ranked candidates, of equals the better ranked.

    Not whom the viewer follows, has muted or blocked, or who blocks the viewer.
    """
    blending, relations = query.parameters.blending, query.relations
    known = table.in_network | (table.author == np.uint64(query.request.viewer))
    for one in (relations.followed, relations.muted, relations.blocked, relations.blocked_by):
        known |= contains(one, table.author)
    posts_of: dict[int, list[int]] = {}
    for row in best_first(scores.value, table, blending.suggested_from).tolist():
        if not known[row]:
            posts_of.setdefault(int(table.author[row]), []).append(int(table.post[row]))
    # Sorting keeps equals as they are: by the rank of their best post.
    most = sorted(posts_of.items(), key=lambda pair: -len(pair[1]))
    found: list[Suggestion] = []
    for author, posts in most:
        name, spelled = names.original_id(author), [names.original_id(post) for post in posts]
        if name is not None and len(found) < blending.suggestions_max:
            count = "a post" if len(posts) == 1 else f"{len(posts)} posts"
            found.append(
                Suggestion(name, f"wrote {count} ranked for you", tuple(one for one in spelled if one is not None))
            )
    return tuple(found)


def blended(feed: Feed, query: Query, whom: tuple[Suggestion, ...], last_ms: tuple[int, ...]) -> Feed:
    """Return a feed with its modules, of which some were last shown at the times `last_ms`, in the order of FATIGUED.

    A post that is pinned does not come again among the posts.
    """
    given: dict[ModuleKind, list[Module]] = {one.name: [] for one in MODULES}
    for insert in query.request.event.inserts:
        given[insert.kind].append(Module(0, insert.kind, insert.id))
    if whom:
        given["who_to_follow"].append(Module(0, "who_to_follow", suggestions=whom))
    pinned = {one.id for one in given["push_to_home"]} if query.parameters.blending.push_to_home else set()
    items = tuple(item for item in feed.items if item.post not in pinned)
    modules = _in_place(query, items, {kind: _wanted(query, kind, some, last_ms) for kind, some in given.items()})
    shown = [one.kind for one in modules]
    counts = [StageCount(f"module.{kind}", len(some), shown.count(kind)) for kind, some in given.items() if some]
    return msgspec.structs.replace(feed, items=items, modules=modules, stages=(*feed.stages, *counts))


def _wanted(query: Query, kind: ModuleKind, some: list[Module], last_ms: tuple[int, ...]) -> list[Module]:
    """Return the modules of a kind that are not switched off, and were not shown to the viewer too recently."""
    blending = query.parameters.blending
    if not query.parameters.says(f"blending.{kind}"):
        return []
    if kind in FATIGUED:
        fatigue_s = {"who_to_follow": blending.who_to_follow_fatigue_s, "survey": blending.survey_fatigue_s}[kind]
        if 0 <= query.at_ms - last_ms[FATIGUED.index(kind)] < fatigue_s * 1000:
            return []
    return some


def _in_place(query: Query, items: Sequence[FeedItem], wanted: dict[ModuleKind, list[Module]]) -> tuple[Module, ...]:
    """Return the modules with their positions among posts and modules, from 0, in that order.

    One whose position lies behind the feed's end stands at its end.
    """
    blending = query.parameters.blending
    positions = {
        "push_to_home": 0,
        "prompt": blending.prompt_position,
        "who_to_follow": blending.who_to_follow_position,
        "survey": blending.survey_position,
    }
    # None stands for a post.
    sequence = _with_ads(items, wanted["ad"][: blending.ads_max], blending.ads_gap)
    kinds = sorted((kind for kind in PLACED if items or kind not in AMONG_POSTS), key=lambda kind: positions[kind])
    free = 0
    for module in [module for kind in kinds for module in wanted[kind]][: blending.modules_max]:
        place = min(max(positions[module.kind], free), len(sequence))
        sequence.insert(place, module)
        free = place + 1
    return tuple(
        msgspec.structs.replace(module, position=place) for place, module in enumerate(sequence) if module is not None
    )


def _with_ads(items: Sequence[FeedItem], ads: list[Module], gap: int) -> list[Module | None]:
    """Return posts, None each, and ads between them: at least `gap` posts before each, and none beside a notice."""
    sequence: list[Module | None] = []
    waiting, since = list(ads), 0
    for place, item in enumerate(items):
        safe = place > 0 and not item.interstitial and not items[place - 1].interstitial
        if waiting and since >= gap and safe:
            sequence.append(waiting.pop(0))
            since = 0
        sequence.append(None)
        since += 1
    return sequence
