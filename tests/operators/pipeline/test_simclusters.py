"""The SimClusters source: whose posts it looks up, in which order it brings what is near, and its caps."""

from dataclasses import replace

import numpy as np
import pytest

from models.config import PhoenixConfig
from models.inputs import TERMS, History
from models.phoenix import Phoenix
from operators.keys import keys_of
from operators.parameters import DEFAULTS, Parameters, Value
from operators.pipeline.candidates import SIMCLUSTERS, CandidateTable
from operators.pipeline.filters import PRE_SCORING
from operators.pipeline.runner import Accounting, run_filters
from operators.pipeline.sources import gather
from operators.posts.cluster_index import ClusterIndex
from operators.posts.interest_clusters import InterestClusters
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from schemas.actions import ACTION_INDEX
from schemas.events import PostCreated, PostDeleted, PostLabelled
from tests.operators.pipeline.tables import NOW_MS, query

ALONE = DEFAULTS.overridden({"retrieval.enabled": False, "fallback.enabled": False, "thunder.enabled": False})
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def model(tiny: PhoenixConfig) -> Phoenix:
    return Phoenix.untrained(tiny)


@pytest.fixture
def posts() -> LivePosts:
    """Return posts of two clusters: 1 to 5 of one, the higher the nearer its middle, 11 to 15 of the other, 20 of both.

    Post 30 repeats post 1.
    """
    live = LivePosts(PostTable(), interest_clusters=InterestClusters(DEFAULTS.simclusters))
    numbers = [*range(1, 6), *range(11, 16), 20]
    live.apply([PostCreated(NOW_MS - 1000 + number, number, 100 + number) for number in numbers])
    live.apply([PostCreated(NOW_MS - 900, 30, 130, repost_of=1)])
    angles = np.radians([10, 8, 6, 4, 2, 80, 82, 84, 86, 88, 45])
    weights = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.tile(np.array([[1, 2]], np.int32), (11, 1))
    assert live.interest_clusters is not None
    everybody = np.ones(11, np.bool_)
    live.interest_clusters.index = ClusterIndex(keys_of(numbers), labels, weights, everybody, 800)
    return live


def asked(
    live: LivePosts,
    model: Phoenix,
    acted: list[int],
    parameters: dict[str, Value] | None = None,
    action: str = "favorite",
    later_ms: int = 0,
) -> CandidateTable:
    """Return the candidates of a viewer who acted on posts, in that order."""
    base: Parameters = ALONE.overridden(parameters or {})
    count = len(acted)
    history = History(
        post=np.array(acted, np.uint64),
        author=np.zeros(count, np.uint64),
        terms=np.zeros((count, TERMS), np.uint16),
        actions=np.full(count, 1 << ACTION_INDEX[action], np.uint32),
        dwell_s=np.zeros(count, np.float32),
        surface=np.ones(count, np.uint8),
        at_ms=np.arange(count),
    )
    one = query(parameters=base)
    one.context = replace(one.context, history=history)
    if later_ms:
        event = one.request.event.__class__(at=NOW_MS + later_ms, request="r", viewer=one.request.viewer)
        one.request = replace(one.request, event=event)
    table = gather(one, live, model, Accounting(explain=False))
    assert not one.degraded
    assert set(table.source.tolist()) <= {SIMCLUSTERS}
    return table


def brought(live: LivePosts, model: Phoenix, acted: list[int], parameters: dict[str, Value] | None = None) -> list[int]:
    found: list[int] = asked(live, model, acted, parameters).post.tolist()
    return found


def test_the_nearest_come_first(posts: LivePosts, model: Phoenix) -> None:
    # Near post 5 (2 degrees) are 4, 3, 2, 1 (4 to 10 degrees) and 20 (45, cos 43 = .731); 11 is at cos 78 = .208.
    assert brought(posts, model, [5]) == [4, 3, 2, 1, 20]
    assert brought(posts, model, [5], {"simclusters.score_min": 0.8}) == [4, 3, 2, 1]


def test_signals_take_turns_the_newest_first(posts: LivePosts, model: Phoenix) -> None:
    # 15 was liked last: its nearest (86 to 80 degrees, then 45) and those of 5 come by turns; 20 is near both.
    assert brought(posts, model, [5, 15]) == [14, 4, 13, 3, 12, 2, 11, 1, 20]
    assert brought(posts, model, [15, 5]) == [4, 14, 3, 13, 2, 12, 1, 11, 20]


def test_the_caps_hold(posts: LivePosts, model: Phoenix) -> None:
    assert brought(posts, model, [5, 15], {"simclusters.posts_max": 3}) == [14, 4, 13]
    assert brought(posts, model, [5, 15], {"simclusters.per_signal_max": 1}) == [14, 4]
    assert brought(posts, model, [5, 15], {"simclusters.signals_max": 1}) == [14, 13, 12, 11, 20]
    # The same post liked twice is one signal.
    assert brought(posts, model, [5, 15, 15], {"simclusters.signals_max": 2, "simclusters.per_signal_max": 1}) == [
        14,
        4,
    ]


def test_only_likes_are_signals_and_a_repost_stands_for_its_original(posts: LivePosts, model: Phoenix) -> None:
    assert asked(posts, model, [5], action="dwell").post.tolist() == []
    assert brought(posts, model, [30]) == brought(posts, model, [1]) == [2, 3, 4, 5, 20]
    assert brought(posts, model, [999]) == brought(posts, model, []) == []


def test_what_is_gone_or_old_is_not_brought(posts: LivePosts, model: Phoenix) -> None:
    posts.apply([PostDeleted(NOW_MS, 4, 104)])
    assert brought(posts, model, [5]) == [3, 2, 1, 20]
    assert asked(posts, model, [5], {"simclusters.age_s": 60}, later_ms=61_000).post.tolist() == []
    assert asked(posts, model, [5], {"simclusters.age_s": 62}, later_ms=61_000).post.tolist() == [3, 2, 1, 20]


def test_where_clusters_are_not_kept_or_switched_off_it_brings_nothing(posts: LivePosts, model: Phoenix) -> None:
    assert brought(posts, model, [5], {"simclusters.enabled": False}) == []
    assert brought(LivePosts(PostTable()), model, [5]) == []


def test_what_it_brings_of_strangers_is_dropped_with_a_stricter_label(posts: LivePosts, model: Phoenix) -> None:
    posts.apply([PostLabelled(NOW_MS, 4, 104, ("nsfw",))])
    kept, _ = run_filters(PRE_SCORING, query(), asked(posts, model, [5]), Accounting(explain=False))
    assert kept.post.tolist() == [3, 2, 1, 20]
