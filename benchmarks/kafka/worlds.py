"""Live posts and viewers for the job's stores, written by its own code: no message passes through Kafka for them.

Records of viewers come from a pool: what a request costs depends on how long history and follows are, not on whether
two viewers out of hundreds have the same.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.kafka.plans import POSTS_PER_AUTHOR
from flows.serving.durable import DurableState, posts_folder
from flows.serving.positions import Positions
from infra.kafka.topics import PARTITIONS
from infra.world.phrases import TOPICS
from models.content import content_terms
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS
from operators.viewers.facts import Facts, encode_viewer
from operators.viewers.relations import Relations
from operators.viewers.sequences import GROUP, Groups
from schemas.codec import encode
from schemas.events import PostCreated
from schemas.message_keys import partition_of_id

HOUR_MS: Final = 3_600_000
# Posts lie within the last 40 hours, so that none expires (after 48) while a run goes on.
SPAN_MS: Final = 40 * HOUR_MS
HISTORY: Final = 128
SHORT_HISTORY: Final = 24
FOLLOWS: Final = 200  # by how much authors post: about 19,000 live posts, far more than Thunder returns
SHORT_FOLLOWS: Final = 30
FOLLOWERS: Final = 50
# So many viewers have a full history and are asked for; the rest of a million have short ones (1 kB against 6).
FULL_VIEWERS_MAX: Final = 100_000
POOL: Final = 2_000
POSTS_PER_CHUNK: Final = 2_048

Ids = npt.NDArray[np.int64]


class Posts:
    """So many posts, numbered from 1 by age: how much authors post is log-normal with sigma 1.5."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.count = count
        self.authors = max(FOLLOWS * 2, count // POSTS_PER_AUTHOR)
        weights = rng.lognormal(0, 1.5, self.authors)
        self.weights = weights / weights.sum()
        self.author = rng.choice(self.authors, count, p=self.weights) + 1
        self._rng = rng
        self.texts, self.topics = _texts()
        self.text = rng.integers(0, len(self.texts), count)

    def lines(self, now_ms: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield chunks of encoded posts, oldest first, each with the latest time in it."""
        at = (now_ms - SPAN_MS + np.arange(1, self.count + 1) * (SPAN_MS / self.count)).astype(np.int64).tolist()
        kinds = self._rng.random(self.count).tolist()
        back = (self._rng.exponential(2_000, self.count).astype(np.int64) + 1).tolist()
        for start in range(0, self.count, POSTS_PER_CHUNK):
            places = range(start, min(start + POSTS_PER_CHUNK, self.count))
            yield at[places[-1]], [self._line(place, at[place], kinds[place], place - back[place]) for place in places]

    def _line(self, place: int, at: int, kind: float, other: int) -> bytes:
        """35 % replies, 15 % reposts, 5 % quotes, the rest originals, as in benchmarks/thunder.py."""
        post, author, text = place + 1, int(self.author[place]), self.texts[self.text[place]]
        topics = (self.topics[self.text[place]],)
        if other < 0 or kind >= 0.55:
            return encode(PostCreated(at, post, author, text, "en", topics, 30_000 * (post % 10 == 0)))
        others = int(self.author[other])
        if kind < 0.35:
            return encode(PostCreated(at, post, author, text, "en", topics, reply_to=other + 1, reply_to_author=others))
        if kind < 0.5:
            return encode(PostCreated(at, post, author, repost_of=other + 1, repost_of_author=others))
        return encode(PostCreated(at, post, author, text, "en", topics, quote_of=other + 1, quote_of_author=others))

    def terms(self) -> npt.NDArray[np.uint16]:
        """Return the content terms of each text, uint16[texts, 4]."""
        each = zip(self.texts, self.topics, strict=True)
        return np.array([content_terms(text, (topic,), "en") for text, topic in each], np.uint16)


def _texts() -> tuple[list[str], list[str]]:
    """Return every sentence of the simulated world with its first words in place, and its topic."""
    texts, topics = [], []
    for topic in TOPICS:
        for number, sentence in enumerate(topic.sentences):
            for thing in topic.things:
                matter = topic.matters[(number + len(thing)) % len(topic.matters)]
                words = {"{x}": thing, "{y}": matter, "{X}": thing.capitalize(), "{Y}": matter.capitalize()}
                text = sentence
                for mark, word in words.items():
                    text = text.replace(mark, word)
                texts.append(text)
                topics.append(topic.name)
    return texts, topics


class Worlds:
    """Stores under one folder, made once each; a job gets them without offsets, so for any topics that are empty."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self._folder = folder
        self._phoenix = Phoenix.load(checkpoint)
        self._posts: dict[int, Posts] = {}
        self._states = 0

    def state(self, posts: int, viewers: int, posts_at_once: int = POSTS_PER_CHUNK, instances: int = 1) -> Path:
        """Return a new state folder with so many live posts and viewers, for so many instances.

        `posts_at_once` is how many posts the job took in at a time: it takes them in again as it did.
        """
        self._states += 1
        state = self._folder / f"state-{self._states}"
        state.mkdir(parents=True)
        from_posts = self._posts_store(posts, posts_at_once)
        for instance in range(instances):
            shutil.copytree(from_posts, posts_folder(state, instance))
        for folder in self._viewer_stores(posts, viewers).iterdir():
            if folder.name.startswith("viewers-"):
                shutil.copytree(folder, state / folder.name)
        return state

    def _open(self, folder: Path, owned: range) -> DurableState:
        return DurableState(folder, owned, 0, DEFAULTS, self._phoenix)

    def _of(self, posts: int) -> Posts:
        return self._posts.setdefault(posts, Posts(posts))

    def _posts_store(self, count: int, at_once: int) -> Path:
        folder = self._folder / f"posts-{count}-{at_once}"
        if not folder.exists():
            state = self._open(folder, range(0))
            latest_ms = 0
            for latest_ms, lines in self._of(count).lines(time.time_ns() // 1_000_000 - 60_000):
                polls = [(latest_ms, lines[start : start + at_once]) for start in range(0, len(lines), at_once)]
                state.commit_posts(polls, latest_ms, 0, Positions(clock_ms=latest_ms))
            state.close()
        return posts_folder(folder, 0)

    def _viewer_stores(self, posts: int, viewers: int) -> Path:
        folder = self._folder / f"viewers-{posts}-{viewers}"
        if not folder.exists():
            full, short = self._records(posts, HISTORY, FOLLOWS), self._records(posts, SHORT_HISTORY, SHORT_FOLLOWS)
            by_partition: list[list[tuple[int, bytes]]] = [[] for _ in range(PARTITIONS)]
            for viewer in range(1, viewers + 1):
                pool = full if viewer <= FULL_VIEWERS_MAX else short
                by_partition[partition_of_id(viewer, PARTITIONS)].append((viewer, pool[viewer % POOL]))
            state = self._open(folder, range(PARTITIONS))
            for partition, records in enumerate(by_partition):
                state.commit_viewers(partition, records, Positions())
            state.close()
        return folder

    def _records(self, count: int, history: int, follows: int) -> list[bytes]:
        """Return a pool of viewers: actions on posts of the last hours, follows by how much authors post."""
        rng, posts = np.random.default_rng(history), self._of(count)
        terms = posts.terms()
        now_s = int(time.time())
        records = []
        for _ in range(POOL):
            rows = np.zeros(history, GROUP)
            place = rng.integers(0, count, history)
            rows["post"], rows["author"] = place + 1, posts.author[place]
            rows["terms"] = terms[posts.text[place]]
            rows["actions"] = 1 << rng.integers(0, 5, history)
            rows["at_s"] = np.sort(now_s - rng.integers(60, SPAN_MS // 1000, history))
            drawn = rng.choice(posts.authors, min(follows, posts.authors // 2), replace=False, p=posts.weights)
            followed = np.sort(drawn + 1).astype(np.uint64)
            followers = np.sort(rng.choice(followed, min(FOLLOWERS, len(followed)), replace=False))
            relations = Relations(followed=followed, followed_by=followers)
            records.append(encode_viewer(Groups(history, HISTORY, rows), Facts(relations)))
        return records


def live_viewers(viewers: int) -> int:
    """Return how many viewers have a full history: those from 1 on."""
    return min(viewers, FULL_VIEWERS_MAX)
