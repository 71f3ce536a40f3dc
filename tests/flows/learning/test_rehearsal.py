"""What a trainer learns from again: the latest intervals, drawn alike, the same on every run."""

from collections import Counter
from pathlib import Path

from flows.learning.rehearsal import Rehearsal
from tests.flows.learning.streams import stream


def test_the_latest_whole_intervals_are_kept_and_all_of_them_are_drawn() -> None:
    intervals = [stream(20, seed) for seed in range(4)]
    rehearsal = Rehearsal(most=50, seed=3)
    assert rehearsal.drawn(1, 5) == []
    for examples in intervals:
        rehearsal.add(examples)
    assert len(rehearsal) == 40
    drawn = rehearsal.drawn(4, 4000)
    times = Counter(id(one) for one in drawn)
    assert times.keys() == {id(one) for examples in intervals[2:] for one in examples}
    assert min(times.values()) > 50, "each as likely as any other: 100 times on average"
    again = [id(one) for one in rehearsal.drawn(4, 4000)]
    assert again == [id(one) for one in drawn]
    assert [id(one) for one in rehearsal.drawn(5, 4000)] != again


def test_an_interval_larger_than_what_is_kept_leaves_nothing() -> None:
    rehearsal = Rehearsal(most=10, seed=0)
    rehearsal.add(stream(20))
    assert (len(rehearsal), rehearsal.drawn(1, 3)) == (0, [])


def test_files_are_written_once_and_go_when_they_are_not_needed(tmp_path: Path) -> None:
    rehearsal = Rehearsal(most=40, seed=0)
    rehearsal.add(stream(20, 1))
    rehearsal.add(stream(20, 2))
    first = rehearsal.save(tmp_path)
    assert rehearsal.save(tmp_path) == first
    rehearsal.add(stream(20, 3))
    files = rehearsal.save(tmp_path)
    assert files[0] == first[1]
    assert len(list(tmp_path.iterdir())) == 3, "the state on disk still names the oldest"
    rehearsal.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [part.name for _, part in files]
    found = Rehearsal(most=40, seed=0)
    found.load(tmp_path, files)
    gone = found.drawn(3, 1)[0].context.key
    assert [one.context.key for one in found.drawn(3, 30)] == [one.context.key for one in rehearsal.drawn(3, 30)]
    # Somebody who is deleted leaves memory, and the disk with the next state.
    found.forget({gone})
    assert len(found) < 40
    assert gone not in {one.context.key for one in found.drawn(3, 1000)}
    again = Rehearsal(most=40, seed=0)
    again.load(tmp_path, found.save(tmp_path))
    assert len(again) == len(found)
    assert gone not in {one.context.key for one in again.drawn(3, 1000)}
    before = Rehearsal(most=40, seed=0)
    before.load(tmp_path, files)
    assert len(before) == 40, "killed before the next state, the one before still has its files"
    again.forget({one.context.key for one in again.drawn(3, 1000)})
    assert (len(again), again.save(tmp_path)) == (0, [])
