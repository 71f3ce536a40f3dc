"""Labels by viewer and post, by one clock, once: whatever comes twice, late, for nothing served or in another order."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from flows.learning.joining import Joining
from flows.learning.messages import example_of
from schemas.actions import ACTION_INDEX
from schemas.events import Engagement
from schemas.ids import Id
from schemas.learning import LateEngagement, ServedFeatures, TrainingExample
from tests.acceptance.playing import HOUR, MINUTE, SECOND, T0
from tests.flows.learning.served import served

FAVORITE, REPLY, DWELL_TIME = (1 << ACTION_INDEX[name] for name in ("favorite", "reply", "dwell_time"))
# An example closes after half an hour, and what comes within an hour after that is told of as late.
INACTIVITY, LATE = 30 * MINUTE, HOUR
END = 2**62


def joining() -> Joining:
    return Joining(INACTIVITY // SECOND, LATE // SECOND)


def joined(
    features: Sequence[ServedFeatures], engagements: Sequence[Engagement]
) -> tuple[list[TrainingExample], list[LateEngagement]]:
    one = joining()
    one.take_features(features)
    one.take_engagements(engagements)
    return one.close(END), one.late


def labels(example: TrainingExample) -> dict[Id, tuple[int, float]]:
    """Return what was done with each post, where anything was."""
    made = example_of(example)
    rows = zip(example.posts, made.actions.tolist(), made.dwell_s.tolist(), strict=True)
    return {post: (actions, dwell_s) for post, actions, dwell_s in rows if actions}


def test_actions_label_the_latest_open_feed_that_shows_the_post() -> None:
    examples, late = joined(
        [served("a", 1, (10, 11, 12), T0), served("b", 1, (11, 13), T0 + MINUTE), served("c", 2, (10,), T0)],
        [
            Engagement(T0 + 2, 1, 10, "favorite"),
            Engagement(T0 + 3, 1, 11, "reply"),
            Engagement(T0 + MINUTE + 1, 1, 11, "favorite"),
            Engagement(T0 + MINUTE + 2, 1, 13, "dwell_time", dwell_s=2.5),
            Engagement(T0 + MINUTE + 3, 1, 13, "dwell_time", dwell_s=1.5),
            Engagement(T0 + MINUTE + 4, 1, 12, "favorite", undo=True),
        ],
    )
    assert [one.request for one in examples] == ["c", "a", "b"], "in the order they close"
    c, a, b = examples
    assert labels(a) == {10: (FAVORITE, 0.0), 11: (REPLY, 0.0)}
    assert labels(b) == {11: (FAVORITE, 0.0), 13: (DWELL_TIME, 2.5)}
    assert labels(c) == {}, "passed over"
    assert [one.closed_at for one in examples] == [
        T0 + INACTIVITY, T0 + 3 + INACTIVITY, T0 + MINUTE + 3 + INACTIVITY,
    ]  # fmt: skip
    assert not late


def test_a_post_whose_key_lies_across_those_of_two_others_was_not_served() -> None:
    first, second, across = 0x11111111_22222222, 0x33333333_44444444, 0x44444444_11111111
    acts = [Engagement(T0 + at, 1, post, "favorite") for at, post in ((1, across), (2, second))]
    (one,), (late,) = joined([served("a", 1, (first, second), T0)], acts)
    assert labels(one) == {second: (FAVORITE, 0.0)}
    assert (late.post, late.reason) == (across, "not_served")


def test_open_feeds_are_counted_and_the_oldest_is_known_also_after_a_restart() -> None:
    one = joining()
    assert (one.open, one.oldest_ms) == (0, None)
    feeds = [served("b", 2, (10,), T0 + MINUTE), served("a", 1, (10,), T0), served("c", 1, (10,), T0 + 2 * MINUTE)]
    one.take_features(feeds)
    assert (one.open, one.waiting) == (0, 3), "they wait for their time"
    one.close(T0 + 3 * MINUTE)
    assert (one.open, one.oldest_ms, one.waiting) == (3, T0, 0)
    one.close(T0 + INACTIVITY + 1)
    assert (one.open, one.oldest_ms) == (2, T0 + MINUTE)
    again = joining()
    # Records come by the places of messages, not by time.
    again.restore(reversed([raw for _, raw in one.take_changed()[0]]))
    assert (again.open, again.oldest_ms) == (2, T0 + MINUTE)
    again.close(END)
    assert (again.open, again.oldest_ms) == (0, None)


def test_of_a_deleted_viewer_nothing_is_made_whenever_it_comes() -> None:
    one = joining()
    open_feed, closed_feed = served("a", 1, (10,), T0 + INACTIVITY), served("b", 1, (11,), T0)
    one.take_features([open_feed, closed_feed, served("c", 2, (10,), T0 + INACTIVITY)])
    assert [example.request for example in one.close(T0 + INACTIVITY + 1)] == ["b"]
    one.take_engagements([Engagement(T0 + INACTIVITY + 2, 1, 10, "favorite")])  # waits for its time
    assert len(one.forget_viewer(1)) == 1, "one feed was open"
    assert len(one.take_changed()[1]) == 2, "both leave what is durable"
    one.take_features([served("d", 1, (12,), T0 + INACTIVITY + 3)])
    acts = [Engagement(T0 + INACTIVITY + 4, viewer, 10, "favorite") for viewer in (1, 2)]
    one.take_engagements(acts)
    (left,) = one.close(END)
    assert (left.request, labels(left)) == ("c", {10: (FAVORITE, 0.0)})
    assert one.late == []
    assert one.counts.deleted == 4, "the open feed, a later one, and two engagements"


def test_an_example_stays_open_as_long_as_it_is_acted_on() -> None:
    times = [T0 + INACTIVITY, T0 + 2 * INACTIVITY, T0 + 3 * INACTIVITY + 1]
    acts = [Engagement(at, 1, 10, action) for at, action in zip(times, ("favorite", "reply", "click"), strict=True)]
    (one,), (late,) = joined([served("a", 1, (10,), T0)], acts)
    assert labels(one) == {10: (FAVORITE | REPLY, 0.0)}
    assert one.closed_at == T0 + 3 * INACTIVITY
    assert late == LateEngagement(times[2], 1, 10, "click", "late", "a", 0.001)


def test_late_up_to_a_bound_and_never_served_are_kept_apart() -> None:
    closes = T0 + INACTIVITY
    (one,), late = joined(
        [served("a", 1, (10, 11), T0)],
        [
            Engagement(T0 - 1, 1, 10, "favorite"),  # before it was served
            Engagement(T0 + 1, 1, 12, "favorite"),
            Engagement(T0 + 1, 2, 10, "favorite"),
            Engagement(closes + LATE, 1, 10, "favorite"),
            Engagement(closes + LATE + 1, 1, 11, "favorite"),
        ],
    )
    assert labels(one) == {}
    assert [(each.viewer, each.post, each.reason, each.request, each.late_s) for each in late] == [
        (1, 10, "not_served", None, 0.0),
        (1, 12, "not_served", None, 0.0),
        (2, 10, "not_served", None, 0.0),
        (1, 10, "late", "a", 3600.0),
        (1, 11, "not_served", None, 0.0),
    ]


def test_what_comes_twice_changes_nothing() -> None:
    feeds = [served("a", 1, (10, 11), T0), served("b", "ann", ("x", 11), T0 + 5)]
    acts = [
        Engagement(T0 + 9, 1, 10, "favorite"),
        Engagement(T0 + 9, "ann", "x", "dwell_time", dwell_s=3.0),
        Engagement(T0 + INACTIVITY + MINUTE, "ann", 11, "click"),
    ]
    once = joined(feeds, acts)
    assert joined([*feeds, *feeds], [*acts, *acts, *acts]) == once
    again = joining()
    for _ in range(3):
        again.take_features(feeds)
        again.take_engagements(acts)
        again.close(T0 + 20)
    again.take_engagements(acts)
    assert (again.close(END), again.late) == once
    assert again.counts.repeated == 4
    # One that comes again when its example is closed is no news either.
    (one, *_), _ = once
    closing = joining()
    closing.take_features(feeds)
    closing.take_engagements(acts[:2])
    assert closing.close(T0 + INACTIVITY + HOUR // 4)[0] == one
    closing.put_engagement(acts[0], T0 + INACTIVITY + HOUR // 2, 0)
    assert (closing.close(END), closing.late) == ([], [])


def test_a_request_answered_anew_has_the_features_of_the_feed_that_went_out() -> None:
    first, second = served("a", 1, (10, 11), T0), served("a", 1, (11, 12), T0 + 50)
    (one,), late = joined([first, second], [Engagement(T0 + 60, 1, 12, "favorite")])
    assert (one.posts, labels(one)) == ((11, 12), {12: (FAVORITE, 0.0)})
    assert not late


def test_an_hour_between_producers_clocks_loses_no_label() -> None:
    """Engagements' own times are an hour off; by the broker's, which feeds have as well, they come minutes after."""
    feed = served("a", 1, (10, 11), T0)
    for skew in (-HOUR, HOUR):
        one = joining()
        one.put_features(feed, T0 + 7, 0, "a")
        for place, (at_ms, post) in enumerate(((T0 + MINUTE, 10), (T0 + 20 * MINUTE, 11))):
            one.put_engagement(Engagement(at_ms + skew, 1, post, "favorite"), at_ms, place)
        (example,) = one.close(END)
        assert labels(example) == {10: (FAVORITE, 0.0), 11: (FAVORITE, 0.0)}
        assert example.closed_at == T0 + 20 * MINUTE + INACTIVITY
        assert not one.late


def some_events(seed: int) -> tuple[list[ServedFeatures], list[Engagement]]:
    """Return feeds and engagements of a few viewers over some hours, many at the same time, some twice."""
    rng = random.Random(seed)
    feeds = [
        served(f"r{n}", rng.randrange(4), tuple(rng.sample(range(8), 4)), T0 + rng.randrange(60) * 4 * MINUTE)
        for n in range(40)
    ]
    acts = [
        Engagement(
            T0 + rng.randrange(80) * 4 * MINUTE, rng.randrange(4), rng.randrange(8),
            rng.choice(("favorite", "reply", "dwell_time")), dwell_s=rng.randrange(9) / 4, undo=rng.random() < 0.1,
        )
        for _ in range(400)
    ]  # fmt: skip
    return [*feeds, *rng.sample(feeds, 5)], [*acts, *rng.sample(acts, 50)]


def cut_at_random(events: list[Any], seed: int, stored: bool) -> tuple[list[TrainingExample], list[LateEngagement]]:
    """Join events in any order that keeps the promise of `close`, cut anywhere; `stored` begins anew at each cut."""
    rng = random.Random(seed)
    one, records, late = joining(), dict[int, bytes](), list[LateEngagement]()
    examples: list[TrainingExample] = []
    rest = list(enumerate(events))
    until_ms = T0
    while rest or one.open:
        until_ms += rng.randrange(1, 40) * MINUTE
        due = [(place, what) for place, what in rest if _at(what) < until_ms or rng.random() < 0.1]
        rest = [each for each in rest if each not in due]
        rng.shuffle(due)
        if stored:
            puts, gone = one.take_changed()
            records = {place: raw for place, raw in {**records, **dict(puts)}.items() if place not in gone}
            one = joining()
            one.restore(records.values())
            # What waits for its time is not stored: it comes again.
            rest += [each for each in due if _at(each[1]) >= until_ms]
            due = [each for each in due if _at(each[1]) < until_ms]
        for place, what in due:
            if isinstance(what, ServedFeatures):
                one.put_features(what, what.served_at, place, what.request)
            else:
                one.put_engagement(what, what.at, place)
        joined = one.advance(until_ms)
        examples += [example for _, example in joined.examples]
        late += [each for _, each in joined.late]
    return examples, late


def _at(what: ServedFeatures | Engagement) -> int:
    return what.served_at if isinstance(what, ServedFeatures) else what.at


def test_neither_cuts_nor_order_nor_restarts_make_a_difference() -> None:
    labelled = 0
    for seed in range(4):
        feeds, acts = some_events(seed)
        whole = joined(feeds, acts)
        assert len(whole[0]) == 40
        assert {one.reason for one in whole[1]} == {"late", "not_served"}
        labelled += sum(len(labels(one)) for one in whole[0])
        for stored in (False, True):
            assert cut_at_random([*feeds, *acts], seed, stored) == whole
    assert labelled > 100


def test_what_comes_after_its_time_labels_what_is_still_open() -> None:
    one = joining()
    one.take_features([served("a", 1, (10,), T0), served("b", 1, (11,), T0 + 50 * MINUTE)])
    (a,) = one.close(T0 + HOUR)
    assert a.request == "a"
    one.take_engagements([Engagement(T0 + MINUTE, 1, 10, "favorite"), Engagement(T0 + 51 * MINUTE, 1, 11, "reply")])
    (b,) = one.close(END)
    assert labels(b) == {11: (REPLY, 0.0)}
    assert [(each.reason, each.request, each.late_s) for each in one.late] == [("late", "a", 0.0)]


def test_features_pass_through_untouched() -> None:
    feed = served("a", 1, (10, 11), T0)
    ((one,), _) = joined([feed], [Engagement(T0 + 1, 1, 11, "favorite")])
    assert {name: one.columns[name] for name in feed.columns} == feed.columns
    assert replace(feed, columns={}) == ServedFeatures(
        one.at, one.served_at, one.request, one.viewer, one.model, one.surface, one.posts, {}
    )
    assert np.frombuffer(one.columns["label_actions"], "<u4").tolist() == [0, FAVORITE]
