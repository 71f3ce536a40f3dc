"""Memory: bytes a live post that was acted on, beside its embedding, and bytes a viewer with a full sequence.

`python -m benchmarks.memory [--quick]`
"""

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flows.terminal import console, rows_table
from operators.keys import partitions_of
from operators.parameters import DEFAULTS
from operators.posts.counts import SHOWN
from operators.posts.live import LivePosts
from operators.state import live_posts
from operators.viewers.sequences import NO_TERMS, Actions
from operators.viewers.viewers import PARTITIONS, Viewers
from schemas.events import PostCreated

NOW_MS = 1_770_000_000_000
# The limits, in bytes.
POST_BYTES_MAX = 300
VIEWER_BYTES_MAX = 4096


def _resident_bytes() -> int:
    """Return the memory this process holds now, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _posts(count: int) -> LivePosts:
    posts = live_posts(DEFAULTS)
    rng = np.random.default_rng(0)
    authors = rng.integers(1, count // 10 + 2, count).tolist()
    for start in range(0, count, 4096):
        events = [
            PostCreated(
                at=NOW_MS + n, post=n + 1, author=authors[n], text=f"about word{n % 977} and fifteen more words " * 2
            )
            for n in range(start, min(start + 4096, count))
        ]
        posts.apply(events, events[-1].at)
        keys = np.array([event.post for event in events], np.uint64)
        posts.counts.add(keys, np.full(len(keys), SHOWN), np.ones(len(keys), np.int64))
    return posts


def _viewers(count: int) -> Viewers:
    viewers = Viewers(DEFAULTS)
    keys = np.arange(1, count + 1)
    groups = DEFAULTS.history.groups_max
    for group in range(groups):
        actions = Actions(
            slot=keys.astype(np.int64),
            post=np.full(count, group + 1, np.uint64),
            author=(keys % 5000 + 1).astype(np.uint64),
            terms=np.ones((count, NO_TERMS), np.uint16),
            action=np.zeros(count, np.uint8),
            undo=np.zeros(count, np.bool_),
            dwell_s=np.zeros(count, np.float32),
            surface=np.ones(count, np.uint8),
            at_ms=np.full(count, NOW_MS + group * 1000, np.int64),
        )
        viewers.apply(actions, partitions_of(keys.view(np.uint64), PARTITIONS), (), ())
    return viewers


def run(quick: bool) -> list[dict[str, Any]]:
    """Return counted bytes and the growth of the process, each by one, beside the limit."""
    rows = []
    for what, count, make, limit in (
        ("live post", 100_000 if quick else 1_000_000, _posts, POST_BYTES_MAX),
        ("viewer with a full sequence", 10_000 if quick else 100_000, _viewers, VIEWER_BYTES_MAX),
    ):
        before = _resident_bytes()
        made = make(count)
        rows.append(
            {
                "what": what,
                "count": count,
                "counted_bytes_each": made.memory_bytes() / count,
                "process_growth_each": (_resident_bytes() - before) / count,
                "limit": limit,
            }
        )
    return rows


if __name__ == "__main__":
    console.print(rows_table("memory", run("--quick" in sys.argv)))
