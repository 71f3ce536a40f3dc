"""Interest clusters: who belongs together by followers, who is interested in what, and posts by who likes them.

2023-generation.md 4, and the SimClusters source of x-algorithm.md 1.5. KnownFor gives each producer with enough
followers one cluster (operators/posts/known_for.py). InterestedIn of a viewer counts follows and likes of producers by
cluster. A post's embedding is the sum of its likers' unit vectors of interest, as they were when they liked it.

Events are only noted as they come, and taken in together every `refresh_s` of event time, or when FOLD of them wait:
then likers count for their posts with the interests they had before, and then their interests change. Where these
moments lie follows from the events and their order alone, and so does all that is told.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, no_keys
from operators.parameters.simclusters import SimClusters
from operators.posts.cluster_index import ClusterIndex
from operators.posts.engagement_graph import EngagementGraph, People
from operators.posts.key_index import KeyIndex
from operators.posts.known_for import clustered, likenesses, named
from operators.posts.sparse_rows import Labels, SparseRows
from operators.recent import RecentEvents, event_hashes
from schemas.events import Follow
from schemas.ids import key_of

Times = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

# Events that are taken in at once, at most: some 10 ms.
FOLD: Final = 4096
# The clock is the median time of so many latest events, as the job's is: a few wrong clocks move nothing.
CLOCK_EVENTS: Final = 9
# Posts whose embeddings are kept, the latest to get a first like, and clusters of each: 8 MB.
POSTS: Final = 2**16
POST_LABELS: Final = 16
# Fitted anew besides whenever there are twice as many follows as the last time, from so many on.
FOLLOWS_FIRST: Final = 64


class Likes(NamedTuple):
    """Likes in their order: keys of viewers, posts and their authors, when the posts were created, when they came."""

    viewer: Keys
    post: Keys
    author: Keys
    created_ms: Times
    at_ms: Times

    def take(self, rows: Places | slice) -> "Likes":
        """Return some of them."""
        return Likes(*(column[rows] for column in self))  # type: ignore[arg-type]


NO_LIKES: Final = Likes(no_keys(), no_keys(), no_keys(), np.empty(0, np.int64), np.empty(0, np.int64))


class InterestClusters:
    """Keeps clusters, interests and embeddings up; deterministic, bounded, the same however events are cut."""

    def __init__(self, parameters: SimClusters) -> None:
        self._parameters = parameters
        self.people = People()
        self._graph = EngagementGraph()
        self.interests = SparseRows(parameters.interests_max)
        self._fitted_ms = 0
        self._follows_fitted = 0
        self._next_label = 1
        self._embeddings = SparseRows(POST_LABELS)
        self._post_index = KeyIndex()
        self._posts: Keys = np.zeros(64, np.uint64)
        self._created_ms: Times = np.zeros(64, np.int64)
        self._likes: npt.NDArray[np.int32] = np.zeros(64, np.int32)
        self._posts_end = 0
        self._waiting: list[tuple[Likes, Sequence[Follow]]] = []
        self._waits = 0
        self._recent = RecentEvents()
        self._latest_ms: Times = np.empty(0, np.int64)
        self._next_look_ms = self._next_fit_ms = 0
        self.clock_ms = 0
        self.index = ClusterIndex(
            np.empty(0, np.uint64),
            np.zeros((0, POST_LABELS), np.int32),
            np.zeros((0, POST_LABELS), np.float32),
            np.zeros(0, np.bool_),
            parameters.posts_per_cluster,
        )

    def memory_bytes(self) -> int:
        """Return the bytes of all columns."""
        columns = self._posts.nbytes + self._created_ms.nbytes + self._likes.nbytes + self._post_index.memory_bytes()
        parts = (self.people, self._graph, self.interests, self._embeddings)
        return columns + sum(part.memory_bytes() for part in parts)

    # -- taking in

    def take(self, likes: Likes, like_places: Places, follows: Sequence[Follow], follow_places: Sequence[int]) -> None:
        """Take likes and follows, whose places say in which order they came."""
        count = len(likes.viewer)
        at_ms = np.concatenate([likes.at_ms, np.array([one.at for one in follows], np.int64)])
        order = np.argsort(np.concatenate([like_places, np.array(follow_places, np.int64)]), kind="stable")
        at_ms, start = at_ms[order], 0
        while start < len(order):
            look_at = self._next_look(at_ms[start:])
            stop = min(start + look_at, start + FOLD - self._waits, len(order))
            some = order[start:stop]
            self._waiting.append((likes.take(some[some < count]), [follows[i - count] for i in some[some >= count]]))
            self._waits += stop - start
            self._latest_ms = np.concatenate([self._latest_ms, at_ms[start:stop]])[-CLOCK_EVENTS:]
            if stop - start == look_at:
                self._look()
            elif self._waits == FOLD:
                self._fold()
            start = stop

    def _next_look(self, at_ms: Times) -> int:
        """Return after how many of the events that come it is time to look at all posts; more than there are for not.

        That is when most of the latest `CLOCK_EVENTS` are from after the time of the next look.
        """
        after = np.concatenate([self._latest_ms[-CLOCK_EVENTS + 1 :], at_ms]) >= self._next_look_ms
        if not after.any():
            return len(at_ms) + 1
        known = len(after) - len(at_ms)
        summed = np.concatenate([np.zeros(CLOCK_EVENTS, np.int64), np.cumsum(after)])
        most = summed[CLOCK_EVENTS:] - summed[:-CLOCK_EVENTS] > CLOCK_EVENTS // 2
        found = np.flatnonzero(most[known:])
        return int(found[0]) + 1 if len(found) else len(at_ms) + 1

    def _look(self) -> None:
        """Take in what waits, place or fit producers, and let the embeddings of this moment be what is searched."""
        parameters = self._parameters
        self.clock_ms = max(self.clock_ms, int(np.sort(self._latest_ms)[(len(self._latest_ms) - 1) // 2]))
        self._next_look_ms = (self.clock_ms // (parameters.refresh_s * 1000) + 1) * parameters.refresh_s * 1000
        self._fold()
        grown = self._graph.entries >= max(2 * self._follows_fitted, FOLLOWS_FIRST)
        if grown or self.clock_ms >= self._next_fit_ms:
            self._next_fit_ms = (self.clock_ms // (parameters.refit_s * 1000) + 1) * parameters.refit_s * 1000
            self._fit()
        else:
            self._place_new()
        used = np.flatnonzero((self._likes >= parameters.engagements_min) & (self._posts != 0))
        self.index = ClusterIndex(
            self._posts[used],
            self._embeddings.labels[used],
            self._embeddings.normalised(used),
            self._created_ms[used] >= self.clock_ms - parameters.age_s * 1000,
            parameters.posts_per_cluster,
        )

    def _fold(self) -> None:
        """Take in the events that wait: likes for the posts by the likers' interests so far, then all for interests."""
        if not self._waits:
            return
        waiting, self._waiting, self._waits = self._waiting, [], 0
        likes = Likes(*(np.concatenate(columns) for columns in zip(*(some for some, _ in waiting), strict=True)))
        # What is delivered twice, or taken back and given again, counts once.
        likes = likes.take(np.flatnonzero(self._recent.new(event_hashes(likes.viewer, likes.post))))
        follows = [follow for _, some in waiting for follow in some]
        viewer, author = self.people.give(likes.viewer), self.people.give(likes.author)
        follower = self.people.give(np.array([key_of(one.viewer) for one in follows], np.uint64))
        producer = self.people.give(np.array([key_of(one.author) for one in follows], np.uint64))
        self.interests.reserve(self.people.end)
        self._embed(likes, viewer)
        self._graph.like(viewer, author, likes.at_ms)
        signs = self._graph.follow(follower, producer, np.array([one.undo for one in follows], np.bool_))
        self._interest(
            np.concatenate([viewer, follower]),
            np.concatenate([author, producer]),
            np.concatenate([self._like_weights(likes.at_ms), self._parameters.follow_weight * signs]),
        )

    def _like_weights(self, at_ms: Times) -> npt.NDArray[np.float64]:
        """Return the weights of likes beside those of the last fit: later ones weigh more, as all others weigh less."""
        half_lives = (at_ms - self._fitted_ms) / (1000 * self._parameters.like_half_life_s)
        # A first fit takes all as they come; a wrong clock shall not weigh more than a few likes.
        return self._parameters.like_weight * np.exp2(
            np.minimum(half_lives, 1.0) if self._fitted_ms else 0 * half_lives
        )

    def _interest(self, viewer: Places, producer: Places, weights: npt.NDArray[np.float64]) -> None:
        labels = self.people.label[producer]
        known = (labels > 0) & (viewer > 0) & (weights != 0)
        self.interests.add(viewer[known], labels[known], weights[known])

    def _embed(self, likes: Likes, viewer: Places) -> None:
        """Add the likers' interests, as unit vectors, to the posts."""
        slots = self._slots_of(likes.post, likes.created_ms)
        np.add.at(self._likes, slots, 1)
        labels, weights = self.interests.labels[viewer], self.interests.normalised(viewer)
        rows = np.repeat(slots, self.interests.width)
        there = labels.ravel() > 0
        self._embeddings.add(rows[there], labels.ravel()[there], weights.ravel()[there].astype(np.float64))

    def _slots_of(self, posts: Keys, created_ms: Times) -> Places:
        """Return the slots of posts; new ones take the places of those that came first."""
        slots = self._post_index.find(posts)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            _, first = np.unique(posts[missing], return_index=True)
            new = missing[np.sort(first)]
            given = np.arange(self._posts_end, self._posts_end + len(new)) & (POSTS - 1)
            self._posts_end += len(new)
            while len(self._posts) < min(self._posts_end, POSTS):
                for name in ("_posts", "_created_ms", "_likes"):
                    column = getattr(self, name)
                    setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
            self._embeddings.reserve(len(self._posts))
            gone = self._posts[given]
            self._post_index.remove(gone[gone != 0])
            self._embeddings.clear(given)
            self._likes[given] = 0
            self._posts[given], self._created_ms[given] = posts[new], created_ms[new]
            self._post_index.insert(posts[new], given)
            slots = self._post_index.find(posts)
        return slots

    # -- clusters

    def _fit(self) -> None:
        """Fit KnownFor anew, named after the last, and all interests from the follows and likes that are kept."""
        self._graph.compact(self.people)
        follower, producer = self._graph.follows()
        self._fitted_ms, self._follows_fitted = self.clock_ms, len(follower)
        producers = self._producers(producer)
        number = np.full(self.people.end, -1, np.int64)
        number[producers] = np.arange(len(producers))
        ours = number[producer] >= 0
        clusters = clustered(likenesses(follower[ours], number[producer[ours]], len(producers)))
        found, place = np.unique(clusters, return_inverse=True)
        names = np.zeros(len(found), np.int32)
        names[place] = named(clusters, self.people.label[producers])
        self.people.label[:] = 0
        self.people.label[producers] = self._labelled(names)[place]
        self.interests = SparseRows(self._parameters.interests_max, self.people.end)
        likes_age = self._graph.liked_ms - self._fitted_ms
        weights = self._parameters.like_weight * np.exp2(likes_age / (1000 * self._parameters.like_half_life_s))
        self._interest(
            np.concatenate([follower, self._graph.liker]),
            np.concatenate([producer, self._graph.liked]),
            np.concatenate([np.full(len(follower), self._parameters.follow_weight), weights]),
        )

    def _place_new(self) -> None:
        """Put producers without a cluster where most of their followers' interest is, or else into one of their own."""
        follower, producer = self._graph.follows()
        producers = self._producers(producer)
        producers = producers[self.people.label[producers] == 0]
        if not len(producers):
            return
        number = np.full(self.people.end, -1, np.int64)
        number[producers] = np.arange(len(producers))
        theirs = np.flatnonzero(number[producer] >= 0)
        fans, width = follower[theirs], self.interests.width
        votes = SparseRows(1, len(producers))
        votes.add(
            np.repeat(number[producer[theirs]], width),
            self.interests.labels[fans].ravel(),
            self.interests.normalised(fans).ravel().astype(np.float64),
        )
        most = votes.weights[: len(producers), 0] * 2 > np.bincount(number[producer[theirs]], minlength=len(producers))
        self.people.label[producers] = self._labelled(np.where(most, votes.labels[: len(producers), 0], np.int32(0)))
        self._interest(fans, producer[theirs], np.full(len(fans), self._parameters.follow_weight))

    def _producers(self, producer: Places) -> Places:
        """Return who has enough followers."""
        return np.flatnonzero(np.bincount(producer, minlength=1) >= self._parameters.followers_min)

    def _labelled(self, labels: Labels) -> Labels:
        """Return labels, with a new one each where there is none."""
        labels = labels.copy()
        missing = np.flatnonzero(labels == 0)
        labels[missing] = np.arange(self._next_label, self._next_label + len(missing))
        self._next_label += len(missing)
        return labels

    # -- asking

    def near(self, post: int, asked: SimClusters) -> Keys:
        """Return the posts nearest to a post, best first, as of the last look."""
        return self.index.near(post, asked.per_signal_max, asked.clusters_scanned, asked.score_min)[0]

    def interested_in(self, viewer: int) -> dict[int, float]:
        """Return the clusters that a viewer is interested in, with weights as a unit vector, heaviest first."""
        person = self.people.find(np.array([viewer], np.uint64))
        weights = self.interests.normalised(person)[0]
        labels = self.interests.labels[person[0]]
        return {label: weight for label, weight in zip(labels.tolist(), weights.tolist(), strict=True) if label}

    def shares_of(self, viewer: int, producers: Keys) -> Weights | None:
        """Return the share of a viewer's interest in each producer's cluster, float64[n], 0 where it has none.

        Shares sum to 1 over clusters: 252 and 151 of follows and likes are 62.5 % and 37.5 %. None for a viewer without
        interests.
        """
        person = int(self.people.find(np.array([viewer], np.uint64))[0])
        labels, weights = self.interests.labels[person], self.interests.weights[person]
        exact = weights.astype(np.float64)
        total = float(exact.sum())
        if not person or not total:
            return None
        share_of = dict(zip(labels.tolist(), (exact / total).tolist(), strict=True)) | {0: 0.0}
        met, place = np.unique(self.people.label[self.people.find(producers)], return_inverse=True)
        return np.array([share_of.get(label, 0.0) for label in met.tolist()])[place]

    def known_for(self, producer: int) -> int:
        """Return the cluster of a producer, 0 for none."""
        return int(self.people.label[self.people.find(np.array([producer], np.uint64))[0]])

    def forget(self, user: int) -> None:
        """Forget who a user was, follows and likes; what was liked keeps what the likes gave."""
        self._fold()
        person = int(self.people.find(np.array([user], np.uint64))[0])
        if person:
            self._graph.forget(person)
            self.interests.clear(np.array([person]))
            self.people.forget(person)
