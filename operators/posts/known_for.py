"""KnownFor: producers in clusters by who follows them, each in exactly one (2023-generation.md 4).

Two producers are alike by the cosine of their sets of followers, shared / sqrt(a x b). Labels spread along the
strongest likenesses: a producer takes the label to which it is more alike than a producer of its weight would be by
chance (modularity), in rounds, until none moves or the rounds are over. Each begins with a label of its own: clusters
that had once grown together would never part. From the last assignment clusters get their names, so that what was told
of a cluster holds for as long as most of its producers stay together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.posts.sparse_rows import Labels, rank_in_group

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

# Pairs of producers with a common follower that one fit looks at, at most: two million take 0.3 s to sort.
PAIRS_MAX: Final = 2**21
# Of each follower so many newest follows make pairs, and fewer where pairs would be too many.
FOLLOWS_MAX: Final = (64, 32, 16, 8, 4, 2)
# Less than this, one shared follower of ten each, is chance: it would join what has nothing else in common.
LIKENESS_MIN: Final = 0.1
# Likenesses kept of a producer, strongest first.
NEIGHBOURS: Final = 32
# Rounds at most. In each, one part of the producers after the other moves at once: all at once would swap for ever.
ROUNDS: Final = 8
PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class Likenesses:
    """The strongest likenesses: of producer `one` to producer `other`, numbers from 0 to `count` - 1."""

    count: int
    one: Numbers
    other: Numbers
    cosine: Weights


def likenesses(follower: Numbers, producer: Numbers, count: int) -> Likenesses:
    """Return who is like whom of `count` producers, from follows in their order, each pair there once."""
    followers = np.bincount(producer, minlength=count)
    order = np.argsort(follower, kind="stable")
    one, other = _pairs(follower[order], producer[order])
    pairs, shared = np.unique(np.minimum(one, other) * count + np.maximum(one, other), return_counts=True)
    one, other = pairs // max(count, 1), pairs % max(count, 1)
    cosine = shared / np.sqrt(followers[one].astype(np.float64) * followers[other])
    some = cosine >= LIKENESS_MIN
    one, other = np.concatenate([one[some], other[some]]), np.concatenate([other[some], one[some]])
    cosine = np.concatenate([cosine[some], cosine[some]])
    order = np.lexsort((other, -cosine, one))
    strongest = order[rank_in_group(one[order]) < NEIGHBOURS]
    return Likenesses(count, one[strongest], other[strongest], cosine[strongest])


def _pairs(follower: Numbers, producer: Numbers) -> tuple[Numbers, Numbers]:
    """Return the pairs of producers with a common follower; follows of one follower stand together, newest last."""
    sizes = np.bincount(follower)[follower] if len(follower) else follower
    from_newest = sizes - 1 - rank_in_group(follower)
    for follows_max in FOLLOWS_MAX:
        kept = np.minimum(sizes, follows_max)
        # A follower of n producers makes n (n - 1) / 2 pairs: (n - 1) / 2 for each of its follows that is kept.
        if ((kept - 1) / 2)[from_newest < follows_max].sum() <= PAIRS_MAX:
            break
    newest = from_newest < follows_max
    follower, producer = follower[newest], producer[newest]
    ones, others = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for apart in range(1, follows_max):
        same = follower[apart:] == follower[:-apart]
        if not same.any():
            break
        ones.append(producer[:-apart][same])
        others.append(producer[apart:][same])
    return np.concatenate(ones), np.concatenate(others)


def clustered(alike: Likenesses) -> Numbers:
    """Return a cluster for each producer, int64[count], numbers that say nothing but who is together."""
    now: Numbers = np.arange(alike.count)
    strength = np.bincount(alike.one, alike.cosine, alike.count).astype(np.float64)
    total = float(strength.sum())
    if not total:
        return now
    part = np.arange(alike.count) % PARTS
    for _ in range(ROUNDS):
        before = now
        for number in range(PARTS):
            now = _moved(alike, now, part == number, strength, total)
        if np.array_equal(before, now):
            break
    return now


def named(clusters: Numbers, before: Labels) -> Labels:
    """Return the labels of producers' clusters, int32[n]: each that of before with which it shares most producers.

    A label goes to one cluster at most, of equals to the one of the lower number. 0 stands for none.
    """
    had = np.flatnonzero(before)
    pairs, shared = np.unique(np.stack([clusters[had], before[had]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], pairs[0], -shared))
    name_of: dict[int, int] = {}
    taken: set[int] = set()
    for cluster, label in pairs[:, order].T.tolist():
        if cluster not in name_of and label not in taken:
            name_of[cluster] = label
            taken.add(label)
    return np.array([name_of.get(cluster, 0) for cluster in clusters.tolist()], np.int32)


def _moved(
    alike: Likenesses, labels: Numbers, moving: npt.NDArray[np.bool_], strength: Weights, total: float
) -> Numbers:
    """Return the labels after those who are `moving` took the ones they are most alike beyond chance."""
    names, place = np.unique(labels, return_inverse=True)
    mass = np.bincount(place, strength, len(names))
    members, edges = np.flatnonzero(moving), moving[alike.one]
    # Everybody may stay: its own label is there with a likeness of 0 at least.
    who = np.concatenate([members, alike.one[edges]])
    where = np.concatenate([place[members], place[alike.other[edges]]])
    weight = np.concatenate([np.zeros(len(members)), alike.cosine[edges]])
    codes, group = np.unique(who * len(names) + where, return_inverse=True)
    likeness = np.bincount(group, weight, len(codes))
    who, where = codes // len(names), codes % len(names)
    stays = where == place[who]
    by_chance = strength[who] * (mass[where] - np.where(stays, strength[who], 0.0)) / total
    order = np.lexsort((where, ~stays, by_chance - likeness, who))
    best = order[rank_in_group(who[order]) == 0]
    moved = labels.copy()
    moved[who[best]] = names[where[best]]
    return moved
