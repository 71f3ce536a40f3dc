"""Scores by x-algorithm.md 1.3, 1.5, 1.6 and 2023-generation.md 3, one post after the other."""

import itertools
import math
from typing import Any

from schemas.actions import ACTIONS
from tests.reference.filters import Case, Post, in_network

WEIGHTS_OUTSIDE_T = {"dwell_time"}
FACTORS = (
    "scoring.author_diversity",
    "scoring.out_of_network",
    "fatigue.enabled",
    "reputation.enabled",
    "cluster_interest.enabled",
)


class Undecided(Exception):
    """Two choices that are as good as each other: rounding decides, and either is right."""


def weight_of(action: str, post: Post, case: Case) -> float:
    """The weight of an action, with the rules for videos and for mutual follows (1.5)."""
    settings, viewer = case["settings"], case["viewer"]
    weight = float(settings[f"weights.{action}"])
    if action == "vqv":
        long = post["video_ms"] > settings["scoring.video_ms_min"]
        return weight if long and viewer["followers"] < settings["scoring.video_followers_max"] else 0.0
    mutual = post["author"] in viewer["followed"] and post["author"] in viewer["followed_by"]
    if action == "reply" and mutual and not post["repost_of"] and not post["reply_to"]:
        return weight + float(settings["scoring.reply_mutual_follow_boost"])
    return weight


def weighted_sum(post: Post, case: Case) -> float:
    total = 0.0
    for action in ACTIONS:
        total += weight_of(action, post, case) * post["probabilities"][action]
    return total


def with_offset(total: float, settings: dict[str, Any]) -> float:
    """The offset and the squeezing of negative sums (1.3)."""
    weights = [
        value
        for name, value in settings.items()
        if name.startswith("weights.") and name.removeprefix("weights.") not in WEIGHTS_OUTSIDE_T
    ]
    n = sum(-one for one in weights if one < 0)
    t = sum(one for one in weights if one > 0) + n
    if t == 0:
        return max(total, 0.0)
    if total < 0:
        # What no sum of probabilities can reach, seconds of dwell time and all: it counts as -N.
        return (max(total, -n) + n) / t * float(settings["scoring.negative_offset"])
    return total + float(settings["scoring.negative_offset"])


def dwell_regret(post: Post, posts: list[Post]) -> float:
    """max(dwell, 1 s) x 2 sigmoid(sum of (p / mean - 1) / T) x exp(min(neg, 0) / T), T = 10 (1.5)."""
    positive = ("favorite", "reply", "retweet", "share", "quote", "profile_click", "follow_author")
    costs = {"not_interested": 10_000, "block_author": 8_000, "mute_author": 15_000, "report": 60_000}
    p = post["probabilities"]
    ahead = 0.0
    for action in positive:
        mean = sum(one["probabilities"][action] for one in posts) / len(posts)
        ahead += p[action] / max(mean, 1e-12) - 1
    regret = -sum(cost * p[action] for action, cost in costs.items())
    return float(max(p["dwell_time"], 1.0) * 2 / (1 + math.exp(-ahead / 10)) * math.exp(min(regret, 0.0) / 10))


def gate_is_open(case: Case) -> bool:
    """bias + coefficients x features > threshold, features as logarithms of one more (1.5, gated variant)."""
    viewer, settings = case["viewer"], case["settings"]
    created_ms = viewer["created_ms"]
    known = {
        "follows": len(viewer["followed"]),
        "followed_by": len(viewer["followed_by"]),
        "followers": viewer["followers"],
        "account_age_days": 0 if created_ms is None else max(0, case["now_ms"] - created_ms) / 86_400_000,
        "groups": len(viewer["disliked"]),
        **viewer["counts"],
    }
    total = float(settings["gate.bias"])
    for name, value in known.items():
        total += settings[f"gate.{name}"] * math.log1p(value)
    return bool(total > settings["gate.threshold"])


def ranking(scores: list[float], posts: list[Post]) -> list[int]:
    """Places by score, best first; ties go to the newest, then to the highest id."""
    order = sorted(range(len(posts)), key=lambda i: (-scores[i], -posts[i]["created_ms"], -posts[i]["id"]))
    for one, two in itertools.pairwise(order):
        if scores[one] != scores[two] and math.isclose(scores[one], scores[two], rel_tol=1e-12, abs_tol=1e-15):
            raise Undecided
    return order


def cold_start(scores: list[float], posts: list[Post], case: Case) -> list[float]:
    """The best eligible post of a small author is lifted to the 16th best score; one a request at most (1.6)."""
    settings = case["settings"]
    slot = settings["cold_start.slot"]
    order = ranking(scores, posts)
    if len(order) < slot + 1:
        return scores
    scored = [i for i in order if scores[i] != 0]
    for rank, i in enumerate(scored):
        post = posts[i]
        if (
            rank < settings["cold_start.rank_share"] * len(scored)
            and not post["repost_of"]
            and not post["reply_to"]
            and post["followers"] is not None
            and post["followers"] <= settings["cold_start.followers_max"]
            and (post["views"] or post["actions"])
            and post["views"] < settings["cold_start.views_max"]
            and (
                not settings["cold_start.age_s"]
                or case["now_ms"] - post["created_ms"] <= settings["cold_start.age_s"] * 1000
            )
        ):
            lifted = list(scores)
            lifted[i] = max(scores[i], scores[order[slot]])
            return lifted
    return scores


def diversity_factors(scores: list[float], posts: list[Post], case: Case) -> list[float]:
    """The k-th post of an author, best first, times (1 - floor) x decay^k + floor (1.3)."""
    decay, floor = case["settings"]["scoring.diversity_decay"], case["settings"]["scoring.diversity_floor"]
    met: dict[int, int] = {}
    factors = [1.0] * len(posts)
    for i in ranking(scores, posts):
        k = met.get(posts[i]["author"], 0)
        factors[i] = (1 - floor) * decay**k + floor
        met[posts[i]["author"]] = k + 1
    return factors


def network_factors(posts: list[Post], case: Case) -> list[float]:
    """0.75 out of network, 0.5 for topic requests, 1e-5 for eligible new viewers; in-network replies, reposts (1.5)."""
    settings, viewer, factors = case["settings"], case["viewer"], []
    usual = settings["scoring.topic_oon_factor" if case["request"]["topics"] else "scoring.oon_factor"]
    young = (
        viewer["created_ms"] is not None
        and case["now_ms"] - viewer["created_ms"] < settings["scoring.new_viewer_age_s"] * 1000
        and len(viewer["followed"]) >= settings["scoring.new_viewer_follows_min"]
    )
    for post in posts:
        if not in_network(post, case):
            new = young and not case["request"]["topics"]
            factors.append(settings["scoring.new_viewer_oon_factor"] if new else usual)
        elif (post["repost_of"] or post["reply_to"]) and settings["scoring.oon_factor_for_replies_and_reposts"]:
            factors.append(usual)
        else:
            factors.append(1.0)
    return factors


def fatigue_factors(posts: list[Post], case: Case) -> list[float]:
    """0.2 right after "not interested" in an author, rising in a line to 1 in 140 days (2023-generation.md 3)."""
    settings, factors = case["settings"], []
    for post in posts:
        author = post["original_author"] if post["repost_of"] else post["author"]
        times = [at_ms for disliked, at_ms in case["viewer"]["disliked"] if disliked == author]
        factor = 1.0
        if times:
            passed = (case["now_ms"] - max(times)) / 1000 / settings["fatigue.recovery_s"]
            factor = settings["fatigue.factor"] + (1 - settings["fatigue.factor"]) * min(max(passed, 0.0), 1.0)
        factors.append(factor)
    return factors


def reputation_factors(posts: list[Post], case: Case) -> list[float]:
    """Mass 100 for the verified, divided by exp(5 (r - 0.6)) for who follows > 500, r > 0.6 (2023-generation.md 3)."""
    settings, factors = case["settings"], []
    for post in posts:
        mass = settings["reputation.verified_mass" if post["verified"] else "reputation.mass"]
        if post["followers"] is not None and post["followings"] is not None:
            r = (1 + post["followings"]) / (1 + post["followers"])
            limit = settings["reputation.ratio_max"]
            if post["followings"] > settings["reputation.followings_min"] and r > limit:
                mass *= math.exp(-settings["reputation.ratio_penalty"] * (r - limit))
        factors.append(mass / settings["reputation.verified_mass"])
    return factors


def interest_factors(posts: list[Post], case: Case) -> list[float]:
    """Score = quality x cluster interest, as far as it is known, and at least so much (2023-generation.md 4)."""
    least = case["settings"]["cluster_interest.least"]
    return [1.0 if post["interest"] is None else max(post["interest"], least) for post in posts]


def determinant(matrix: list[list[float]]) -> float:
    """By elimination with the largest pivots."""
    rows, value = [list(row) for row in matrix], 1.0
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda r: abs(rows[r][i]))
        if rows[pivot][i] == 0:
            return 0.0
        if pivot != i:
            rows[i], rows[pivot], value = rows[pivot], rows[i], -value
        value *= rows[i][i]
        for r in range(i + 1, len(rows)):
            factor = rows[r][i] / rows[i][i]
            for c in range(i, len(rows)):
                rows[r][c] -= factor * rows[i][c]
    return value


def cosine(one: Post, two: Post) -> float:
    if one["vector"] is None or two["vector"] is None:
        return 0.0
    return math.fsum(a * b for a, b in zip(one["vector"], two["vector"], strict=True))


def dpp(scores: list[float], posts: list[Post], case: Case) -> list[float]:
    """Greedily the set with the largest determinant of exp(a q_i) exp(a q_j) cos(i, j); all others score 0 (1.6).

    A post without a vector is unlike all others and counts for half (8, item 6). It ends where the determinant grows
    by no more than 1e-6 times: that is what is left of the best post beside those chosen.
    """
    settings, count = case["settings"], case["selected"]
    pool = ranking(scores, posts)[: max(settings["dpp.pool"], count)]
    best = max([scores[i] for i in pool] + [0.0])
    alpha = settings["dpp.theta"] / (2 * (1 - settings["dpp.theta"]))
    weight = {
        i: math.exp(alpha * scores[i] / max(best, 1e-6)) * (0.5 if posts[i]["vector"] is None else 1.0) for i in pool
    }

    def kernel(i: int, j: int) -> float:
        return weight[i] * weight[j] * (1.0 if i == j else cosine(posts[i], posts[j]))

    chosen: list[int] = []
    volume = 1.0
    while len(chosen) < min(count, len(pool)):
        volumes = {}
        for i in pool:
            if i not in chosen:
                together = [*chosen, i]
                volumes[i] = determinant([[kernel(a, b) for b in together] for a in together])
        order = sorted(volumes, key=lambda i: -volumes[i])
        left = volumes[order[0]] / volume
        if 1e-7 < left < 1e-5:
            raise Undecided
        if left <= 1e-6:
            break
        # At first posts of one score are equal to the last bit, and the first of them is the one.
        alike = len(order) > 1 and volumes[order[1]] > volumes[order[0]] * (1 - 1e-4)
        if alike and (chosen or volumes[order[1]] != volumes[order[0]]):
            raise Undecided
        chosen.append(order[0])
        volume = volumes[order[0]]
    return [score if i in chosen else 0.0 for i, score in enumerate(scores)]


def value_model(posts: list[Post], case: Case, model: str) -> list[float]:
    """The value of each post by itself, and what comes of it before anything is multiplied (1.5)."""
    settings = case["settings"]
    if model == "dwell_regret":
        return [dwell_regret(post, posts) for post in posts]
    sums = [weighted_sum(post, case) for post in posts]
    if model == "march_2023":
        return [one + settings["scoring.negative_offset"] for one in sums]
    return [with_offset(one, settings) for one in sums] if model == "weighted" else sums


def factors(scores: list[float], posts: list[Post], case: Case, switch: str) -> list[float]:
    """What a scorer multiplies each score with."""
    if switch == "scoring.author_diversity":
        return diversity_factors(scores, posts, case)
    by_switch = {
        "scoring.out_of_network": network_factors,
        "fatigue.enabled": fatigue_factors,
        "reputation.enabled": reputation_factors,
        "cluster_interest.enabled": interest_factors,
    }
    return by_switch[switch](posts, case)


def run(posts: list[Post], case: Case) -> list[float]:
    """Return the score of each post, after all scorers in the order of the value model (1.5)."""
    settings = case["settings"]
    model = settings["scoring.value_model"]
    if model == "gated":
        model = "dwell_regret" if gate_is_open(case) else "weighted"
    scores = value_model(posts, case, model)
    if model != "mpn" and settings["cold_start.enabled"]:
        scores = cold_start(scores, posts, case)
    for switch in FACTORS:
        if settings[switch]:
            times = factors(scores, posts, case, switch)
            # Of the net of an MPN only what is not negative is multiplied.
            scores = [
                one if model == "mpn" and one < 0 else one * factor for one, factor in zip(scores, times, strict=True)
            ]
    if model == "mpn":
        scores = [with_offset(one, settings) for one in scores]
        if settings["cold_start.enabled"]:
            scores = cold_start(scores, posts, case)
    return dpp(scores, posts, case) if settings["dpp.enabled"] else scores
