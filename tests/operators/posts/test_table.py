"""The post table: what each event does, in whatever batches events come."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.posts.columns import DELETED, QUOTE, REPLY, REPOST, SUBSCRIBERS_ONLY, VIDEO, VIDEO_LISTED
from operators.posts.live import LivePosts
from operators.posts.table import PostTable
from operators.text import token_hashes
from schemas.events import PostCreated, PostDeleted, PostLabelled
from schemas.ids import key_of

HOUR_MS = 3_600_000
T0 = 1_000 * HOUR_MS


def no_terms(text, topics, language):
    return ()


def table(**settings) -> PostTable:
    return PostTable(terms=no_terms, **settings)


def post(number, author=1, at=T0, **fields) -> PostCreated:
    return PostCreated(at=at, post=number, author=author, **fields)


def keys(*ids) -> np.ndarray:
    return np.array([key_of(one) for one in ids], np.uint64)


def shown(posts: PostTable, *ids, at=T0) -> list[bool]:
    rows = posts.rows_of(keys(*ids))
    return posts.visible(rows, at).tolist()


def test_a_post_is_found_with_all_it_says():
    posts = PostTable(terms=lambda text, topics, language: (len(text), len(topics), len(language)))
    posts.apply(
        [
            post(7, 70, text="hello there", topics=("a", "b"), language="en", video_ms=900, subscribers_only=True),
            post(8, 80, at=T0 + 5, reply_to=7, reply_to_author=70, conversation=7, quote_of=3, quote_of_author=30),
            post(9, 90, repost_of=7, repost_of_author=70),
        ]
    )
    found = posts.gather(posts.rows_of(keys(8, 7, 1, 9)))
    assert found.key.tolist() == [8, 7, 0, 9]
    assert found.author.tolist() == [80, 70, 0, 90]
    assert found.created_ms.tolist() == [T0 + 5, T0, 0, T0]
    assert found.reply_to.tolist() == [7, 0, 0, 0]
    assert found.reply_to_author.tolist() == [70, 0, 0, 0]
    assert found.conversation.tolist() == [7, 0, 0, 0]
    assert found.quote_of.tolist() == [3, 0, 0, 0]
    assert found.quote_of_author.tolist() == [30, 0, 0, 0]
    assert found.repost_of.tolist() == [0, 0, 0, 7]
    assert found.repost_of_author.tolist() == [0, 0, 0, 70]
    assert found.video_ms.tolist() == [0, 900, 0, 0]
    assert found.flags.tolist() == [
        REPLY | QUOTE, VIDEO | VIDEO_LISTED | SUBSCRIBERS_ONLY, 0, REPOST | VIDEO_LISTED
    ]  # fmt: skip
    assert found.terms.tolist() == [[0, 0, 0, 0], [11, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    authors, terms = posts.resolve(keys(9, 7, 1))
    assert authors.tolist() == [90, 70, 0]
    assert terms.tolist() == [[0, 0, 0, 0], [11, 2, 2, 0], [0, 0, 0, 0]]


def test_text_ids_come_back_as_they_were():
    long = "did:plc:" + "ä" * 28
    posts = table()
    posts.apply([post("at://x/1", long, text="some words"), post(2, "bob"), post(long, 5)])
    spelled = [posts.original_id(key) for key in keys("at://x/1", 2, long, "bob", 5).tolist()]
    assert spelled == ["at://x/1", 2, long, "bob", 5]
    assert posts.original_id(key_of("nobody")) is None
    posts.trim(T0 + 100 * HOUR_MS)
    assert posts.original_id(key_of("bob")) is None
    assert posts.original_id(77) == 77


def test_authors_left_out_are_filled_in_from_posts_that_came_before():
    posts = table()
    posts.apply([post(1, 10), post(2, 20, reply_to=1), post(3, 30, repost_of=1), post(4, 40, quote_of=2)])
    posts.apply([post(5, 50, reply_to=6), post(6, 60)])
    found = posts.gather(posts.rows_of(keys(2, 3, 4, 5)))
    assert found.reply_to_author.tolist() == [10, 0, 0, 0]
    assert found.repost_of_author.tolist() == [0, 10, 0, 0]
    assert found.quote_of_author.tolist() == [0, 0, 20, 0]


def test_the_same_post_again_is_counted_and_other_content_is_refused():
    posts = table()
    assert posts.apply([post(1, text="first"), post(1, text="first")]) == []
    (refused,) = posts.apply([post(2), post(1, text="second"), post(1, text="first"), post(3)])
    assert (refused.event.text, refused.path) == ("second", "$.post")
    assert refused.reason == "a post with this id and other content exists"
    assert posts.counts.duplicates == 2
    assert posts.counts.added == len(posts) == 3
    assert posts.tokens(0).tolist() == token_hashes("first").tolist()


def test_ids_that_can_not_be_keys_are_refused_and_every_other_event_counts():
    posts = table()
    wide = "ü" * 33
    refused = posts.apply(
        [post(1), post(0), post(wide), post(2, reply_to=wide), post(3, "ü" * 40), PostDeleted(at=T0, post=0, author=1)]
    )
    assert [one.path for one in refused] == ["$.post", "$.post", "$.post", "$.reply_to", "$.author"]
    assert "0 stands for no post" in refused[0].reason
    assert "66 bytes" in refused[1].reason
    assert posts.rows_of(keys(1, 2, 3)).tolist() == [0, -1, -1]


def test_a_deleted_post_is_gone_at_once_and_for_good():
    posts = table()
    posts.apply([post(1), post(2), PostDeleted(at=T0 + 1, post=1, author=1), PostDeleted(at=T0 + 1, post=1, author=1)])
    assert shown(posts, 1, 2) == [False, True]
    assert posts.apply([post(1)]) == []
    assert shown(posts, 1) == [False]
    assert (posts.counts.deleted, posts.counts.deleted_again, posts.counts.deleted_before) == (1, 1, 1)
    assert posts.resolve(keys(1))[0].tolist() == [1]


def test_a_deletion_that_comes_first_holds():
    posts = table()
    posts.apply([PostDeleted(at=T0, post=1, author=1), post(1), post(2, at=T0 + 1), post(1, at=T0 + 2)])
    assert posts.rows_of(keys(1, 2)).tolist() == [-1, 0]
    assert posts.counts.deleted_before == 2


def test_186_a_post_that_was_here_comes_back_by_a_later_creation():
    posts = table()
    posts.apply(
        [
            post(1, text="old"),
            post(2, 2, repost_of=1),
            post(3, 3, reply_to=1),
            PostDeleted(at=T0 + 1, post=1, author=1),
            post(4, 4, repost_of=1, at=T0 + 1),
        ]
    )
    assert shown(posts, 1, 2, 4, at=T0 + 9) == [False, False, False]
    posts.apply([post(1, at=T0 + 5, text="old")])
    assert shown(posts, 1, 2, 4, at=T0 + 9) == [True, True, True]
    assert len(posts) == 5
    posts.apply([PostDeleted(at=T0 + 6, post=1, author=1)])
    assert shown(posts, 1, 2, 4, at=T0 + 9) == [False, False, False]


def test_138_deleting_a_quote_leaves_the_posts_that_quote_or_are_quoted():
    posts = table()
    posts.apply([post(1), post(2, quote_of=1), post(3, quote_of=2), PostDeleted(at=T0, post=2, author=1)])
    assert shown(posts, 1, 2, 3) == [True, False, True]


def test_150_a_repost_of_a_deleted_original_is_not_shown_and_one_of_an_unknown_original_is():
    posts = table()
    posts.apply([post(1), post(2, repost_of=1), post(3, repost_of=99), PostDeleted(at=T0, post=88, author=1)])
    posts.apply([post(4, repost_of=88), PostDeleted(at=T0, post=1, author=1)])
    assert shown(posts, 2, 3, 4) == [False, True, False]


def test_48_posts_of_the_same_second_as_the_request_are_shown_and_later_ones_are_not_yet():
    posts = table()
    posts.apply([post(1, at=T0), post(2, at=T0 + 900)])
    assert shown(posts, 1, 2, at=T0) == [True, False]
    assert shown(posts, 1, 2, at=T0 + 900) == [True, True]


def test_posts_live_for_the_retention_to_the_millisecond():
    posts = table(retention_s=10)
    posts.apply([post(1, at=T0), post(2, at=T0 + 1)])
    assert shown(posts, 1, 2, at=T0 + 10_000) == [True, True]
    assert shown(posts, 1, 2, at=T0 + 10_001) == [False, True]
    assert posts.trim(T0 + 10_001) == 1
    assert posts.rows_of(keys(1, 2)).tolist() == [-1, 1]
    posts.apply([post(3, at=T0 + 30_000), post(4, at=T0 + 19_999), post(5, at=T0 + 20_000)])
    assert posts.rows_of(keys(3, 4, 5)).tolist() == [2, -1, 3]
    assert posts.counts.expired_at_arrival == 1


def test_now_bounds_what_one_post_from_the_future_does_to_the_clock():
    posts = table(retention_s=10)
    posts.apply([post(1), post(2, at=T0 + HOUR_MS)], now_ms=T0 + 1)
    assert posts.clock_ms == T0 + 1
    posts.apply([post(3, at=T0 + 2)], now_ms=T0 + 2)
    assert shown(posts, 1, 2, 3, at=T0 + 2) == [True, False, True]


def test_tombstones_are_kept_for_the_retention():
    posts = table(retention_s=10)
    posts.apply([PostDeleted(at=T0, post=1, author=1)])
    posts.trim(T0 + 10_000)
    posts.apply([post(1)])
    assert posts.counts.deleted_before == 1
    posts.trim(T0 + 10_001)
    posts.apply([post(1)])
    assert shown(posts, 1) == [True]


def labels(posts: PostTable, *ids) -> list[tuple[str, ...]]:
    return [posts.labels_of(handle) for handle in posts.gather(posts.rows_of(keys(*ids))).labels.tolist()]


def label(number, *names, at=T0) -> PostLabelled:
    return PostLabelled(at=at, post=number, author=1, labels=names)


def test_labels_replace_and_wait_for_their_post():
    posts = table()
    posts.apply([label(2, "spam"), post(1), label(1, "nsfw", "gore", "nsfw"), post(2), post(3)])
    assert labels(posts, 1, 2, 3) == [("gore", "nsfw"), ("spam",), ()]
    posts.apply([label(1), label(3, "gore", "nsfw"), PostDeleted(at=T0, post=2, author=1), label(2, "x")])
    assert labels(posts, 1, 3) == [(), ("gore", "nsfw")]


def test_labels_wait_no_longer_than_posts_live_and_not_in_any_number(monkeypatch):
    posts = table(retention_s=10)
    posts.apply([label(1, "a")])
    posts.trim(T0 + 10_001)
    monkeypatch.setattr("operators.posts.waiting.LABELS_WAITING_MAX", 2)
    posts.apply([label(number, "b", at=T0 + 10_001) for number in (2, 3, 4)])
    posts.apply([post(number, at=T0 + 10_001) for number in (1, 2, 3, 4)])
    assert labels(posts, 1, 2, 3, 4) == [(), (), ("b",), ("b",)]


def test_sets_of_labels_are_limited(monkeypatch):
    monkeypatch.setattr("operators.posts.waiting.LABEL_SETS_MAX", 2)
    posts = table()
    (refused,) = posts.apply([post(1), label(1, "a"), label(1, "b"), label(1, "c"), label(1, "a")])
    assert refused.path == "$.labels"
    assert labels(posts, 1) == [("a",)]


def test_muted_phrases_are_found_in_live_posts():
    posts = table()
    posts.apply([post(1, text="The Game of Thrones"), post(2, text="games"), post(3), post("four", text="of game of")])
    found = posts.contains_phrase(posts.rows_of(keys(1, 2, 3, "four", 99)), [token_hashes("game of")])
    assert found.tolist() == [True, False, False, True, False]


def test_originals_are_handed_on_once_and_so_are_their_deletions():
    posts = table(retention_s=10)
    posts.apply([post(1), post(2, reply_to=1), post(3, repost_of=1), post(4, quote_of=1)])
    assert posts.take_added().tolist() == [0, 3]
    posts.apply([post(5), *(PostDeleted(at=T0, post=number, author=1) for number in (2, 4, 4, 77))])
    assert posts.take_added().tolist() == [4]
    assert posts.take_removed().tolist() == [3]
    posts.apply([post(6, at=T0 + 20_000)])
    posts.trim(T0 + 20_000)
    assert posts.take_added().tolist() == [5]
    assert posts.take_removed().tolist() == []


def test_authors_without_posts_are_forgotten_and_their_handles_used_again():
    posts = table(retention_s=10)
    for day in range(20):
        at = T0 + day * 20_000
        posts.apply([post(day * 500 + number + 1, author=day * 500 + number, at=at) for number in range(500)])
        posts.trim(at)
        assert len(posts.authors) <= 500
    assert posts.authors.handles <= 1001  # two days of them, as the old go after the new have come
    assert posts.gather(posts.rows_of(keys(9_501, 10_000))).author.tolist() == [9_500, 9_999]


def test_columns_and_words_go_round_and_double_without_mixing_posts():
    posts = table(retention_s=100)
    for batch in range(80):
        at = T0 + batch * 1000
        numbers = range(batch * 300, batch * 300 + 300)
        posts.apply([post(n + 1, author=n % 37, at=at, text=f"word{n} " * (n % 40)) for n in numbers])
        posts.trim(at + 60_000)
    assert posts.capacity == 16_384
    live = np.arange(posts.base, posts.end)
    assert (posts.gather(live).key == live + 1).all()
    assert (posts.rows_of(live.astype(np.uint64) + np.uint64(1)) == live).all()
    for row in live[::97].tolist():
        assert posts.tokens(row).tolist() == token_hashes(f"word{row} " * (row % 40)).tolist()


def test_memory_is_counted_and_small():
    posts = table(capacity=65_536)
    for start in range(0, 65_536, 256):
        numbers = range(start, start + 256)
        posts.apply([post(n + 1, author=n % 6500, text="twenty words " * 10, at=T0 + n) for n in numbers])
    live = LivePosts(posts)
    live.apply([])
    assert posts.columns.memory_bytes() / len(posts) < 120
    assert live.memory_bytes() / len(posts) <= 300


ids = st.integers(1, 12)
events = st.one_of(
    st.builds(
        PostCreated,
        at=st.integers(T0, T0 + 30_000),
        post=ids,
        author=st.integers(1, 3),
        text=st.sampled_from(["", "a b", "c"]),
        video_ms=st.sampled_from([0, 9]),
        reply_to=st.none() | ids,
        repost_of=st.none() | ids,
        quote_of=st.none() | ids,
    ),
    st.builds(PostDeleted, at=st.integers(T0, T0 + 30_000), post=ids, author=st.just(1)),
    st.builds(
        PostLabelled,
        at=st.integers(T0, T0 + 30_000),
        post=ids,
        author=st.just(1),
        labels=st.sampled_from([(), ("x",), ("x", "y")]),
    ),
)


@settings(deadline=None)
@given(st.lists(events, max_size=40), st.data())
def test_batches_make_no_difference(stream, data):
    one, many = table(retention_s=20), table(retention_s=20)
    refused_by_one = [refusal for event in stream for refusal in one.apply([event])]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    refused_by_many = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        refused_by_many += many.apply(stream[start:stop])
    assert sorted(map(repr, refused_by_one)) == sorted(map(repr, refused_by_many))
    assert one.counts == many.counts
    assert one.take_added().tolist() == many.take_added().tolist()
    assert one.take_removed().tolist() == many.take_removed().tolist()
    rows = np.arange(one.end)
    for name, column in (
        (name, getattr(one.columns, name)) for name in ("flags", "reply_to_author", "labels", "behind")
    ):
        assert column[rows].tolist() == getattr(many.columns, name)[rows].tolist(), name
    assert one.visible(rows, T0 + 30_000).tolist() == many.visible(rows, T0 + 30_000).tolist()


def test_deleted_flag_is_seen_in_gathered_posts():
    posts = table()
    posts.apply([post(1), PostDeleted(at=T0, post=1, author=1)])
    assert posts.gather(np.array([0])).flags.tolist() == [DELETED]
