"""Thunder: the rules of x-algorithm.md 2.4, without the faults of 2.5 and 2.7, and always the reference's answer."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.posts.thunder import Thunder, ThunderLimits
from schemas.events import PostCreated, PostDeleted, PostEvent
from tests.operators.posts.reference import ReferenceThunder

T0 = 3_600_000_000
VIEWER = 9_999


def no_terms(text, topics, language):
    return ()


@dataclass
class Both:
    """Live posts beside the reference."""

    live: LivePosts
    reference: ReferenceThunder

    def apply(self, events: list[PostEvent], now_ms: int | None = None) -> None:
        assert self.live.apply(events, now_ms) == []
        for event in events:
            before = self.reference.clock_ms
            self.reference.apply(event)
            if now_ms is not None:
                self.reference.clock_ms = max(before, min(event.at, now_ms))

    def newest(self, followed, at=T0, viewer=VIEWER, excluded=(), limits=None, videos_only=False) -> list[int]:
        """Return the answer that both give, Thunder in each of its ways."""
        expected = self.reference.newest(followed, viewer, at, excluded, limits, videos_only)
        for way in WAYS:
            with taking(way):
                rows = self.live.thunder.newest(
                    np.array(followed, np.uint64), viewer, at, np.array(excluded, np.uint64), limits, videos_only
                )
            assert self.live.table.gather(rows).key.tolist() == expected, way
        return expected


WAYS = ("chosen", "scan", "lists")


@contextmanager
def taking(way: str) -> Iterator[None]:
    """Let Thunder take the way that costs less, or one of the two whatever it costs."""
    if way == "chosen":
        yield
        return
    with (
        patch.object(Thunder, "_scans", lambda *_: way == "scan"),
        patch.object(Thunder, "_scans_surely", lambda *_: way == "scan"),
    ):
        yield


def both(*events: PostEvent, retention_s: int = 172_800) -> Both:
    made = Both(LivePosts(PostTable(retention_s, no_terms)), ReferenceThunder(retention_s * 1000))
    made.apply(list(events))
    return made


def post(number, author=1, at=T0, **fields) -> PostCreated:
    return PostCreated(at=at, post=number, author=author, **fields)


def deleted(number) -> PostDeleted:
    return PostDeleted(at=T0, post=number, author=1)


def test_followed_authors_newest_first_and_of_one_time_the_last_to_come():
    posts = both(post(1, 1, T0 - 5), post(2, 2), post(3, 1, T0 - 9), post(4, 3), post(5, 1), post(6, 2, T0 - 5))
    assert posts.newest([1, 2]) == [5, 2, 6, 1, 3]
    assert posts.newest([2, 1, 2]) == [5, 2, 6, 1, 3]
    assert posts.newest([3, 77]) == [4]
    assert posts.newest([77]) == posts.newest([]) == []


def test_limits_per_author_and_list_and_in_all():
    events = [post(number, 1, T0 - 500 + number) for number in range(1, 101)]
    events += [post(100 + number, 1, T0 - 300 + number, repost_of=number) for number in range(1, 101)]
    posts = both(*events, post(500, 2, T0 - 250))
    assert posts.newest([1, 2]) == [*range(200, 170, -1), 500, *range(100, 50, -1)]
    assert posts.newest([1, 2], limits=ThunderLimits(posts_max=32)) == [*range(200, 170, -1), 500, 100]
    small = ThunderLimits(originals_per_author=1, secondary_per_author=0)
    assert posts.newest([1, 2], limits=small) == [500, 100]
    assert posts.newest([1, 2], limits=ThunderLimits(posts_max=0)) == []


def test_of_long_lists_the_first_ones_count():
    posts = both(*(post(number, number, T0 - number) for number in range(1, 6)))
    assert posts.newest([4, 2, 1, 3], limits=ThunderLimits(followees_max=2)) == [2, 4]
    assert posts.newest([1, 2, 3], excluded=[3, 1, 2], limits=ThunderLimits(excluded_max=2)) == [2]


def test_excluded_posts_are_left_out_and_take_no_place():
    posts = both(*(post(number, 1, T0 - 100 + number) for number in range(1, 61)))
    assert posts.newest([1], excluded=[60, 58, 1_000]) == [59, *range(57, 8, -1)]


def test_reposts_of_the_viewers_own_posts_are_left_out():
    posts = both(
        post(1, VIEWER),
        post(2, 1, repost_of=1, repost_of_author=VIEWER),
        post(3, 1, repost_of=1),
        post(4, 1, repost_of=9, repost_of_author=8),
        post(5, 1, repost_of=6),
        post(6, VIEWER),
    )
    assert posts.newest([1]) == [4]
    assert posts.newest([1], viewer=8) == [5, 3, 2]


def thread(*extra: PostEvent) -> Both:
    return both(
        post(1, 1, T0 - 50),
        post(2, 2, T0 - 40, reply_to=1, conversation=1),  # answers an original
        post(3, 3, T0 - 30, reply_to=2, conversation=1),  # answers a direct answer by 2
        post(4, 4, T0 - 20, reply_to=3, conversation=1),  # answers an answer to an answer
        post(5, 4, T0 - 10, reply_to=77, conversation=77),  # answers what is not there
        *extra,
    )


def test_a_reply_needs_its_parent_and_an_original_parent_is_enough():
    assert thread().newest([2]) == [2]
    assert thread().newest([4]) == []
    assert thread(post(77, 7, T0 - 60)).newest([4]) == [5]
    assert thread(deleted(1)).newest([2]) == []


def test_a_reply_to_a_direct_answer_needs_its_author_followed():
    assert thread().newest([3]) == []
    assert thread().newest([3, 2]) == [3, 2]
    assert thread().newest([4, 3, 2, 1]) == [3, 2, 1]


def test_a_reply_without_conversation_takes_its_parents():
    posts = thread(post(6, 5, T0 - 5, reply_to=2), post(7, 5, T0 - 4, reply_to=3))
    assert posts.newest([5, 2, 3]) == [6, 3, 2]


def test_a_reply_to_a_repost_is_left_out():
    posts = both(post(1, 1), post(2, 2, repost_of=1), post(3, 3, reply_to=2, conversation=2))
    assert posts.newest([3, 2]) == [2]


def test_refused_replies_take_from_what_is_looked_at_but_not_from_the_limit():
    events = [post(number, 1, T0 - 100 + number, reply_to=999) for number in range(1, 21)]
    posts = both(post(50, 2, T0 - 200), post(51, 1, T0 - 150, reply_to=50), *events)
    assert posts.newest([1], limits=ThunderLimits(scan_per_author=21)) == [51]
    assert posts.newest([1], limits=ThunderLimits(scan_per_author=20)) == []


def test_videos_come_from_their_own_list_without_the_reply_rule():
    posts = both(
        post(1, 1, T0 - 9, video_ms=1),
        post(2, 1, T0 - 8),
        post(3, 1, T0 - 7, repost_of=1),
        post(4, 1, T0 - 6, repost_of=2),
        post(5, 1, T0 - 5, video_ms=1, reply_to=1, conversation=1),
        post(6, 1, T0 - 4, repost_of=5),
        post(7, 1, T0 - 3, video_ms=5, quote_of=2),
        post(8, 1, T0 - 2, repost_of=99, video_ms=7),
    )
    assert posts.newest([1], videos_only=True) == [8, 7, 3, 1]
    assert posts.newest([1], videos_only=True, excluded=[7]) == [8, 3, 1]
    assert posts.newest([1], videos_only=True, limits=ThunderLimits(videos_per_author=2)) == [8, 7]
    assert posts.newest([1], videos_only=True, limits=ThunderLimits(videos_max=1)) == [8]


def test_fault_48_posts_of_the_same_second_are_there():
    posts = both(post(1, 1, T0), post(2, 1, T0 + 1))
    assert posts.newest([1], at=T0) == [1]
    assert posts.newest([1], at=T0 + 1) == [2, 1]


def test_fault_57_no_list_pushes_out_of_another():
    events = [post(1, 1, T0 - 999), post(2, 1, T0 - 998, video_ms=1)]
    events += [post(100 + number, 1, T0 - 900 + number, repost_of=1) for number in range(700)]
    posts = both(*events, deleted(150))
    assert posts.newest([1])[-2:] == [2, 1]
    assert posts.newest([1], videos_only=True) == [2]


def test_fault_59_deleted_posts_do_not_use_up_what_is_looked_at():
    events = [post(number, 1, T0 - 2000 + number) for number in range(1, 1201)]
    posts = both(*events, *(deleted(number) for number in range(21, 1201)))
    assert posts.newest([1]) == list(range(20, 0, -1))
    assert posts.newest([1], limits=ThunderLimits(scan_per_author=5)) == [20, 19, 18, 17, 16]


def test_fault_138_deleting_a_quote_leaves_what_it_quotes_and_what_quotes_it():
    posts = both(post(1, 1), post(2, 1, quote_of=1), post(3, 1, quote_of=2), deleted(2))
    assert posts.newest([1]) == [3, 1]


def test_fault_150_reposts_of_deleted_originals_are_gone():
    posts = both(post(1, 2), post(2, 1, repost_of=1), post(3, 1, repost_of=88), post(4, 1, repost_of=77), deleted(88))
    assert posts.newest([1]) == [4, 2]
    posts.apply([deleted(1)])
    assert posts.newest([1]) == [4]


def test_fault_186_a_post_created_anew_after_its_deletion_is_back():
    live = LivePosts(PostTable(terms=no_terms))
    live.apply([post(1), post(2, 2, T0 + 1, reply_to=1), PostDeleted(at=T0 + 2, post=1, author=1)])
    follows = np.array([1, 2], np.uint64)
    assert live.thunder.newest(follows, VIEWER, T0 + 9).tolist() == []
    live.apply([post(1, at=T0 + 3)])
    assert live.thunder.newest(follows, VIEWER, T0 + 9).tolist() == [2, 1]


def test_late_events_stand_where_their_time_says():
    posts = both(*(post(number, number % 3, T0 - 5000 + number) for number in range(1, 3000)))
    posts.apply([post(5000, 1, T0 - 4000), post(5001, 2, T0 - 4900), post(5002, 1, T0)])
    found = posts.newest([1, 2], limits=ThunderLimits(posts_max=4000, originals_per_author=4000, scan_per_author=4000))
    assert found[0] == 5002
    assert found.index(5000) == found.index(1000) - 1


def test_deletions_and_creations_out_of_order():
    posts = both(deleted(1), post(1, 1), post(2, 1), post(3, 1), deleted(3))
    assert posts.newest([1]) == [2]


def test_posts_ahead_of_time_wait_and_then_stand_in_their_place():
    posts = both()
    for second in range(1, 40):
        now = T0 + second * 1000
        batch = [post(second * 100 + number, number % 5, now) for number in range(1, 81)]
        posts.apply([*batch, post(second * 100, 1, now + 300_000)], now_ms=now)
    now = T0 + 40_000
    limits = ThunderLimits(posts_max=5)
    assert posts.newest([1], at=now, limits=limits) == [3976, 3971, 3966, 3961, 3956]
    assert posts.newest([1], at=now + 270_000, limits=limits)[:3] == [1000, 900, 800]
    assert posts.newest([2], at=now + 270_000, limits=limits) == [3977, 3972, 3967, 3962, 3957]


def test_expired_posts_are_gone_from_lists_whose_authors_went_and_came_back():
    posts = both(retention_s=100)
    for minute in range(30):
        at = T0 + minute * 60_000
        posts.apply([post(minute * 50 + n + 1, 1 + (n + minute) % 17, at + n) for n in range(50)])
        follows = [1, 5, 9, 18]
        assert posts.newest(follows, at=at + 50, limits=ThunderLimits(posts_max=7))
        assert len(posts.live.table) <= 250


def test_memory_of_thunder():
    live = LivePosts(PostTable(terms=no_terms, capacity=65_536))
    rng = random.Random(0)
    for start in range(0, 65_536, 256):
        live.apply([post(n + 1, int(rng.paretovariate(0.8)) % 6_500, T0 + n) for n in range(start, start + 256)])
    columns = live.table.columns
    shared = columns.created_ms.itemsize + columns.list.itemsize
    assert live.thunder.memory_bytes() / len(live.table) + shared <= 24


small_ids = st.integers(1, 25)
authors = st.integers(1, 5)
small_events = st.one_of(
    st.builds(
        PostCreated,
        at=st.integers(T0 - 40_000, T0),
        post=st.integers(1, 10_000),
        author=authors,
        video_ms=st.sampled_from([0, 0, 5]),
        reply_to=st.none() | small_ids,
        conversation=st.none() | small_ids,
        repost_of=st.none() | small_ids,
        repost_of_author=st.none() | authors,
    ),
    st.builds(
        PostCreated, at=st.integers(T0 - 40_000, T0), post=small_ids, author=authors, reply_to=st.none() | small_ids
    ),
    st.builds(PostDeleted, at=st.just(T0 - 40_000), post=small_ids, author=st.just(1)),
)
limits = st.builds(
    ThunderLimits,
    posts_max=st.sampled_from([1, 4, 1200]),
    videos_max=st.sampled_from([2, 600]),
    originals_per_author=st.sampled_from([1, 3, 50]),
    secondary_per_author=st.sampled_from([1, 2, 30]),
    videos_per_author=st.sampled_from([1, 100]),
    scan_per_author=st.sampled_from([1, 4, 500]),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(small_events, max_size=60, unique_by=lambda event: (type(event), event.post)),
    st.lists(authors, unique=True, max_size=5),
    authors,
    st.lists(small_ids, max_size=5),
    limits,
    st.booleans(),
    st.integers(-20_000, 5_000),
    st.sampled_from([30, 172_800]),
)
def test_equals_the_reference(events, followed, viewer, excluded, limits, videos_only, later_ms, retention_s):
    posts = both(retention_s=retention_s)
    half = len(events) // 2
    posts.apply(events[:half])
    posts.newest(followed, T0 + later_ms, viewer, excluded, limits, videos_only)
    posts.apply(events[half:])
    posts.newest(followed, T0 + max(0, later_ms), viewer, excluded, limits, videos_only)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_reference_on_long_streams(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr("operators.posts.thunder._DEPTH", rng.choice([4, 256]))
    posts = both(retention_s=rng.choice([60, 172_800]))
    authors, now, number = rng.choice([3, 200]), T0, 0
    while number < 5_000:
        batch: list[PostEvent] = []
        for _ in range(rng.choice([1, 40, 256])):
            now += rng.choice([0, 1, 50])
            if rng.random() < 0.06:
                batch.append(PostDeleted(at=now, post=max(1, number - rng.randrange(40)), author=1))
                continue
            number += 1
            batch.append(random_post(rng, number, authors, now))
        posts.apply(batch, now_ms=now)
        if rng.random() < 0.1:
            followed = rng.sample(range(1, authors + 1), rng.randrange(1, min(authors, 30)))
            excluded = [rng.randrange(1, number + 1) for _ in range(rng.randrange(60))]
            chosen = ThunderLimits(
                posts_max=rng.choice([20, 1200]),
                originals_per_author=rng.choice([3, 50]),
                scan_per_author=rng.choice([20, 500]),
            )
            posts.newest(followed, now, rng.randrange(1, authors), excluded, chosen, rng.random() < 0.3)


def random_post(rng: random.Random, number: int, authors: int, now: int) -> PostCreated:
    """Return a post by one of the authors, of whom the first write most; some come late, a few are ahead of time."""
    kind, time = rng.random(), rng.random()
    at = now - rng.randrange(30_000) if time < 0.1 else now + rng.randrange(200_000) if time > 0.998 else now
    fields: dict[str, int | None] = {"video_ms": 5 * (rng.random() < 0.3)}
    near = max(1, number + rng.randrange(-30, 4))
    if kind < 0.35:
        fields |= {"reply_to": near, "conversation": rng.choice([None, max(1, number - 10)])}
    elif kind < 0.5:
        fields |= {"repost_of": near, "repost_of_author": rng.choice([None, rng.randrange(1, authors + 1)])}
    return post(number, min(authors, int(rng.paretovariate(0.7))), at, **fields)
