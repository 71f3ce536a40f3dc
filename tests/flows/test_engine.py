"""What this project relies on Bytewax for, in the version that is pinned."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic

from infra.polls import EachSink, PollSource, run
from schemas.polls import RawPoll


class Noted(StatefulBatchLogic[int, int, None]):
    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    def on_batch(self, values: list[int]) -> tuple[list[int], bool]:
        self.log.extend((self.name, value) for value in values)
        return values, self.RETAIN

    def snapshot(self) -> None:
        return


def test_a_poll_passes_the_whole_chain_before_the_next_one_is_taken() -> None:
    log: list[tuple[str, int]] = []

    def polls():  # type: ignore[no-untyped-def]
        for number in range(50):
            log.append(("source", number))
            yield RawPoll([b""], [""], [0], [number], 0.0, 0)

    flow = Dataflow("order")
    stream = op.map("number", op.input("in", flow, PollSource(polls(), lambda: True)), lambda poll: poll.offsets[0])
    for name in ("posts", "viewers", "slate"):
        keyed = op.key_on(f"key_{name}", stream, lambda _: "one")
        stream = op.key_rm(f"rm_{name}", op.stateful_batch(name, keyed, lambda _, n=name: Noted(n, log)))
    # A second branch, as dead letters are, must not change it.
    op.output("side", op.flat_map("none", stream, lambda _: []), EachSink(lambda _: None))
    op.output("out", stream, EachSink(lambda items: log.extend(("out", item) for item in items)))
    run(flow)
    assert log == [(name, n) for n in range(50) for name in ("source", "posts", "viewers", "slate", "out")]


def test_a_source_that_is_not_ready_is_asked_again() -> None:
    answers = iter([False, False, True, False, True, True])
    taken: list[RawPoll] = []
    flow = Dataflow("ready")
    polls = iter([RawPoll([], [], [], [], 0.0, 0), RawPoll([], [], [], [], 1.0, 0)])
    op.output("out", op.input("in", flow, PollSource(polls, lambda: next(answers))), EachSink(taken.extend))
    run(flow)
    assert [poll.read_at_s for poll in taken] == [0.0, 1.0]
