"""The door to structlog: one line per event, safe to read and to ship.

Owns the shape of a line (`time`, `level`, `msg`, `logger`, then the fields), its two formats, and the way
of the standard library's loggers into it. Promises that no field can break a line or fill a disk, and that
a log that cannot be written never stops the work. Does not know what is secret: who logs leaves it out.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TextIO, cast

import structlog

from berth.core.instants import rfc3339
from berth.runtime.clock import Clock, SystemClock

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["json", "text"]

FIELD_CHARACTERS = 1024
# The end of a traceback says what happened, and 1 KB of it would not say where.
TRACEBACK_CHARACTERS = 8192

_LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_PLAIN = re.compile(r"[\w./:@+,%-]+", re.ASCII)


class Logger(Protocol):
    """What every other package logs with. `exc_info=True` adds the traceback of the current exception."""

    def debug(self, msg: str, /, **fields: Any) -> None: ...
    def info(self, msg: str, /, **fields: Any) -> None: ...
    def warning(self, msg: str, /, **fields: Any) -> None: ...
    def error(self, msg: str, /, **fields: Any) -> None: ...


class Logs:
    """Where the process's log goes and what of it; made once by the process entry, handed to who logs."""

    def __init__(
        self,
        level: Level = "info",
        line_format: Format = "json",
        *,
        stream: TextIO = sys.stderr,
        clock: Clock | None = None,
    ) -> None:
        self._sink = _Sink(stream)
        self._level = _LEVELS[level]
        self._clock = clock or SystemClock()
        self._render = _json_line if line_format == "json" else _text_line
        self._wrapper = structlog.make_filtering_bound_logger(self._level)

    def logger(self, name: str) -> Logger:
        """A logger whose lines carry `name`."""

        def shape(_: object, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
            line = {
                "time": rfc3339(self._clock.wall_us()),
                "level": "WARN" if method == "warning" else method.upper(),
                "msg": _bounded(event.pop("event")),
                "logger": name,
            }
            error = event.pop("exc_info", None)
            line.update((key, _bounded(value)) for key, value in event.items() if key not in line)
            if error:
                line["traceback"] = _traceback(error)
            return line

        return cast(
            "Logger",
            structlog.wrap_logger(
                self._sink,
                processors=[shape, self._render],
                wrapper_class=self._wrapper,
                context_class=dict,
                cache_logger_on_first_use=True,
            ),
        )

    @contextmanager
    def capturing_stdlib(self) -> Iterator[None]:
        """Sends what the standard library's loggers say here, instead of where they were going."""
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        root.handlers[:] = [_Forward(self)]
        # Libraries tell their inner life at INFO; theirs is the developer's level, ours the operator's.
        root.setLevel(self._level if self._level <= logging.DEBUG else max(self._level, logging.WARNING))
        try:
            yield
        finally:
            root.handlers[:] = before
            root.setLevel(level)


class _Sink:
    """Writes whole lines to a stream, and gives up on a line that the stream will not take."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed file
            pass

    debug = info = warning = error = _write


class _Forward(logging.Handler):
    """Hands records of the standard library's loggers on."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        logger = self._logs.logger(record.name)
        if record.levelno >= logging.ERROR:
            write = logger.error
        elif record.levelno >= logging.WARNING:
            write = logger.warning
        elif record.levelno >= logging.INFO:
            write = logger.info
        else:
            write = logger.debug
        write(record.getMessage(), exc_info=record.exc_info)


def _bounded(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= FIELD_CHARACTERS else text[: FIELD_CHARACTERS - 1] + "…"


def _traceback(exc_info: Any) -> str:
    if isinstance(exc_info, BaseException):
        error = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1]
    if error is None:
        return ""
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= TRACEBACK_CHARACTERS else "…" + text[1 - TRACEBACK_CHARACTERS :]


def _json_line(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    return _escaped(line)


def _text_line(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    return " ".join(f"{key}={_text_value(value)}" for key, value in line.items())


def _text_value(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else _escaped(value)


def _escaped(value: Any) -> str:
    # Pure ASCII: control characters, line separators, bidi marks and lone surrogates all come out as escapes.
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")
