"""Thunder and the post table: look-ups for every shape of follow list beside a dict of deques, appends, bytes a post.

`python -m benchmarks.thunder [--quick]`: a million posts of 100,000 authors (quick: a tenth of both).
"""

import heapq
import itertools
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from schemas.events import PostCreated, PostDeleted, PostEvent

START_MS: Final = 1_770_000_000_000
RETENTION_MS: Final = 172_800_000
BATCH: Final = 256
WANTED: Final = 1200
WORDS_PER_POST: Final = 18  # a post of some 100 characters

Keys = npt.NDArray[np.uint64]
Deques = dict[int, deque[tuple[int, int]]]


def world(posts: int, authors: int, seed: int = 0) -> tuple[npt.NDArray[np.int64], Iterator[list[PostEvent]]]:
    """Return each post's author and the events in batches: 2 days of posts, 45 % originals, 2 % deleted again.

    How much authors post is log-normal with sigma 1.5: the busiest percent writes a fifth of everything.
    """
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0, 1.5, authors)
    author_of = rng.choice(authors, posts, p=weights / weights.sum()) + 1
    return author_of, _batches(author_of, rng)


def _batches(author_of: npt.NDArray[np.int64], rng: np.random.Generator) -> Iterator[list[PostEvent]]:
    count = len(author_of)
    words = 1 / np.arange(1, 20_001)
    drawn = rng.choice(len(words), (5_000, WORDS_PER_POST), p=words / words.sum())
    texts = [" ".join(f"word{word}" for word in line) for line in drawn.tolist()]
    kinds = rng.random(count).tolist()
    back = (rng.exponential(2_000, count).astype(np.int64) + 1).tolist()
    at = (START_MS + np.arange(count) * (RETENTION_MS / count)).astype(np.int64).tolist()
    authors = author_of.tolist()
    roots = list(range(1, count + 1))
    batch: list[PostEvent] = []
    for place, kind in enumerate(kinds):
        post, other = place + 1, place - back[place]
        text, video = texts[place % len(texts)], 30_000 * (post % 10 == 0)
        if kind < 0.35 and other >= 0:
            roots[place] = roots[other]
            event = PostCreated(
                at[place], post, authors[place], text, "en", (), video, False, other + 1, authors[other], roots[other]
            )
        elif kind < 0.5 and other >= 0:
            event = PostCreated(at[place], post, authors[place], repost_of=other + 1, repost_of_author=authors[other])
        elif kind < 0.55 and other >= 0:
            event = PostCreated(at[place], post, authors[place], text, quote_of=other + 1)
        else:
            event = PostCreated(at[place], post, authors[place], text, "en", (), video)
        batch.append(event)
        if kind > 0.98:
            batch.append(PostDeleted(at[place], max(1, post - back[place]), authors[max(0, other)]))
        if len(batch) >= BATCH:
            yield batch
            batch = []
    yield batch


def follow_lists(author_of: npt.NDArray[np.int64], authors: int, seed: int = 1) -> dict[str, Keys]:
    """Return follow lists of many shapes, uint64 keys of authors, sorted as viewers keep theirs."""
    rng = np.random.default_rng(seed)
    posts = np.bincount(author_of, minlength=authors + 1)[1:].astype(np.float64)
    busiest = np.argsort(-posts) + 1
    rare = np.flatnonzero((posts >= 1) & (posts <= 2)) + 1
    by_posts = posts / posts.sum()
    many = min(10_000, int((posts > 0).sum()))
    shapes = {
        "1,000 by how much they post": rng.choice(authors, 1000, replace=False, p=by_posts) + 1,
        "1,000 at random": rng.choice(authors, 1000, replace=False) + 1,
        "1,000 busiest": busiest[:1000],
        "1,000 rare": rng.choice(rare, min(1000, len(rare)), replace=False),
        "10,000 by how much they post": rng.choice(authors, many, replace=False, p=by_posts) + 1,
        "10,000 at random": rng.choice(authors, min(10_000, authors), replace=False) + 1,
        "10,000 rare": rng.choice(rare, min(10_000, len(rare)), replace=False),
        "300 at random": rng.choice(authors, 300, replace=False) + 1,
        "100 by how much they post": rng.choice(authors, 100, replace=False, p=by_posts) + 1,
        "50 busiest": busiest[:50],
        "20 busiest": busiest[:20],
        "10 rare": rng.choice(rare, 10, replace=False),
        "1 busiest": busiest[:1],
        "1 busiest and 2,000 rare": np.concatenate(
            [busiest[:1], rng.choice(rare, min(2000, len(rare)), replace=False)]
        ),
        "10,000 without posts": np.arange(authors + 1, authors + 10_001),
    }
    return {name: np.sort(list_).astype(np.uint64) for name, list_ in shapes.items()}


def newest_of_deques(deques: Deques, followed: list[int]) -> list[tuple[int, int]]:
    """Return what the peer does: the last 80 of each author's deque, the newest 1,200 by a heap; no rule, no delete."""
    empty: deque[tuple[int, int]] = deque()
    last = (itertools.islice(reversed(deques.get(author, empty)), 80) for author in followed)
    return heapq.nlargest(WANTED, itertools.chain.from_iterable(last))


def sorted_of_deques(deques: Deques, followed: list[int]) -> list[tuple[int, int]]:
    """Return the same by sorting all of them."""
    empty: deque[tuple[int, int]] = deque()
    found: list[tuple[int, int]] = []
    for author in followed:
        found.extend(itertools.islice(reversed(deques.get(author, empty)), 80))
    found.sort(reverse=True)
    return found[:WANTED]


def timed_ms(call: Callable[[], object], runs: int) -> list[float]:
    """Return the sorted times of so many runs, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return a row for each follow list and each figure of the table; times in milliseconds."""
    posts, authors = (100_000, 10_000) if quick else (1_000_000, 100_000)
    author_of, batches = world(posts, authors)
    live = LivePosts(PostTable(capacity=posts))
    spent, events = 0.0, 0
    for batch in batches:
        start = time.process_time()
        live.apply(batch)
        spent += time.process_time() - start
        events += len(batch)
    deques: Deques = {}
    for place, author in enumerate(author_of.tolist()):
        deques.setdefault(author, deque()).append((place, place + 1))
    at_ms = START_MS + RETENTION_MS - 1
    rows = []
    for name, followed in follow_lists(author_of, authors).items():
        newest, listed = live.thunder.newest, followed.tolist()
        count = len(newest(followed, 1, at_ms))
        ours = timed_ms(lambda newest=newest, followed=followed: newest(followed, 1, at_ms), 30 if quick else 200)  # type: ignore[misc]
        heap = timed_ms(lambda listed=listed: newest_of_deques(deques, listed), 3 if quick else 7)  # type: ignore[misc]
        sort = timed_ms(lambda listed=listed: sorted_of_deques(deques, listed), 3 if quick else 7)  # type: ignore[misc]
        rows.append(
            {
                "what": f"newest {WANTED:,} of {name}",
                "value": statistics.median(ours),
                "p5": ours[len(ours) // 20],
                "p95": ours[-1 - len(ours) // 20],
                "returned": count,
                "x heap of deques": statistics.median(heap) / statistics.median(ours),
                "x sort of deques": statistics.median(sort) / statistics.median(ours),
            }
        )
    live_rows = len(live.table)
    shared = live_rows * (live.table.columns.created_ms.itemsize + live.table.columns.list.itemsize)
    figures = {
        "events appended per CPU second, in batches of 256, with words, terms and lists": events / spent,
        "bytes a post, Thunder with its share of the table (creation time, author)": (
            (live.thunder.memory_bytes() + shared) / live_rows
        ),
        "bytes a post, everything": live.memory_bytes() / live_rows,
        "live posts": live_rows,
    }
    blank = {name: "" for name in rows[0] if name not in ("what", "value")}
    return rows + [{"what": what, "value": float(value), **blank} for what, value in figures.items()]


if __name__ == "__main__":
    from flows.terminal import console, rows_table

    console.print(rows_table("thunder", run("--quick" in sys.argv)))
