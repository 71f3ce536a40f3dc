"""Log lines with fields: JSON for machines, a readable form on a terminal. Built on the standard library's logging."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from infra.operations.refused import OperationsRefused

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMS: Final = ("auto", "json", "human")
ROOT: Final = "foryou"
# Fields that every line has; one given under such a name gets an underscore behind it.
_OWN: Final = frozenset({"at", "level", "event", "logger"})
_COLOURS: Final = {"warning": "\x1b[33m", "error": "\x1b[31m", "debug": "\x1b[2m"}


class Log:
    """Events with fields: `log.info("committed", epoch=3, ms=4.2)`. Never raises for what a field holds."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: object) -> None:
        """Say what helps to find a fault."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Say what happened."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Say what went wrong and was borne."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Say what went wrong and cost something."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Say what went wrong, with the traceback of the exception now handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._logger.error(event, exc_info=True, extra={"fields": fields})

    def _log(self, level: int, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields})


def get_log(name: str) -> Log:
    """Return the log of a part of the job, such as `commits`."""
    return Log(logging.getLogger(f"{ROOT}.{name}"))


def configure_logging(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send all log lines, those of libraries from `warning` on, to a stream (standard error by default).

    `auto` is the human form on a terminal and JSON elsewhere. Calling it again replaces what was set. Raises
    OperationsRefused for a level or form that does not exist.
    """
    if level not in LEVELS:
        raise OperationsRefused(f"{level!r} is no log level: give one of {', '.join(LEVELS)}.")
    if form not in FORMS:
        raise OperationsRefused(f"{form!r} is no form of log lines: give one of {', '.join(FORMS)}.")
    stream = sys.stderr if stream is None else stream
    handler = _Handler(stream)
    human = form == "human" or (form == "auto" and stream.isatty())
    handler.setFormatter(HumanFormatter(stream.isatty()) if human else JsonFormatter())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, LEVELS[level]))
    logging.getLogger(ROOT).setLevel(LEVELS[level])


class _Handler(logging.StreamHandler[TextIO]):
    """A handler of ours, so that configuring again finds it."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        line = {"at": _at(record), "level": record.levelname.lower(), "logger": _name(record), "event": _event(record)}
        line |= {f"{name}_" if name in _OWN else name: value for name, value in _fields(record).items()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        try:
            return orjson.dumps(line, default=_text, option=options).decode()
        except orjson.JSONEncodeError:  # lone surrogates, integers over 64 bits, cycles
            plain = {name: _text(value).encode("utf-8", "replace").decode() for name, value in line.items()}
            return orjson.dumps(plain).decode()


class HumanFormatter(logging.Formatter):
    """A line for people: the time of day, the level where it is not info, the event and its fields."""

    def __init__(self, colours: bool) -> None:
        """Colours mark levels on a terminal."""
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        level = record.levelname.lower()
        words = [_at(record)[11:23], *([] if level == "info" else [f"{level}:"]), _one_line(_event(record))]
        words += [f"{name}={_one_line(_text(value))}" for name, value in _fields(record).items()]
        line = " ".join(words)
        if self._colours and level in _COLOURS:
            line = f"{_COLOURS[level]}{line}\x1b[0m"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _name(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


def _event(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a library's message that does not fit its arguments
        return str(record.msg)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _text(value: object) -> str:
    try:
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    except Exception as error:
        return f"<{type(value).__name__} that can't be shown: {type(error).__name__}>"


def _one_line(text: str) -> str:
    """Return a text that can't forge a second line or move the cursor."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
