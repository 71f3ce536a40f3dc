"""How good feeds are, by what their viewers did next, beside simple recommenders on the same requests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from flows.baselines import NAMES, Baselines, rank_of
from flows.replay import FEEDS
from infra.logs.reader import LogReader
from infra.polls import latest_accepted_ms
from schemas.actions import NEGATIVE_ACTIONS
from schemas.codec import decode_batch
from schemas.events import Engagement, FeedRequest
from schemas.feeds import Feed
from schemas.ids import key_of

TOP: Final = 20
# What a viewer does within an hour of a request counts as its answer.
HORIZON_MS: Final = 3600 * 1000


class Quality(Struct):
    """One recommender over all answered requests. `coverage`: the post was in its list at all."""

    name: str
    requests: int
    recall_at_20: float
    mrr: float
    coverage: float


class FeedQuality(Struct):
    """What an evaluation of feeds found; shares of in-network posts are those among posts in the feeds."""

    requests: int
    answered: int
    table: list[Quality]
    in_network_share: float
    in_network_share_of_hits: float


@dataclass(slots=True)
class Asked:
    """A request waiting for what its viewer does next."""

    at_ms: int
    feed: dict[int, tuple[int, bool]]
    posts: npt.NDArray[np.uint64]
    scores: dict[str, npt.NDArray[np.float64]]


class _Ranks:
    """Ranks of the next post by recommender; None where the recommender did not list it."""

    def __init__(self) -> None:
        self.ranks: dict[str, list[int | None]] = {name: [] for name in ("foryou", *NAMES)}
        self.in_network_hits: list[bool] = []

    def take(self, asked: Asked, post: int) -> None:
        place = asked.feed.get(post)
        self.ranks["foryou"].append(place[0] if place else None)
        if place and place[0] <= TOP:
            self.in_network_hits.append(place[1])
        for name in NAMES:
            self.ranks[name].append(rank_of(post, asked.posts, asked.scores[name]))

    def table(self) -> list[Quality]:
        out = []
        for name, ranks in self.ranks.items():
            count = max(len(ranks), 1)
            found = np.array([rank for rank in ranks if rank is not None], np.float64)
            out.append(
                Quality(
                    name=name,
                    requests=len(ranks),
                    recall_at_20=float((found <= TOP).sum() / count),
                    mrr=float((1 / found).sum() / count),
                    coverage=len(found) / count,
                )
            )
        return out


def feed_quality(
    log: Path, replayed: Path, after_ms: int = 0, progress: Callable[[int, int], None] | None = None
) -> FeedQuality:
    """Compare the feeds of a replay with what viewers acted on next, for requests from `after_ms` on.

    The answer to a request is the viewer's next positive action, within an hour, on a post not acted on before.
    """
    feeds = _feeds(replayed, after_ms)
    items = [in_network for feed in feeds.values() for _, in_network in feed.values()]
    reader, at_max = LogReader(log), latest_accepted_ms()
    baselines, ranks = Baselines(), _Ranks()
    waiting: dict[int, Asked] = {}
    touched: set[tuple[int, int]] = set()
    for batch in reader.batches():
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        for event in decode_batch(batch.raw, at_max):
            if isinstance(event, FeedRequest):
                feed = feeds.get(event.request)
                if feed is not None:
                    viewer = key_of(event.viewer)
                    waiting[viewer] = Asked(event.at, feed, *baselines.scores(event.at, viewer))
            elif isinstance(event, Engagement) and event.action not in NEGATIVE_ACTIONS and not event.undo:
                viewer, post = key_of(event.viewer), key_of(event.post)
                if (viewer, post) in touched:
                    continue
                touched.add((viewer, post))
                asked = waiting.pop(viewer, None)
                if asked is not None and event.at - asked.at_ms <= HORIZON_MS:
                    ranks.take(asked, post)
                baselines.take(event.at, viewer, post)
    hits = ranks.in_network_hits
    return FeedQuality(
        requests=len(feeds),
        answered=len(ranks.ranks["foryou"]),
        table=ranks.table(),
        in_network_share=float(np.mean(items)) if items else 0.0,
        in_network_share_of_hits=float(np.mean(hits)) if hits else 0.0,
    )


def _feeds(replayed: Path, after_ms: int) -> dict[int | str, dict[int, tuple[int, bool]]]:
    """Return by request the rank and network of each post of its feed; a repost counts as its original too."""
    feeds: dict[int | str, dict[int, tuple[int, bool]]] = {}
    decoder = msgspec.json.Decoder(Feed)
    with (replayed / FEEDS).open("rb") as lines:
        for line in lines:
            feed = decoder.decode(line)
            if feed.at < after_ms:
                continue
            places: dict[int, tuple[int, bool]] = {}
            for rank, item in enumerate(feed.items, 1):
                places.setdefault(key_of(item.post), (rank, item.in_network))
                if item.repost_of is not None:
                    places.setdefault(key_of(item.repost_of), (rank, item.in_network))
            feeds[feed.request] = places
    return feeds
