"""Interest clusters by hand: what people are interested in, what posts are about, and what is near them."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.parameters.simclusters import SimClusters
from operators.posts import interest_clusters
from operators.posts.cluster_index import ClusterIndex
from operators.posts.engagement_graph import EngagementGraph
from operators.posts.interest_clusters import NO_LIKES, InterestClusters, Likes
from operators.posts.sparse_rows import SparseRows
from schemas.events import Follow
from schemas.ids import key_of

DAY_MS = 86_400_000
T = 20_000 * DAY_MS
ASKED = SimClusters()
# Whoever follows to make time pass follows this one, who has no other part.
NOBODY = 1


@dataclass
class Story:
    """Events in their order, told to interest clusters."""

    parameters: SimClusters = ASKED
    clusters: InterestClusters = field(init=False)
    ticks: int = 0

    def __post_init__(self) -> None:
        self.clusters = InterestClusters(self.parameters)

    def follow(self, *pairs: tuple[int, int], at_ms: int = T, undo: bool = False) -> None:
        events = [Follow(at_ms, viewer, author, undo) for viewer, author in pairs]
        self.clusters.take(NO_LIKES, np.empty(0, np.int64), events, range(len(events)))

    def like(self, *likes: tuple[int, int, int], at_ms: int = T, created_ms: int = T) -> None:
        """Take likes: who liked which post of whom."""
        viewer, post, author = (np.array(column, np.uint64) for column in zip(*likes, strict=True))
        times = np.full(len(likes), at_ms), np.full(len(likes), created_ms)
        self.clusters.take(Likes(viewer, post, author, times[1], times[0]), np.arange(len(likes)), [], [])

    def until(self, at_ms: int) -> InterestClusters:
        """Let nine people follow nobody in particular at a time: it passes."""
        self.ticks += 9
        self.follow(*((10**6 + self.ticks + one, NOBODY) for one in range(9)), at_ms=at_ms)
        return self.clusters


def fans(story: Story, *circles: tuple[int, ...]) -> None:
    """Let twenty people each follow the producers of a circle, all of them and nobody else."""
    for number, producers in enumerate(circles):
        story.follow(*((1000 * (number + 1) + fan, producer) for fan in range(20) for producer in producers))


def shares(clusters: InterestClusters, viewer: int) -> dict[int, float]:
    """Return the share of each cluster in the weights of a viewer, of all of them."""
    interests = clusters.interested_in(viewer)
    return {label: weight / sum(interests.values()) for label, weight in interests.items()}


def test_the_worked_example_of_2023() -> None:
    # 2023-generation.md 4: 2 follows x 1 + 50 likes x 5 = 252 against 1 x 1 + 30 x 5 = 151 -> 62.5 % / 37.5 %
    story = Story()
    fans(story, (101, 102), (201,))
    story.until(T)
    story.follow((7, 101), (7, 102), (7, 201))
    story.like(*((7, 5000 + one, 101 + one % 2) for one in range(50)), *((7, 6000 + one, 201) for one in range(30)))
    clusters = story.until(T + 600_000)
    first, second = clusters.known_for(101), clusters.known_for(201)
    assert first == clusters.known_for(102) != second
    assert shares(clusters, 7) == pytest.approx({first: 252 / 403, second: 151 / 403}, abs=1e-4)
    assert shares(clusters, 7)[first] == pytest.approx(0.625, abs=1e-3)
    # What scorers ask: of producers, and nothing of a viewer without interests.
    asked = np.array([201, 102, 7, 10**9], np.uint64)
    told = clusters.shares_of(7, asked)
    assert told is not None
    assert told.tolist() == pytest.approx([151 / 403, 252 / 403, 0.0, 0.0], abs=1e-6)
    assert clusters.shares_of(10**9, asked) is None
    # As a unit vector: 252 / sqrt(252^2 + 151^2) = .8578 and .5140
    assert clusters.interested_in(7) == pytest.approx({first: 0.8578, second: 0.5140}, abs=1e-4)


def test_a_like_weighs_half_after_a_hundred_days() -> None:
    story = Story()
    fans(story, (101,), (201,), (301,))
    story.until(T)
    story.follow((7, 301))
    story.like((7, 1, 101))
    story.until(T + DAY_MS)
    story.like((7, 2, 201), at_ms=T + 100 * DAY_MS)
    clusters = story.until(T + 100 * DAY_MS)
    labels = [clusters.known_for(one) for one in (101, 201, 301)]
    # 5 x 2^(-100/100) = 2.5, 5, and a follow is 1 for ever: of 8.5.
    assert shares(clusters, 7) == pytest.approx(dict(zip(labels, (2.5 / 8.5, 5 / 8.5, 1 / 8.5), strict=True)), abs=1e-4)


def test_a_producer_needs_followers_and_is_in_one_cluster() -> None:
    story = Story()
    story.follow(*((fan, 101) for fan in range(1001, 1005)), *((fan, 102) for fan in range(1001, 1004)))
    clusters = story.until(T)
    assert clusters.known_for(101) > 0
    assert clusters.known_for(102) == 0, "three followers are one too few"
    assert clusters.known_for(99) == 0
    assert shares(clusters, 1001) == {clusters.known_for(101): 1.0}


def test_a_new_producer_goes_where_its_followers_are_until_the_next_fit() -> None:
    story = Story()
    fans(story, (101,), (201,))
    story.until(T)
    story.until(T + 600_000)
    known = len(story.clusters._graph.follows()[0])
    story.follow(*((1000 + fan, 102) for fan in range(4)), *((9000 + fan, 301) for fan in range(4)))
    clusters = story.until(T + 1_200_000)
    assert known + 8 < 2 * clusters._follows_fitted, "there was no fit since"
    assert clusters.known_for(102) == clusters.known_for(101)
    assert clusters.known_for(301) not in {0, clusters.known_for(101), clusters.known_for(201)}
    assert clusters.known_for(301) in clusters.interested_in(9000)


def test_twenty_clusters_at_most_the_heaviest() -> None:
    producers = range(101, 131)
    story = Story()
    fans(story, *((one,) for one in producers))
    story.until(T)
    story.follow(*((7, one) for one in producers))
    story.like(*((7, 100 * one, one) for one in producers if one > 110))
    clusters = story.until(T + 600_000)
    assert len({clusters.known_for(one) for one in producers}) == 30
    assert set(clusters.interested_in(7)) == {clusters.known_for(one) for one in producers if one > 110}


def test_who_no_longer_follows_is_no_longer_interested() -> None:
    story = Story()
    fans(story, (101,), (201,))
    story.until(T)
    story.follow((7, 101), (7, 201), (7, 201))
    story.until(T + 600_000)
    story.follow((7, 201), undo=True)
    clusters = story.until(T + 1_200_000)
    assert clusters.interested_in(7) == {clusters.known_for(101): 1.0}


def test_a_post_is_the_sum_of_its_likers_interests_when_they_liked_it() -> None:
    story = Story(msgspec.structs.replace(ASKED, engagements_min=2))
    fans(story, (101,), (201,))
    story.until(T)
    story.follow((7, 101), (8, 101), (8, 201))
    story.until(T + 600_000)
    a, b = story.clusters.known_for(101), story.clusters.known_for(201)
    # 7 is (1, 0), 8 is (1, 1) / sqrt(2). Post 1 is liked by both: (1.7071, .7071). Post 2 by 8, twice, and by 1001, one
    # of the fans of 101: (1, 0) + (.7071, .7071). Post 3 by two of the fans of 201: (0, 2).
    story.like((7, 1, 99), (8, 1, 99), (8, 2, 99), (1001, 2, 99), (8, 2, 99), (2001, 3, 99), (2002, 3, 99))
    # What 7 likes now doesn't change what the likes before were worth.
    story.like((7, 4, 201))
    clusters = story.until(T + 1_200_000)
    embeddings = clusters._embeddings
    slots = clusters._post_index.find(np.array([1, 2, 3], np.uint64))
    told = [dict(zip(embeddings.labels[s].tolist(), embeddings.weights[s].tolist(), strict=True)) for s in slots]
    assert [one.get(a, 0.0) for one in told] == pytest.approx([1.7071, 1.7071, 0.0], abs=1e-3)
    assert [one.get(b, 0.0) for one in told] == pytest.approx([0.7071, 0.7071, 2.0], abs=1e-3)
    # cos(1, 2) = 1; cos(1, 3) = .7071 / sqrt(1.7071^2 + .7071^2) = .3827: not above .5. Post 4 has one like only.
    assert clusters.near(1, clusters._parameters).tolist() == [2]
    low = msgspec.structs.replace(ASKED, score_min=0.38)
    assert clusters.near(1, low).tolist() == [2, 3]
    assert clusters.index.near(1, 200, 50, 0.38)[1] == pytest.approx([1.0, 0.3827], abs=1e-3)
    assert clusters.near(3, low).tolist() == [1, 2]
    assert clusters.near(4, low).tolist() == clusters.near(77, low).tolist() == []


@pytest.mark.parametrize(("likes", "expected"), [(15, []), (16, [1])])
def test_an_embedding_counts_from_sixteen_likes_on(likes: int, expected: list[int]) -> None:
    story = Story()
    fans(story, (101,))
    story.until(T)
    story.like(*((1000 + one, 1, 99) for one in range(16)), *((1000 + one, 2, 99) for one in range(likes)))
    assert story.until(T + 600_000).near(2, ASKED).tolist() == expected


def test_old_posts_are_asked_about_and_not_found() -> None:
    story = Story(msgspec.structs.replace(ASKED, engagements_min=1))
    fans(story, (101,))
    story.until(T)
    story.like((1001, 1, 99), created_ms=T)
    story.like((1001, 2, 99), created_ms=T - 2 * DAY_MS)
    clusters = story.until(T + 600_000)
    assert clusters.near(2, ASKED).tolist() == [1]
    assert clusters.near(1, ASKED).tolist() == []


def test_a_deleted_user_is_forgotten_and_the_posts_keep_what_was_given() -> None:
    story = Story(msgspec.structs.replace(ASKED, engagements_min=1))
    fans(story, (101,))
    story.until(T)
    story.like((1001, 1, 101), (1002, 2, 101))
    story.clusters.forget(key_of(1001))
    story.clusters.forget(101)
    story.clusters.forget(12345)
    clusters = story.until(T + 2 * DAY_MS)
    assert clusters.interested_in(1001) == {}
    assert clusters.known_for(101) == 0
    assert clusters._post_index.find(np.array([1, 2], np.uint64)).min() >= 0
    assert clusters.interested_in(1002) == {}, "whom 1002 followed is gone, at the next fit at the latest"


def test_a_few_wrong_clocks_move_nothing() -> None:
    story = Story()
    fans(story, (101,))
    clusters = story.until(T)
    before = clusters.clock_ms, clusters._next_look_ms
    story.follow(*((50 + one, NOBODY) for one in range(4)), at_ms=T + 400 * DAY_MS)
    assert (clusters.clock_ms, clusters._next_look_ms) == before == (T, T + 600_000)


def test_the_posts_that_came_first_leave_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest_clusters, "POSTS", 64)
    story = Story(msgspec.structs.replace(ASKED, engagements_min=1))
    fans(story, (101,))
    story.until(T)
    story.like(*((1001, post, 99) for post in range(1, 36)))
    story.until(T + 600_000)
    story.like(*((1001, post, 99) for post in range(36, 71)))
    clusters = story.until(T + 1_200_000)
    found = clusters._post_index.find(np.arange(1, 71, dtype=np.uint64))
    assert (found >= 0).tolist() == [False] * 6 + [True] * 64
    assert len(clusters.index) == 64


Events = st.lists(
    st.tuples(
        st.booleans(), st.integers(1, 6), st.integers(11, 14), st.integers(21, 28), st.integers(0, 20), st.booleans()
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(Events, st.integers(1, 50), st.sampled_from([3, 7, 4096]))
def test_it_makes_no_difference_how_events_are_cut(
    events: list[tuple[bool, int, int, int, int, bool]], at_once: int, fold: int
) -> None:
    parameters = msgspec.structs.replace(ASKED, engagements_min=1, followers_min=1, refresh_s=60)
    whole, cut = InterestClusters(parameters), InterestClusters(parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interest_clusters, "FOLD", fold)
        for clusters, size in ((whole, len(events)), (cut, at_once)):
            minutes = 0
            for start in range(0, len(events), size):
                likes, places, follows, follow_places = [], [], [], []
                for place, (is_like, viewer, author, post, _, undo) in enumerate(events[start : start + size]):
                    minutes += events[start + place][4]
                    at_ms = T + 10_000 * minutes
                    if is_like:
                        likes.append((viewer, post, author, T, at_ms))
                        places.append(place)
                    else:
                        follows.append(Follow(at_ms, viewer, author, undo))
                        follow_places.append(place)
                columns = zip(*likes, strict=True) if likes else [()] * 5
                kinds = (np.uint64, np.uint64, np.uint64, np.int64, np.int64)
                told = Likes(*(np.array(one, kind) for one, kind in zip(columns, kinds, strict=True)))
                clusters.take(told, np.array(places, np.int64), follows, follow_places)
    for viewer in range(1, 7):
        assert cut.interested_in(viewer) == whole.interested_in(viewer)
    assert [cut.known_for(one) for one in range(11, 15)] == [whole.known_for(one) for one in range(11, 15)]
    for post in range(21, 29):
        assert cut.near(post, parameters).tolist() == whole.near(post, parameters).tolist()


def test_rows_keep_the_heaviest_and_lose_what_falls_to_nothing() -> None:
    rows = SparseRows(2)
    rows.add(np.array([1, 1, 1, 70]), np.array([5, 6, 7, 5], np.int32), np.array([1.0, 3.0, 2.0, 1.0]))
    assert rows.labels[1].tolist() == [6, 7]
    assert rows.weights[1].tolist() == [3.0, 2.0]
    rows.add(np.array([1, 1, 1]), np.array([6, 9, 0], np.int32), np.array([-3.0, 2.0, 9.0]))
    assert rows.labels[1].tolist() == [7, 9]
    assert rows.labels[70].tolist() == [5, 0]
    assert rows.normalised(np.array([1, 70, 0])).tolist() == [pytest.approx([0.7071, 0.7071], abs=1e-4), [1, 0], [0, 0]]
    rows.clear(np.array([1]))
    assert not rows.labels[1].any()


def test_a_cluster_lists_its_top_posts_only() -> None:
    # Five posts of one cluster, weights falling: with room for two a list, the fifth finds the first two.
    labels, weights = np.ones((5, 1), np.int32), np.array([[0.9], [0.8], [0.7], [0.6], [1.0]], np.float32)
    posts = np.arange(1, 6, dtype=np.uint64)
    index = ClusterIndex(posts, labels, weights, np.array([True, True, True, True, False]), 2)
    assert index.near(5, 10, 50, 0.5)[0].tolist() == [1, 2]
    assert index.near(5, 1, 50, 0.5)[0].tolist() == [1]
    assert index.near(5, 10, 50, 0.85)[0].tolist() == [1]
    assert index.near(9, 10, 50, 0.5)[0].tolist() == []


def test_the_graph_knows_what_is_new_and_what_is_taken_back() -> None:
    graph = EngagementGraph()
    told = np.array([1, 1, 2, 1, 1]), np.array([8, 8, 8, 8, 9]), np.array([False, False, False, True, True])
    assert graph.follow(*told).tolist() == [1, 0, 1, -1, 0]
    assert [column.tolist() for column in graph.follows()] == [[2], [8]]
