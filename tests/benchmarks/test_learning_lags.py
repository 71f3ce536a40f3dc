"""How long an engagement takes to the model: a run of three feeds and three intervals, by hand."""

import numpy as np

from benchmarks.kafka.learning_lags import Done, Ended, Made, Trace, closing, ended_in, join_lag_s, learn_lag, waits

LIKED = ("7", "70", 0)
READ = ("8", "80", 10)
AGAIN = ("9", "90", 0)
LONE = ("9", "99", 0)
INACTIVITY_S = 10.0
# Partition 3 has two examples, partition 5 one. The first interval takes one of each, the second the other; the model
# that went out with the first has learned nothing, that of the second what the first taught.
RUN = Trace(
    done=[Done(LIKED, 100, 1_000), Done(READ, 101, 2_000), Done(AGAIN, 102, 9_000)],
    made=[
        Made(3, 0, out_ms=15_500, closed_ms=15_000, labels=(LIKED, ("7", "71", 0))),
        Made(5, 0, out_ms=12_250, closed_ms=12_000, labels=(READ,)),
        Made(3, 1, out_ms=19_100, closed_ms=19_000, labels=(AGAIN,)),
    ],
    ended=[Ended(17_000, {3: 1, 5: 1}, "a"), Ended(22_000, {3: 2, 5: 1}, "b"), Ended(27_000, {3: 2, 5: 1}, None)],
    announced_ms={"a": 16_900, "b": 21_900},
    served_ms={"a": 18_000, "b": 25_000},
)


def test_an_engagement_goes_out_with_the_model_of_the_interval_after_its_own() -> None:
    found = waits(RUN, 0, 9_000, INACTIVITY_S)
    assert found.example.tolist() == [14.5, 10.25]
    assert found.learned.tolist() == [16.0, 15.0]
    assert found.announced.tolist() == [20.9, 19.9], "with b, though a was announced before"
    assert found.served.tolist() == [24.0, 23.0]
    assert found.closing.tolist() == [20.0, 23.0], "the first feed was acted on once more at 5 s"


def test_what_nothing_was_published_with_is_never_there() -> None:
    found = waits(RUN, 9_000, 10_000, INACTIVITY_S)
    assert found.learned.tolist() == [13.0]
    assert found.announced.tolist() == found.served.tolist() == [np.inf]


def test_a_model_that_was_never_served_is_made_up_for_by_the_next() -> None:
    passed_over = RUN._replace(
        ended=[*RUN.ended[:2], RUN.ended[2]._replace(published="c")],
        announced_ms={**RUN.announced_ms, "c": 26_900},
        served_ms={"a": 18_000, "c": 30_000},
    )
    found = waits(passed_over, 0, 10_000, INACTIVITY_S)
    assert found.announced.tolist() == [20.9, 19.9, 17.9]
    assert found.served.tolist() == [29.0, 28.0, 21.0]


def test_what_is_late_is_counted_apart_and_what_was_not_served_not_at_all() -> None:
    others = RUN._replace(
        done=[*RUN.done, Done(LONE, 103, 3_000), Done(READ, 110, 13_000), Done(LONE, 104, 3_500)],
        late=frozenset({(READ, 110)}),
        unserved=frozenset({(LONE, 103)}),
    )
    found = waits(others, 0, 20_000, INACTIVITY_S)
    assert found.late == 1
    assert found.example.tolist() == [14.5, 10.25, 10.1, np.inf], "the last was served, and its feed has not closed yet"


def test_the_feed_that_was_open_took_the_label() -> None:
    twice = RUN._replace(
        done=[Done(LIKED, 100, 1_000), Done(LIKED, 200, 20_000)],
        made=[RUN.made[0], Made(3, 1, out_ms=31_000, closed_ms=30_000, labels=(LIKED,))],
    )
    assert waits(twice, 0, 30_000, INACTIVITY_S).example[1] == 11.0


def test_a_feed_closes_after_a_pause_and_takes_nothing_then() -> None:
    waits_s, late = closing([[1.0, 4.0, 14.5], [11.0], [10.0, 20.0]], 10.0)
    assert waits_s.tolist() == [13.0, 10.0, 20.0, 10.0]
    assert late == 2, "the third act on the first feed, and the only one on the second"


def test_lags() -> None:
    at_s, behind_s = join_lag_s(RUN)
    assert at_s.tolist() == [15.5, 12.25, 19.1]
    assert behind_s.tolist() == [0.5, 0.25, 0.1]
    at_s, examples = learn_lag(RUN._replace(ended=[Ended(19_500, {3: 1, 5: 1}, None), *RUN.ended[1:]]))
    assert at_s.tolist() == [19.5, 22.0, 27.0]
    assert examples.tolist() == [1, 0, 0]


def test_intervals_are_read_from_the_log_of_learn() -> None:
    lines = [
        "a line for people",
        '{"at":"2026-01-05T00:00:01.250Z","event":"interval_learned","number":1,"published":null,'
        '"position":{"source":"topic x","offsets":{"0":3,"11":5}}}',
        '{"at":"2026-01-05T00:00:02.000Z","event":"refused"}',
    ]
    assert ended_in(lines) == [Ended(1_767_571_201_250, {0: 3, 11: 5}, None)]
