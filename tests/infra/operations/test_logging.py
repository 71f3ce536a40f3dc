"""Log lines are JSON with their fields, whatever the fields hold."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pytest

from infra.operations import OperationsRefused, configure_logging, get_log


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root, own = logging.getLogger(), logging.getLogger("foryou")
    levels, handlers = (root.level, own.level), list(root.handlers)
    yield
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    root.handlers = handlers


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """Return what was written, line by line."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_event_and_fields() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    get_log("commits").info("committed", epoch=3, ms=4.2)
    (line,) = lines(stream)
    assert datetime.fromisoformat(str(line.pop("at"))).utcoffset() is not None
    assert line == {"level": "info", "logger": "commits", "event": "committed", "epoch": 3, "ms": 4.2}


def test_levels_hold_and_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(level="debug", stream=second)
    log = get_log("x")
    log.debug("a")
    log.warning("b")
    log.error("c")
    assert [line["event"] for line in lines(second)] == ["a", "b", "c"]
    assert not first.getvalue()
    configure_logging(level="error", stream=second)
    log.warning("d")
    assert len(lines(second)) == 3


def test_libraries_are_heard_from_warning_on() -> None:
    stream = io.StringIO()
    logging.getLogger().handlers = []  # pytest's own does not bear what ours must
    configure_logging(level="debug", stream=stream)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("broken: %s", 7)
    logging.getLogger("library").warning("of %d", "text")
    assert [line["event"] for line in lines(stream)] == ["broken: 7", "of %d"]


def test_an_exception_brings_its_traceback_in_the_same_line() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        raise OSError("no space left")
    except OSError:
        get_log("x").exception("commit_failed", store="posts")
    (line,) = lines(stream)
    assert line["store"] == "posts"
    assert "no space left" in str(line["traceback"])


class Rude:
    """A value that can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def test_no_field_breaks_a_line() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    cycle: list[object] = []
    cycle.append(cycle)
    values = [b"\xff", "\ud800", 2**70, np.float32(1.5), np.arange(2), float("nan"), {1: {2}}, Rude(), cycle, "a\nb"]
    for value in values:
        get_log("x").info("100 %s", at="mine", value=value)
    written = lines(stream)
    assert len(written) == len(values)
    assert {line["event"] for line in written} == {"100 %s"}
    assert {line["at_"] for line in written} == {"mine"}
    assert written[4]["value"] == [0, 1]


def test_people_on_a_terminal_get_plain_lines_that_nothing_can_forge() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    get_log("x").info("ready", posts=1000, s=1.23456)
    get_log("x").warning("shed", viewer="7\n12:00:00 ready\x1b[2J")
    first, second = stream.getvalue().splitlines()
    assert first.endswith(" ready posts=1000 s=1.235")
    assert "warning: shed viewer=7\\n12:00:00 ready\\x1b[2J" in second


def test_json_can_be_asked_for_on_a_terminal() -> None:
    stream = Terminal()
    configure_logging(form="json", stream=stream)
    get_log("x").info("ready")
    assert lines(stream)[0]["event"] == "ready"


def test_an_unknown_level_or_form_is_refused() -> None:
    with pytest.raises(OperationsRefused, match="debug, info, warning, error"):
        configure_logging(level="loud")
    with pytest.raises(OperationsRefused, match="auto, json, human"):
        configure_logging(form="xml")
