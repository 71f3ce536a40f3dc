"""Pages of one feed: no post twice, none left out, on the real pipeline and over the real dataflow."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flows.for_you import ForYou
from flows.intake import Intake
from models.phoenix import Phoenix
from operators.clusters import Clusters
from operators.cursors import Cursor, issue, session_of
from operators.decode import Ownership
from operators.parameters import DEFAULTS, Value
from operators.ranking import Ranker
from operators.state import MemoryState, live_posts
from schemas.codec import encode
from schemas.events import (
    AuthorLabelled,
    Event,
    FeedName,
    FeedRequest,
    Follow,
    PostCreated,
    PostDeleted,
    PostLabelled,
)
from schemas.feeds import DeadLetter, Feed
from schemas.ids import Id
from schemas.polls import RawPoll
from tests.acceptance.playing import HOUR, SECOND, T0, Player

VIEWER = 1
NOW = T0 + HOUR
# Long after what was served before, and whatever it was: only the session remembers.
ALONE: dict[str, Value] = {"filters.previously_served": False}


class Job:
    """The pipeline of one instance, a call a step, as the dataflow does; nothing of it is stood in for."""

    def __init__(self, phoenix: Phoenix, parameters: dict[str, Value] | None = None) -> None:
        tree = DEFAULTS.overridden(parameters or {})
        state = MemoryState(tree, live_posts(tree, phoenix))
        self._ranker = Ranker(1, 1)
        self._flow = ForYou(Intake(state, tree, Ownership()), Clusters(phoenix), self._ranker)
        self.letters: list[DeadLetter] = []

    def take(self, *events: Event) -> list[Feed]:
        """Take events in, a poll each, and return the feeds of the requests among them."""
        feeds = []
        for event in events:
            raw = RawPoll([encode(event)], [""], [0], [0], 0.0, 2**53)
            for poll in self._flow.intake.update_posts(self._flow.intake.decode(raw)):
                self.letters += poll.dead_letters
                for query in self._flow.intake.update_viewers(poll):
                    self._flow.rank(self._flow.filter(self._flow.candidates(query)))
                    feeds += [self._flow.slate(one).feed for one in self._ranker.finished(wait=True)]
        return feeds

    def ask(self, at: int = NOW, request: Id = "r", **fields: object) -> Feed:
        """Return the feed of a request."""
        (feed,) = self.take(FeedRequest(at=at, request=request, viewer=VIEWER, **fields))  # type: ignore[arg-type]
        return feed

    def pages(
        self, sizes: Sequence[int], at: int = NOW, every_ms: int = SECOND, name: FeedName = "for_you"
    ) -> list[Feed]:
        """Return all pages of a new session, as a client asks for them; sizes go round."""
        feeds = [self.ask(at, "page 1", limit=sizes[0], feed=name)]
        while feeds[-1].cursor is not None:
            page = len(feeds)
            assert page < 300, "it comes to an end"
            at += every_ms
            size, cursor = sizes[page % len(sizes)], feeds[-1].cursor
            feeds.append(self.ask(at, f"page {page + 1}", limit=size, cursor=cursor, feed=name))
        return feeds

    def close(self) -> None:
        self._ranker.close()


@pytest.fixture(scope="module")
def phoenix(checkpoint: Path) -> Phoenix:
    return Phoenix.load(checkpoint)


@pytest.fixture
def job(phoenix: Phoenix) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(parameters: dict[str, Value] | None = None) -> Job:
        jobs.append(Job(phoenix, parameters))
        return jobs[-1]

    yield start
    for one in jobs:
        one.close()


def posts_of(feeds: Sequence[Feed]) -> list[Id]:
    return [item.post for feed in feeds for item in feed.items]


def some_posts(count: int) -> list[Event]:
    """Return follows of three authors, and posts by six."""
    follows: list[Event] = [Follow(T0, VIEWER, author) for author in (10, 11, 12)]
    return follows + [PostCreated(T0 + n, n, 10 + n % 6, f"about {n % 7} and {n % 5}") for n in range(1, count + 1)]


def test_the_pages_together_are_one_long_feed(job: Callable[..., Job]) -> None:
    long = job()
    long.take(*some_posts(120))
    wanted = posts_of([long.ask(limit=200)])
    assert len(wanted) == 120
    for sizes in ([35], [7], [50, 1, 3]):
        paged = job()
        paged.take(*some_posts(120))
        feeds = paged.pages(sizes)
        found = posts_of(feeds)
        assert len(found) == len(set(found)), "no post twice"
        assert set(found) == set(wanted), "and none left out"
        assert all(feed.items for feed in feeds), "no page is empty"
        assert feeds[-1].cursor is None


def test_a_session_outlives_what_is_remembered_as_served(job: Callable[..., Job]) -> None:
    # Of served posts 100 are remembered for ten minutes; a page every eleven minutes.
    paged = job()
    paged.take(*some_posts(150))
    found = posts_of(paged.pages([20], every_ms=11 * 60 * SECOND))
    assert len(found) == len(set(found)) == 150


def test_a_cursor_stays_as_short_a_thousand_pages_down(job: Callable[..., Job]) -> None:
    paged = job()
    paged.take(*some_posts(3))
    at, deep = NOW, Cursor(session_of(VIEWER, "page 1", NOW), 1000)
    first = paged.ask(at, "page 1", limit=1)
    feed = paged.ask(at + 1, "page 1000", limit=1, cursor=issue(deep, VIEWER, "for_you"))
    assert first.cursor is not None
    assert feed.cursor is not None
    assert len(first.cursor) == len(feed.cursor) == 50


def test_what_comes_meanwhile_comes_on_a_later_page_and_what_goes_does_not(job: Callable[..., Job]) -> None:
    paged = job()
    paged.take(*some_posts(30))
    first = paged.ask(NOW, "one", limit=10)
    shown = posts_of([first])
    gone = next(n for n in range(1, 31) if n not in shown)
    paged.take(PostDeleted(NOW + 1, gone, 10 + gone % 6), PostCreated(NOW + 1, 99, 10, "news"))
    second = paged.ask(NOW + 2, "two", limit=40, cursor=first.cursor)
    assert set(posts_of([second])) == set(range(1, 31)) - set(shown) - {gone} | {99}
    assert second.cursor is None


def test_posts_that_rules_drop_hold_nothing_up(job: Callable[..., Job]) -> None:
    # Sixty posts that nobody may see score as they like: more than a page selects from.
    paged = job({"selection.top_k": 10, "selection.result_size": 8, "dpp.enabled": False})
    labels = [PostLabelled(T0 + 500, n, 10 + n % 6, ("spam",)) for n in range(1, 61)]
    paged.take(*some_posts(80), *labels, AuthorLabelled(T0 + 500, 15, ("suspended",)))
    found = posts_of(paged.pages([8]))
    assert sorted(found) == [n for n in range(61, 81) if n % 6 != 5]


def test_a_repost_of_what_was_shown_is_a_repetition(job: Callable[..., Job]) -> None:
    paged = job(ALONE)
    paged.take(*some_posts(12))
    first = paged.ask(NOW, "one", limit=6)
    shown = posts_of([first])
    reposts = [PostCreated(NOW + n, 1000 + n, 10, repost_of=n, repost_of_author=10 + n % 6) for n in range(1, 13)]
    paged.take(*reposts)
    rest = paged.ask(NOW + 1000, "two", limit=100, cursor=first.cursor)
    originals = [item.post if item.repost_of is None else item.repost_of for item in rest.items]
    assert sorted(originals) == sorted(set(range(1, 13)) - set(shown))


def test_the_best_of_a_conversation_is_shown_and_the_others_are_not_lost(job: Callable[..., Job]) -> None:
    to = {"reply_to": 1, "reply_to_author": 99, "conversation": 1}
    replies = [PostCreated(T0 + 10 + n, n, 10, f"answer {n}", **to) for n in range(2, 6)]  # type: ignore[arg-type]
    paged = job()
    paged.take(Follow(T0, VIEWER, 10), PostCreated(T0, 1, 99, "a question"), *replies)
    first, *others = paged.pages([10])
    assert len(posts_of([first])) == 1, "a page shows one post of a conversation"
    assert len(others) > 0
    found = posts_of([first, *others])
    assert len(found) == len(set(found))
    assert set(range(2, 6)) <= set(found), "the other answers come up on later pages"


@pytest.mark.parametrize("name", ["following", "following_ranked"])
def test_other_feeds_have_pages_too(job: Callable[..., Job], name: FeedName) -> None:
    paged = job()
    paged.take(*some_posts(60))
    feeds = paged.pages([7], name=name)
    found = posts_of(feeds)
    assert len(found) == len(set(found))
    assert set(found) == {n for n in range(1, 61) if n % 6 < 3}, "all of the three that the viewer follows"
    if name == "following":
        assert found == sorted(found, reverse=True), "newest first, over all pages"


def test_two_sessions_of_a_viewer_do_not_know_of_each_other(job: Callable[..., Job]) -> None:
    paged = job(ALONE)
    paged.take(*some_posts(20))
    one, other = paged.ask(NOW, "one", limit=8), paged.ask(NOW + 1, "other", limit=8)
    assert posts_of([one]) == posts_of([other])
    rest = [paged.ask(NOW + 2 + n, f"rest {n}", limit=100, cursor=feed.cursor) for n, feed in enumerate((one, other))]
    assert set(posts_of([rest[0]])) == set(posts_of([rest[1]])) == set(range(1, 21)) - set(posts_of([one]))
    again = paged.ask(NOW + 9, "again", cursor=one.cursor)
    assert (again.items, again.cursor, again.error) == ((), None, None), "asked again, it shows nothing twice"


def test_a_page_counts_as_the_bottom_of_a_feed(job: Callable[..., Job]) -> None:
    paged = job({"filters.served_every_request": False, "pagination.sessions_max": 1})
    paged.take(*some_posts(10))
    one = paged.ask(NOW, "one", limit=4)
    other = paged.ask(NOW + 1, "other", in_network_only=True, limit=1)
    more = paged.ask(NOW + 2, "more", limit=100, cursor=other.cursor)
    assert not set(posts_of([more])) & set(posts_of([one])), "what another feed served stays away from further pages"


def test_a_session_that_is_over_says_so(job: Callable[..., Job]) -> None:
    paged = job({"pagination.ttl_s": 60, "pagination.sessions_max": 2})
    paged.take(*some_posts(40))
    first = paged.ask(NOW, "first", limit=2)
    in_time = paged.ask(NOW + 60 * SECOND, "in time", limit=2, cursor=first.cursor)
    assert in_time.error is None
    assert len(in_time.items) == 2
    late = paged.ask(NOW + 120 * SECOND + 1, "late", limit=2, cursor=in_time.cursor)
    assert late.error == "expired: the session of this cursor is over; ask without a cursor for a new feed"
    assert (late.items, late.stages, late.cursor) == ((), (), None)
    cursors = [paged.ask(NOW + 200 * SECOND + n, f"n{n}", limit=2).cursor for n in range(3)]
    answers = [paged.ask(NOW + 201 * SECOND, f"m{n}", cursor=cursor).error for n, cursor in enumerate(cursors)]
    assert [error is None for error in answers] == [False, True, True], "of a viewer the latest two are kept"


def test_a_session_ends_where_it_would_keep_too_much(job: Callable[..., Job]) -> None:
    paged = job({"pagination.shown_max": 200})
    paged.take(*some_posts(330))
    feeds = paged.pages([90])
    assert [len(feed.items) for feed in feeds] == [90, 90, 90], "200 are passed on the third page: no cursor follows"


def test_without_pagination_there_are_no_cursors(job: Callable[..., Job]) -> None:
    paged = job()
    paged.take(*some_posts(10))
    assert paged.ask(limit=2, parameters={"pagination.enabled": False}).cursor is None


def test_bad_cursors_are_dead_letters(job: Callable[..., Job]) -> None:
    paged = job()
    paged.take(*some_posts(10))
    cursor = paged.ask(limit=2).cursor
    assert cursor is not None
    changed = ("B" if cursor[20] != "B" else "C").join((cursor[:20], cursor[21:]))
    bad = {
        cursor[:30]: "a cursor of",
        changed: "the cursor was changed, or signed with another key",
        "what?": "this is no cursor",
        "A" * 201: "Expected `str` of length <= 200",
    }
    for text, reason in bad.items():
        assert paged.take(FeedRequest(NOW, "bad", VIEWER, cursor=text)) == []
        assert (paged.letters[-1].path, paged.letters[-1].reason[: len(reason)]) == ("$.cursor", reason)
    assert paged.take(FeedRequest(NOW, "bad", 2, cursor=cursor)) == []
    assert paged.letters[-1].reason == "the cursor is another viewer's"


# -- any world, any page sizes

AUTHORS = (10, 11, 12, 20, 21, 22)


@st.composite
def worlds(draw: st.DrawFn) -> list[Event]:
    """Return a small world of posts, replies, reposts, quotes and labels.

    Replies name their conversation, and reposts what was posted first, as they do at X.
    """
    events: list[Event] = [Follow(T0, VIEWER, author) for author in AUTHORS[:3]]
    root: dict[int, int] = {}
    first: dict[int, int] = {}
    author_of: dict[int, int] = {}
    for post in range(1, draw(st.integers(2, 40))):
        author = author_of[post] = draw(st.sampled_from(AUTHORS))
        kind = draw(st.sampled_from(["post", "post", "post", "reply_to", "repost_of", "quote_of"]))
        about = draw(st.sampled_from(sorted(author_of)))
        root[post] = first[post] = post
        fields: dict[str, object] = {}
        if kind == "repost_of":
            about = first[post] = first[about]
        if kind != "post" and about != post:
            fields = {kind: about, f"{kind}_author": author_of[about]}
            if kind == "reply_to":
                root[post] = root[about]
                fields["conversation"] = root[about]
        events.append(PostCreated(T0 + post, post, author, f"words {post % 9}", **fields))  # type: ignore[arg-type]
        if draw(st.integers(0, 9)) == 0:
            label = draw(st.sampled_from(["spam", "nsfw"]))
            events.append(PostLabelled(T0 + post, post, author, (label,)))
    return events


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), st.lists(st.integers(1, 30), min_size=1, max_size=4), st.sampled_from([1, 11 * 60 * SECOND]))
def test_no_page_repeats_and_none_leaves_out(
    phoenix: Phoenix, world: list[Event], sizes: list[int], every_ms: int
) -> None:
    """What one request as long as can be shows, the pages show too, each once, whatever their sizes.

    Beside that they show what the long one drops because a better post of its conversation is there. Left out is only
    what answers or repeats a post shown a moment ago: `previously_served` drops that from any request.
    """
    small: dict[str, Value] = {"selection.top_k": 12, "selection.result_size": 8, "dpp.pool": 10}
    long, paged = Job(phoenix, small), Job(phoenix, small)
    for one in (long, paged):
        one.take(*world)
    (feed,) = [long.ask(limit=200)]
    feeds = paged.pages(sizes, every_ms=every_ms)
    for one in (long, paged):
        one.close()
    found = posts_of(feeds)
    originals = [item.post if item.repost_of is None else item.repost_of for one in feeds for item in one.items]
    assert len(originals) == len(set(originals)), "no post twice, as itself or repeated"
    assert all(one.error is None and not one.degraded for one in feeds)
    related = {one.post: {one.reply_to, one.repost_of} for one in world if isinstance(one, PostCreated)}
    missing = set(posts_of([feed])) - set(found)
    assert all(related[post] & set(found) for post in missing), missing


# -- over the real dataflow


def test_pages_in_a_log_are_as_they_are_asked_for_one_by_one(play: Player, job: Callable[..., Job]) -> None:
    asked = job()
    asked.take(*some_posts(40))
    feeds = asked.pages([15])
    session = session_of(VIEWER, "page 1", NOW)
    requests = [
        FeedRequest(
            NOW + n * SECOND,
            f"page {n + 1}",
            VIEWER,
            limit=15,
            cursor=issue(Cursor(session, n + 1), VIEWER, "for_you") if n else "",
        )
        for n in range(len(feeds))
    ]
    # All in the log at once: a page is made after the one before it, though that one's model is still at work.
    played = play([*some_posts(40), *requests])
    assert [played.posts(f"page {n + 1}") for n in range(len(feeds))] == [posts_of([feed]) for feed in feeds]
    assert [feed.cursor for feed in played.feeds.values()] == [feed.cursor for feed in feeds]
    assert replace(played.feeds["page 2"], model="") == replace(feeds[1], model="")
