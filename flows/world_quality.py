"""Feeds of a simulated world against its truth: what they are worth to their viewers, beside the best possible."""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from flows.feed_worth import TOP, Floats, best_worth_of, weigh, worth_of
from flows.replay import FEEDS
from infra.world import Truth, truth_path
from operators.parameters import DEFAULTS
from schemas.feeds import Feed

WINDOW_MS: Final = 48 * 3600 * 1000


class Worth(Struct):
    """Mean utility of a feed's first posts, and its share of the best possible."""

    name: str
    utility: float
    share_of_oracle: float


class WorldQuality(Struct):
    """Utility is the weighted sum of true probabilities, with the weights that rank (x-algorithm.md 1.5)."""

    feeds: int
    table: list[Worth]


def world_quality(log: Path, replayed: Path, after_ms: int = 0) -> WorldQuality:
    """Compare feeds with the best, the newest and random posts of the last 48 hours, by what is true of the world.

    Viewers and posts that are not of the world, as faults put into its log bring them, are passed over.

    Raises TruthRefused where the truth beside the log can't be read.
    """
    truth = Truth.load(truth_path(log))
    posts, ids = truth.posts, np.array(truth.post_ids, object)
    known = set(truth.post_ids)
    person_of = {identity: row for row, identity in enumerate(truth.people_ids)}
    originals = posts["original"] == np.arange(len(posts))
    worth: dict[str, list[float]] = {name: [] for name in ("oracle", "foryou", "newest", "random")}
    rng = np.random.default_rng(0)
    decoder = msgspec.json.Decoder(Feed)
    for line in (replayed / FEEDS).read_bytes().splitlines():
        feed = decoder.decode(line)
        served = [item.post for item in feed.items if item.post in known][:TOP]
        if feed.at < after_ms or not served or feed.viewer not in person_of:
            continue
        eligible = originals & (posts["created"] <= feed.at) & (posts["created"] > feed.at - WINDOW_MS)
        eligible &= (posts["deleted_at"] > feed.at) & (posts["author"] != person_of[feed.viewer])
        utility = _utility(truth, feed.viewer, ids[eligible], feed.at)
        worth["oracle"].append(best_worth_of(utility))
        worth["foryou"].append(worth_of(_utility(truth, feed.viewer, served, feed.at)))
        worth["newest"].append(worth_of(utility[::-1]))
        worth["random"].append(worth_of(rng.choice(utility, min(TOP, len(utility)), replace=False)))
    best = float(np.mean(worth["oracle"])) if worth["oracle"] else 0.0
    table = [
        Worth(name, float(np.mean(values)), float(np.mean(values)) / best) for name, values in worth.items() if values
    ]
    return WorldQuality(len(worth["oracle"]), table)


def _utility(truth: Truth, viewer: int | str, posts: "npt.NDArray[np.object_] | list[int | str]", at_ms: int) -> Floats:
    """Return what each post is worth to a viewer at a time, float64[n]."""
    return weigh(truth.utility([viewer] * len(posts), list(posts), at_ms), DEFAULTS)
