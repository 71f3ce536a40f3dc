"""Training examples hold what was known when they opened, what came of it afterwards, and nothing else."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from flows.intake import Intake
from flows.training_examples import WINDOW_MS, Example, batch, batches, examples
from infra.logs import LogReader
from infra.world import WorldSummary
from models.inputs import Candidates, History
from operators.decode import Ownership
from operators.keys import keys_of
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts
from schemas.actions import ACTION_INDEX, COUNT_NAMES, COUNTED, COUNTS, VIEWER_COUNTS
from schemas.codec import decode
from schemas.events import Engagement, Event, FeedRequest, Follow, PostCreated, Served
from schemas.ids import key_of
from tests.acceptance.playing import MINUTE, SECOND, T0, write_log

FAVORITE, REPLY, DWELL_TIME = (1 << ACTION_INDEX[name] for name in ("favorite", "reply", "dwell_time"))


def examples_of(log: Path, posts_max: int = 32) -> list[Example]:
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())
    return list(examples(LogReader(log), intake, posts_max))


@pytest.fixture(scope="module")
def lines(world: WorldSummary) -> list[bytes]:
    return [line for one in LogReader(world.log).batches() for line in one.raw]


@pytest.fixture(scope="module")
def events(lines: list[bytes]) -> list[Event]:
    return [decode(line) for line in lines]


@pytest.fixture(scope="module")
def made(world: WorldSummary) -> list[Example]:
    return examples_of(world.log)


def test_every_served_post_is_in_exactly_one_example(made: list[Example], events: list[Event]) -> None:
    served = Counter(
        (event.at, key_of(event.viewer), key_of(post))
        for event in events
        if isinstance(event, Served)
        for post in event.posts
    )
    found = Counter((one.context.at_ms, one.context.key, post) for one in made for post in one.posts.post.tolist())
    assert served == found
    assert served.total() > 500
    assert all(one.shown for one in made)


def test_a_log_cut_right_after_an_example_opened_gives_the_same_features(
    made: list[Example], lines: list[bytes], events: list[Event], tmp_path: Path
) -> None:
    opened = [number for number, event in enumerate(events) if isinstance(event, Served)]
    assert len(opened) == len(made)
    for place in range(0, len(opened), 9):
        cut = examples_of(write_log(tmp_path / "cut.jsonl", lines[: opened[place] + 1]))
        assert len(cut) == place + 1
        whole, without_future = made[place], cut[place]
        assert same(whole.context.history, without_future.context.history)
        assert same(whole.posts, without_future.posts)
        assert whole.context.counts.tolist() == without_future.context.counts.tolist()
        assert (whole.context.at_ms, whole.context.key) == (without_future.context.at_ms, without_future.context.key)
        assert not without_future.actions.any(), "what came of it is not known yet"


def same(one: History | Candidates, other: History | Candidates) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def test_counts_are_those_of_all_that_came_before_the_example(made: list[Example], events: list[Event]) -> None:
    posts: Counter[tuple[int, str]] = Counter()
    viewers: Counter[tuple[int, str]] = Counter()
    kind_of = {action: kind for kind, actions in COUNTED.items() for action in actions}
    opened = iter(made)
    told = 0
    for event in events:
        if isinstance(event, Engagement) and event.action in kind_of:
            where = (key_of(event.post), event.action)
            posts[where] = max(0, posts[where] - 1) if event.undo else posts[where] + 1
            if not event.undo:
                viewers[key_of(event.viewer), kind_of[event.action]] += 1
        if isinstance(event, Served):
            one = next(opened)
            keys = one.posts.post.tolist()
            for key, counts in zip(keys, one.posts.counts.tolist(), strict=True):
                expected = [sum(posts[key, action] for action in COUNTED.get(name, (name,))) for name in COUNT_NAMES]
                assert counts == expected
                told += sum(counts[1:])
            assert one.context.counts[0] == viewers[one.context.key, "shown"]
            # Actions undone are left out of the groups, and one that comes twice counts once.
            assert one.context.counts[1] <= viewers[one.context.key, "favorite"]
            for post in {key_of(post) for post in event.posts}:
                posts[post, "shown"] += 1
            viewers[key_of(event.viewer), "shown"] += len(event.posts)
    assert told > 500
    assert sum(int(one.context.counts[1]) for one in made) > 20


def test_features_and_labels_lie_on_their_sides_of_the_example(made: list[Example], events: list[Event]) -> None:
    acts: dict[tuple[int, int], list[Engagement]] = {}
    for event in events:
        if isinstance(event, Engagement) and not event.undo:
            acts.setdefault((key_of(event.viewer), key_of(event.post)), []).append(event)
    labelled = 0
    for one in made:
        at = one.context.at_ms
        assert (one.context.history.at_ms <= at).all()
        assert (one.posts.created_ms <= at).all()
        for post, actions in zip(one.posts.post.tolist(), one.actions.tolist(), strict=True):
            later = [event for event in acts.get((one.context.key, post), ()) if at <= event.at]
            in_window = [event for event in later if event.at <= at + WINDOW_MS]
            assert actions & ~bits(in_window) == 0, "every label is an action that came after"
            labelled += actions != 0
    assert labelled > 100


def bits(acts: list[Engagement]) -> int:
    found = 0
    for act in acts:
        found |= 1 << ACTION_INDEX[act.action]
    return found


def test_actions_label_the_latest_feed_that_shows_the_post(tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log.jsonl",
        [
            Follow(T0, 1, 10),
            *(PostCreated(T0, number, 10) for number in (1, 2, 3)),
            Engagement(T0 + 1, 1, 3, "reply"),
            Served(T0 + 2, "a", 1, (1, 2)),
            Engagement(T0 + 3, 1, 1, "favorite"),
            Engagement(T0 + 3, 1, 3, "favorite"),  # not shown
            Engagement(T0 + 3, 2, 2, "favorite"),  # by somebody else
            Engagement(T0 + 4, 1, 2, "favorite", undo=True),
            Served(T0 + MINUTE, "b", 1, (1, 2)),
            Engagement(T0 + MINUTE + SECOND, 1, 1, "reply"),
            Engagement(T0 + MINUTE + SECOND, 1, 2, "dwell_time", dwell_s=4.0),
            Engagement(T0 + MINUTE + SECOND, 1, 2, "dwell_time", dwell_s=2.5),
            Engagement(T0 + 2 * MINUTE + WINDOW_MS, 1, 2, "reply"),  # too late for either
        ],
    )
    first, second = examples_of(log)
    assert [first.posts.post.tolist(), second.posts.post.tolist()] == [[1, 2], [1, 2]]
    assert first.actions.tolist() == [FAVORITE, 0]
    assert second.actions.tolist() == [REPLY, DWELL_TIME]
    assert second.dwell_s.tolist() == [0.0, 4.0]
    assert first.context.history.post.tolist() == [3]
    assert second.context.history.post.tolist() == [3, 1]
    assert first.posts.followed.all()


def test_without_served_feeds_requests_open_examples_of_what_was_acted_on(tmp_path: Path) -> None:
    posts = [PostCreated(T0, number, 10) for number in range(1, 9)]
    others = [Engagement(T0 + 1, 50 + number, number, "favorite") for number in range(1, 9)]
    acts = [Engagement(T0 + 3, 1, 2, "favorite"), Engagement(T0 + 4, 1, 5, "reply")]
    log = write_log(
        tmp_path / "log.jsonl",
        [*posts, *others, FeedRequest(T0 + 2, "r", 1), *acts, FeedRequest(T0 + 5, "nothing came of it", 2)],
    )
    (one,) = examples_of(log, posts_max=6)
    assert not one.shown
    assert one.posts.post.tolist()[:2] == [2, 5]
    assert one.actions.tolist()[:2] == [FAVORITE, REPLY]
    assert not one.actions[2:].any(), "sampled posts were not acted on"
    assert len(one.posts) <= 6
    assert not len(one.context.history)
    counts = dict(zip(one.posts.post.tolist(), one.posts.counts.tolist(), strict=True))
    assert all(row == [0, 1, *[0] * (COUNTS - 2)] for row in counts.values()), "others had liked each; no label counts"


def test_counts_without_served_feeds_are_those_at_the_request(tmp_path: Path) -> None:
    created = [PostCreated(T0, number, 10) for number in (1, 2, 3)]
    reposted = PostCreated(T0 + 1, 4, 11, repost_of=1)
    log = [
        *created,
        reposted,
        Engagement(T0 + 2, 50, 1, "favorite"),
        Engagement(T0 + 3, 51, 1, "favorite"),
        Engagement(T0 + 3, 51, 2, "reply"),
        Engagement(T0 + 3, 53, 4, "favorite"),
        FeedRequest(T0 + 4, "a", 1),
        Engagement(T0 + 5, 52, 1, "favorite"),
        Engagement(T0 + 5, 51, 1, "favorite", undo=True),
        Engagement(T0 + 6, 1, 4, "retweet"),
        FeedRequest(T0 + 7, "b", 2),
        Engagement(T0 + 8, 2, 1, "favorite"),
        Engagement(T0 + 9, 2, 2, "favorite"),
    ]
    first, second = examples_of(write_log(tmp_path / "log.jsonl", log), posts_max=8)

    favorites = first.posts.counts[:, 1].tolist()
    assert (int(first.posts.post[0]), favorites[0]) == (1, 3), "4 repeats 1; what came later is taken back"
    assert dict(zip(second.posts.post.tolist()[:2], second.posts.counts[:2, 1].tolist(), strict=True)) == {1: 2, 2: 0}
    assert first.context.counts.tolist() == [0] * VIEWER_COUNTS


def test_bad_lines_change_no_example(made: list[Example], lines: list[bytes], tmp_path: Path) -> None:
    rough = [line for number, good in enumerate(lines) for line in ((good, b"{broken") if number % 4 == 0 else (good,))]
    again = examples_of(write_log(tmp_path / "rough.jsonl", rough))
    assert len(again) == len(made)
    for one, other in zip(made, again, strict=True):
        assert same(one.posts, other.posts)
        assert same(one.context.history, other.context.history)
        assert np.array_equal(one.actions, other.actions)


def test_batches_are_padded_and_the_rest_is_given_where_asked(made: list[Example]) -> None:
    made = made[:10]
    whole = list(batches(made, 4, history_max=32, posts_max=32))
    assert [len(one.viewer) for one in whole] == [4, 4]
    *_, rest = batches(made, 4, history_max=32, posts_max=32, rest=True)
    assert len(rest.viewer) == 2
    one = batch(made, history_max=32, posts_max=32)
    assert one.valid.sum() == sum(len(example.posts) for example in made)
    assert one.post[~one.valid].max(initial=0) == 0
    assert (one.history_length <= 32).all()
    assert np.array_equal(one.viewer, keys_of([example.context.key for example in made]))
    assert np.array_equal(one.counts[one.valid], np.concatenate([example.posts.counts for example in made]))
    assert np.array_equal(one.viewer_counts, [example.context.counts for example in made])
