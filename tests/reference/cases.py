"""Random requests: a universe of a few posts and people in which everything meets everything, and random parameters.

A case is plain facts. `as_query`, `as_table` and the like put the same facts into the product's columns.
"""

import random
import struct
from dataclasses import replace
from typing import Any

import numpy as np

from models.content import content_terms
from models.inputs import TERMS, Context, History
from operators.parameters import DEFAULTS, ENTRIES, Parameters, Value
from operators.pipeline.candidates import SOURCES, CandidateTable
from operators.presets import NAMES, preset
from operators.viewers.query import Query
from operators.viewers.relations import Relations
from operators.viewers.viewers import Viewers
from schemas.actions import ACTION_INDEX, ACTIONS, COUNT_NAMES, COUNTS
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table
from tests.reference.filters import FILTERS, Case, Post, in_network

HOUR_MS = 3_600_000
PEOPLE = range(1, 10)  # the viewer is 7 of them
TOPICS = ("cats", "chess", "cycling")
DIMENSIONS = 48
# What is brought again from an earlier slate stands under its first source, and names are asked for elsewhere.
BROUGHT_BY = ("thunder", "phoenix_retrieval", "simclusters", "co_likers", "popular", "fresh")
NEGATIVE = ("not_interested", "block_author", "mute_author", "report")


def float32(value: float) -> float:
    """The nearest number that 32 bits hold: the model's outputs are such."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def some(rng: random.Random, share: float) -> set[int]:
    return {person for person in PEOPLE if person != VIEWER and rng.random() < share}


def draw_probabilities(rng: random.Random) -> dict[str, float]:
    values = {action: float32(rng.random() ** 3) if rng.random() < 0.8 else 0.0 for action in ACTIONS}
    values |= {action: float32(rng.random() ** 4 * rng.choice([0.0, 0.001, 0.1])) for action in NEGATIVE}
    return values | {"dwell_time": float32(rng.random() * 30)}


def draw_vector(rng: random.Random) -> list[float] | None:
    if rng.random() < 0.1:
        return None
    values = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
    size = sum(value * value for value in values) ** 0.5
    return [float32(value / size) for value in values]


def draw_post(rng: random.Random, identity: int, posts: int, quiet: bool, usual: dict[str, float]) -> Post:
    kind = rng.choices(["original", "repost", "reply", "quote"], [7, 2, 1, 1])[0]
    others = [one for one in range(1, posts + 5) if one != identity]
    reply = kind == "reply"
    return {
        "id": identity,
        "author": 0 if rng.random() < 0.02 else rng.choice(PEOPLE),
        "created_ms": NOW_MS - rng.choice([0, 0, 0, 1, 1, 2, 3, 24, 47, 48, 49]) * HOUR_MS - rng.randrange(2),
        "source": rng.choice(BROUGHT_BY),
        "repost_of": rng.choice(others) if kind == "repost" else 0,
        "original_author": rng.choice(PEOPLE) if kind == "repost" else 0,
        "reply_to": rng.choice(others) if reply else 0,
        "reply_author": rng.choice(PEOPLE) if reply else 0,
        "parent_is_live": reply and rng.random() < 0.8,
        "conversation": rng.choice([0, *others[:6]]) if reply else 0,
        "quote_author": rng.choice(PEOPLE) if kind == "quote" else 0,
        "has_video": rng.random() < 0.3,
        "video_ms": rng.choice([0, 9_999, 10_000, 10_001, 60_000]),
        "subscribers_only": rng.random() < 0.1,
        "topics": rng.sample(TOPICS, rng.randrange(3)),
        "verdict": rng.choices([0, 1, -2], [8, 1, 1])[0],
        "ancillary_verdict": rng.choices([0, 1], [9, 1])[0],
        "muted": rng.random() < 0.05,
        "followers": rng.choice([None, 0, 999, 1000, 1001, 50_000]),
        "followings": rng.choice([None, 0, 500, 501, 1000, 9_999]),
        "verified": rng.random() < 0.2,
        "interest": rng.choice([None, 0.0, 0.03, 0.4, 0.6]),
        "views": rng.choice([0, 1, 999, 1000, 5000]),
        "favorites": 0 if quiet and rng.random() < 0.95 else rng.choice([0, 0, 1, 2, 3, 700]),
        "replies": 0 if quiet else rng.choice([0, 0, 5]),
        "probabilities": usual if rng.random() < 0.3 else draw_probabilities(rng),
        "vector": draw_vector(rng),
    }


def draw_viewer(rng: random.Random, posts: int) -> dict[str, Any]:
    young, busy = rng.random() < 0.3, rng.choice([0.05, 0.5])
    return {
        "id": VIEWER,
        "followed": some(rng, 0.7),
        "followed_by": some(rng, 0.5),
        "blocked": some(rng, 0.04),
        "blocked_by": some(rng, 0.04),
        "muted": some(rng, 0.04),
        "subscribed": some(rng, 0.5),
        "followers": rng.choice([0, 9_999, 10_000]),
        "created_ms": rng.choice([None, NOW_MS - 400 * 24 * HOUR_MS]) if not young else NOW_MS - rng.randrange(HOUR_MS),
        "seen": {one for one in range(1, posts + 5) if rng.random() < 0.05},
        "engaged": {one for one in range(1, posts + 5) if rng.random() < 0.05},
        "served": {one for one in range(1, posts + 5) if rng.random() < busy},
        "disliked": [(rng.choice(PEOPLE), NOW_MS - rng.randrange(200) * 24 * HOUR_MS) for _ in range(rng.randrange(4))],
        "counts": {name: rng.choice([0, 1, 50]) for name in (*COUNT_NAMES, "passed")},
    }


def draw_settings(rng: random.Random) -> dict[str, Value]:
    """A preset, some of its switches turned, some of its numbers others."""
    parameters = preset(rng.choice(NAMES)).parameters if rng.random() < 0.5 else DEFAULTS
    settings: dict[str, Value] = {}
    for name, _ in FILTERS:
        off = bool(getattr(parameters.filters, name)) and rng.random() < 0.15
        on = not getattr(parameters.filters, name) and rng.random() < 0.4
        if off or on:
            settings[f"filters.{name}"] = on
    numbers: dict[str, list[Value]] = {
        "filters.age_s": [3600, 24 * 3600, 72 * 3600],
        "filters.listed_authors": [[], ["3", "5"]],
        "filters.served_every_request": [True, False],
        "filters.originals_pass": [True, False],
        "filters.new_user_engagement_min": [1, 3],
        "filters.holdout_percent": [1, 20, 50],
        "filters.holdout_percent_oon": [1, 30],
        "filters.visibility": [True, False],
        "filters.dedup_conversation": [True, False],
        "scoring.value_model": ["weighted", "mpn", "dwell_regret", "gated", "march_2023"],
        "scoring.author_diversity": [True, False],
        "scoring.out_of_network": [True, False],
        "scoring.diversity_decay": [0.0, 0.5, 1.0],
        "scoring.diversity_floor": [0.0, 0.25],
        "scoring.oon_factor": [0.0, 0.3, 1.5],
        "scoring.new_viewer_age_s": [0, 1800],
        "scoring.new_viewer_follows_min": [0, 5],
        "scoring.negative_offset": [0.0, 0.001, 0.1],
        "weights.favorite": [0.0, 7.0],
        "weights.report": [-1.0, 0.0],
        "weights.dwell_time": [0.0, 0.1],
        "gate.followers": [0.0, -0.5],
        "gate.shown": [0.2, -1.0],
        "fatigue.enabled": [True, False],
        "reputation.enabled": [True, False],
        "reputation.mass": [0.0, 30.0],
        "reputation.followings_min": [0, 900],
        "reputation.ratio_max": [0.0, 1.5],
        "cluster_interest.enabled": [True, False],
        "cluster_interest.least": [0.0, 0.5],
        "cold_start.enabled": [True, False],
        "cold_start.slot": [0, 3, 15],
        "cold_start.rank_share": [0.3, 1.0],
        "cold_start.age_s": [0, 7200],
        "dpp.enabled": [True, False, False],
        "dpp.theta": [0.0, 0.65, 0.9],
        "dpp.pool": [1, 6, 12],
        "slate_diversity.enabled": [True, False],
        "slate_diversity.per_author": [1, 2],
        "slate_diversity.top": [3, 20],
        "slate_diversity.look_ahead": [1, 4],
    }
    settings |= {name: rng.choice(values) for name, values in numbers.items() if rng.random() < 0.25}
    if rng.random() < 0.5:
        settings["scoring.value_model"] = rng.choice(numbers["scoring.value_model"])
    settings["selection.result_size"] = rng.choice([1, 4, 6])
    settings["selection.top_k"] = rng.choice([1, 5, 8])
    chosen = parameters.overridden(settings)
    return {name: getattr(getattr(chosen, name.partition(".")[0]), name.partition(".")[2]) for name in ENTRIES}


def draw(seed: int, posts: int, changed: dict[str, Value] | None = None) -> Case:
    """Return a random case of so many posts, some of which several sources bring, with some parameters as given."""
    rng = random.Random(seed)
    chosen = draw_settings(rng) | (changed or {})
    quiet = rng.random() < 0.3  # hardly anybody has acted on anything
    usual = draw_probabilities(rng)  # what the model says of many, so that scores tie
    universe = [draw_post(rng, identity, posts, quiet, usual) for identity in range(1, posts + 1)]
    for post in universe:
        post["actions"] = post["favorites"] + post["replies"]
    candidates = [dict(post) for post in universe] + [
        {**rng.choice(universe), "source": rng.choice(BROUGHT_BY)} for _ in range(rng.randrange(4) if universe else 0)
    ]
    rng.shuffle(candidates)
    request = {
        "limit": rng.choice([None, None, 2, 9]),
        "bottom": rng.random() < 0.5,
        "exclude_videos": rng.random() < 0.2,
        "topics": tuple(rng.sample(TOPICS, rng.choice([0, 0, 0, 0, 1, 2]))),
        "excluded_topics": tuple(rng.sample(TOPICS, rng.choice([0, 0, 0, 0, 1]))),
    }
    size = request["limit"] or chosen["selection.result_size"]
    # A longer feed keeps the head-room that `top_k` has over the usual length.
    top_k, usual = chosen["selection.top_k"], chosen["selection.result_size"]
    return {
        "now_ms": NOW_MS,
        "settings": chosen,
        "viewer": draw_viewer(rng, posts),
        "request": request,
        "candidates": candidates,
        "size": size,
        "selected": max(top_k, size + top_k - usual),
    }


def parameters_of(case: Case) -> Parameters:
    values = {name: list(one) if isinstance(one, tuple) else one for name, one in case["settings"].items()}
    return DEFAULTS.overridden(values)


def as_query(case: Case, parameters: Parameters | None = None) -> Query:
    """Return the case's request as the product has it, its viewer's relations and history with it."""
    viewer, asked = case["viewer"], case["request"]

    def keys(name: str) -> np.ndarray:
        return np.array(sorted(viewer[name]), np.uint64)

    names = ("followed", "followed_by", "blocked", "blocked_by", "muted", "subscribed")
    relations = Relations(
        **{name: keys(name) for name in names},
        account_created_ms=viewer["created_ms"],
        followers=viewer["followers"],
    )
    event = FeedRequest(at=case["now_ms"], request="r", viewer=VIEWER, explain=True, **asked)
    made = query(relations, parameters or parameters_of(case), event, seen=viewer["seen"], engaged=viewer["engaged"])
    disliked = sorted(viewer["disliked"], key=lambda one: one[1])
    count = len(disliked)
    history = History(
        post=np.arange(1, count + 1, dtype=np.uint64),
        author=np.array([author for author, _ in disliked], np.uint64),
        terms=np.zeros((count, TERMS), np.uint16),
        actions=np.full(count, 1 << ACTION_INDEX["not_interested"], np.uint32),
        dwell_s=np.zeros(count, np.float32),
        surface=np.zeros(count, np.uint8),
        at_ms=np.array([at_ms for _, at_ms in disliked], np.int64),
    )
    counts = np.array(list(viewer["counts"].values()), np.uint32)
    made.context, made.history = Context(VIEWER, history, case["now_ms"], 1, counts), history
    return made


def as_table(posts: list[Post], case: Case) -> CandidateTable:
    """Return candidates as the product's columns."""
    viewer = case["viewer"]
    counts = np.zeros((len(posts), COUNTS))
    for row, post in enumerate(posts):
        counts[row, COUNT_NAMES.index("shown")] = post["views"]
        counts[row, COUNT_NAMES.index("favorite")] = post["favorites"]
        counts[row, COUNT_NAMES.index("reply")] = post["replies"]
    plain = (
        "author", "created_ms", "has_video", "video_ms", "subscribers_only", "reply_to", "parent_is_live",
        "reply_author", "conversation", "repost_of", "quote_author", "verdict", "ancillary_verdict", "muted",
    )  # fmt: skip
    return table(
        post=[post["id"] for post in posts],
        **{name: [post[name] for post in posts] for name in plain},
        source=[SOURCES.index(post["source"]) for post in posts],
        in_network=[in_network(post, case) for post in posts],
        is_reply=[post["reply_to"] != 0 for post in posts],
        is_repost=[post["repost_of"] != 0 for post in posts],
        repost_author=[post["original_author"] for post in posts],
        mutual_follow=[post["author"] in viewer["followed"] & viewer["followed_by"] for post in posts],
        author_followers=[-1 if post["followers"] is None else post["followers"] for post in posts],
        author_followings=[-1 if post["followings"] is None else post["followings"] for post in posts],
        author_verified=[post["verified"] for post in posts],
        cluster_interest=[-1 if post["interest"] is None else post["interest"] for post in posts],
        rank_post=[post["repost_of"] or post["id"] for post in posts],
        rank_author=[post["original_author"] if post["repost_of"] else post["author"] for post in posts],
        rank_terms=np.array([content_terms("", tuple(post["topics"]), "") for post in posts]).reshape(-1, TERMS),
        rank_topics=[len(post["topics"]) for post in posts],
        rank_counts=counts,
    )


def outputs_of(posts: list[Post]) -> np.ndarray:
    """Return what the model says of posts, float32[n, 19]."""
    rows = [[post["probabilities"][action] for action in ACTIONS] for post in posts]
    return np.array(rows, np.float32).reshape(-1, len(ACTIONS))


def vectors_of(posts: list[Post]) -> np.ndarray:
    """Return the posts' vectors, zeros where there is none, float32[n, D]."""
    rows = [post["vector"] or [0.0] * DIMENSIONS for post in posts]
    return np.array(rows, np.float32).reshape(-1, DIMENSIONS)


def viewers_of(case: Case) -> Viewers:
    """Return viewers of whom the case's was served what it says, a minute ago."""
    parameters = parameters_of(case)
    viewers = Viewers(parameters)
    asked = as_query(case, parameters).request
    earlier = FeedRequest(at=case["now_ms"] - 60_000, request="earlier", viewer=VIEWER)
    viewers.remember_served(replace(asked, event=earlier), np.array(sorted(case["viewer"]["served"]), np.uint64))
    return viewers
