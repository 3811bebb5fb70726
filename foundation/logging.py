"""Log configuration: text on a terminal, JSON elsewhere, without secrets."""

import json
import logging
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from contract.events import wire_time
from foundation.text import escaped, printable

REDACTED = "[redacted]"
_SECRET = re.compile(
    r"eas_\w{4,}|whsec_[\w+/=-]{4,}|gAAAA[\w=-]{20,}"
    # Not the placeholders that a next step shows.
    r"|(?i:bearer)\s+(?!<(?:admin key|course token|metrics token)>(?:[`;,.\s]|$))\S+"
    r"|(?i:wstoken)\W{1,6}\w+"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)
_SECRET_KEYS = re.compile(
    r"(?i)^(.*[_-])?(secrets?|(ws)?token|authorization|passwords?|cookie|admin[_-]key|encryption_keys?)$"
)
_TRACES = ("exception", "stack")

_Render = Callable[[EventDict], str]


def redact(text: str) -> str:
    """Return the text with everything replaced that looks like a token, secret or credential."""
    return _SECRET.sub(REDACTED, text) if _may_hold_secret(text) else text


def _may_hold_secret(text: str) -> bool:
    # True for all that `_SECRET` finds, and for a little more, in a tenth of the time. JSON escapes
    # none of these characters, so that it works for a whole line.
    folded = text.casefold()
    return (
        "@" in folded
        or "eas_" in folded
        or "whsec_" in folded
        or "gaaaa" in folded
        or "bearer" in folded
        or "wstoken" in folded
    )


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEYS.match(key) is not None


@lru_cache(maxsize=1024)
def _any_is_secret(keys: tuple[str, ...]) -> bool:
    return any(map(_is_secret, keys))


def _redacted(fields: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: REDACTED if _is_secret(str(key)) and value is not None else _safe_value(value)
        for key, value in fields.items()
    }


def _safe_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact(str(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return wire_time(value)
    if isinstance(value, Mapping):
        return _redacted(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe_value(part) for part in value]
    return redact(str(value))


_encode = json.JSONEncoder(ensure_ascii=False, default=_safe_value).encode


def _render_json(fields: EventDict) -> str:
    line = _encode(fields)
    # Fields are rarely secret, so the line is searched once, and not each of them. A mapping inside
    # may have secret keys.
    if line.rfind("{") > 0 or _any_is_secret(tuple(fields)) or _may_hold_secret(line):
        line = _encode(_redacted(fields))
    return escaped(line)


def _text_renderer() -> _Render:
    # Tracebacks have to be text by now: the renderer would format them after the redaction.
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )

    def render(fields: EventDict) -> str:
        safe = {key: _printable_value(key, value) for key, value in _redacted(fields).items()}
        return str(console(None, "", safe))

    return render


def _printable_value(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    lines = value.split("\n") if key in _TRACES else [value]
    return "\n".join(map(printable, lines))


@lru_cache(maxsize=1)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _add_timestamp(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    fields["timestamp"] = f"{_format_second(seconds)}.{microseconds:06}Z"
    return fields


class _Batch(threading.local):
    lines: list[str] | None = None


_batch = _Batch()


class _Stderr(logging.Handler):
    """Writes lines to what is stderr at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a library."""
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write a line, or add it to the batch of this thread."""
        if _batch.lines is None:
            self._write(line + "\n")
        else:
            _batch.lines.append(line + "\n")

    def write_lines(self, lines: Iterable[str]) -> None:
        """Write lines in a few pieces; like a handler, report an error and do not raise it."""
        piece, size = "", 0
        try:
            for line in lines:
                length = len(line.encode(errors="replace"))
                # What is not larger goes into a pipe in one piece: other processes write to it too.
                if piece and size + length > select.PIPE_BUF:
                    self._write(piece)
                    piece, size = "", 0
                piece, size = piece + line, size + length
            if piece:
                self._write(piece)
        except Exception:  # noqa: BLE001 - log lines must not end what they are about
            self.handleError(logging.makeLogRecord({"msg": "lines of a batch"}))

    def _write(self, text: str) -> None:
        self.acquire()
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        finally:
            self.release()


_STDERR = _Stderr()


@contextmanager
def batch() -> Iterator[None]:
    """Write the lines of this thread at the end, in a few pieces.

    A thread that writes lines one by one hands the interpreter to other threads at each.
    """
    lines: list[str] = []
    _batch.lines = lines
    try:
        yield
    finally:
        _batch.lines = None
        _STDERR.write_lines(lines)


class _Output:
    """What a structlog logger writes to.

    It needs no `LogRecord`, which costs more than the rest of a line.
    """

    def __init__(self, name: str, render: _Render) -> None:
        self.name = name
        self._render = render

    def write(self, /, **fields: Any) -> None:
        """Write the line of an event; like a handler, report an error and do not raise it."""
        try:
            _STDERR.write(self._render(fields))
        except Exception:  # noqa: BLE001 - a log line must not end what it is about
            _STDERR.handleError(logging.makeLogRecord({"msg": fields["event"]}))

    debug = info = warning = error = critical = write


def configure(level: str, log_format: Literal["auto", "text", "json"]) -> None:
    """Write all log lines of this process, also those of libraries, to stderr in one format."""
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    render = _text_renderer() if is_text else _render_json
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_timestamp,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    _STDERR.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*processors],  # a copy: structlog's `capture_logs` empties the list
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _, __, fields: render(fields),
            ],
        )
    )
    structlog.configure(
        processors=processors,
        logger_factory=lambda name: _Output(name, render),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    root = logging.getLogger()
    root.handlers[:] = [_STDERR]
    root.setLevel(level)
    for noisy in ("alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


# structlog wraps its loggers according to the configuration, so that they have no one type.
Logger = Any


def get_logger(name: str) -> Logger:
    """Return the logger of a module; messages are constant, values go into fields."""
    return structlog.stdlib.get_logger(name)
