"""Histories to train on are what the state that serves would have kept, had it kept everything."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from flows.intake import Intake
from flows.training_histories import training_histories
from infra.logs import LogReader
from infra.polls import polls_of
from infra.world import WorldSummary
from models.inputs import History
from operators.decode import Ownership
from operators.parameters import DEFAULTS
from operators.state import MemoryState, live_posts
from schemas.events import Engagement, Event, FeedRequest, PostCreated
from tests.acceptance.playing import MINUTE, SECOND, T0, write_log


def test_they_are_what_the_serving_state_holds(world: WorldSummary) -> None:
    made = training_histories(LogReader(world.log), DEFAULTS)
    intake = Intake(MemoryState(DEFAULTS, live_posts(DEFAULTS)), DEFAULTS, Ownership())
    for raw in polls_of(LogReader(world.log), ()):
        for poll in intake.update_posts(intake.decode(raw)):
            list(intake.update_viewers(poll))
    viewers = intake.state.viewers
    compared = 0
    for context in made.contexts:
        (slot,) = viewers._slots.find(np.array([context.key], np.uint64))
        kept = viewers.sequences.of(int(slot))
        known = kept.author != 0
        kept = History(*(getattr(kept, field.name)[known] for field in fields(kept)))
        newest = context.history.part(len(context.history) - len(kept), len(context.history))
        for field in fields(kept):
            assert np.array_equal(getattr(kept, field.name), getattr(newest, field.name)), field.name
        compared += len(kept)
    assert compared > 500
    posts = np.concatenate([context.history.post for context in made.contexts])
    assert set(posts.tolist()) == set(made.catalogue.post.tolist())


def test_actions_on_a_post_join_for_a_while_and_what_was_undone_is_gone(tmp_path: Path) -> None:
    window_ms = DEFAULTS.history.window_s * 1000
    events: list[Event] = [
        PostCreated(T0, 1, 7, "tea", "en"),
        PostCreated(T0, 2, 8, "coffee", "en"),
        Engagement(T0 + MINUTE, 5, 1, "favorite"),
        Engagement(T0 + MINUTE + SECOND, 5, 2, "click"),
        Engagement(T0 + MINUTE + 2 * SECOND, 5, 1, "reply"),
        Engagement(T0 + MINUTE + 3 * SECOND, 5, 2, "click", undo=True),
        Engagement(T0 + 2 * MINUTE + window_ms, 5, 1, "retweet"),
        FeedRequest(T0 + 3 * MINUTE + window_ms, 1, 5),
        Engagement(T0 + 4 * MINUTE + window_ms, 6, 2, "favorite"),
    ]
    made = training_histories(LogReader(write_log(tmp_path / "log.jsonl", events)), DEFAULTS)
    assert [(one.history.post.tolist(), one.history.actions.tolist()) for one in made.contexts] == [
        ([1, 1], [0b11, 0b100]),
        ([2], [0b1]),
    ]
    early = training_histories(LogReader(tmp_path / "log.jsonl"), DEFAULTS, until_ms=T0 + 2 * MINUTE)
    assert [one.history.post.tolist() for one in early.contexts] == [[1]]
    assert early.catalogue.author.tolist() == [7]


def test_a_log_in_which_nobody_acts_has_none(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [PostCreated(T0, 1, 7, "tea", "en")])
    with pytest.raises(ValueError, match="there are no histories"):
        training_histories(LogReader(log), DEFAULTS)
