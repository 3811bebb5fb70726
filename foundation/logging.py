"""Log configuration: text on a terminal, JSON elsewhere, without secrets."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from foundation.text import escaped, printable

REDACTED = "[redacted]"
_SECRET = re.compile(
    r"eas_\w{4,}|whsec_[\w+/=-]{4,}|gAAAA[\w=-]{20,}"
    # Not the placeholders that a next step shows.
    r"|(?i:bearer)\s+(?!<(?:admin key|course token|metrics token)>(?:[`;,.\s]|$))\S+"
    r"|(?i:wstoken)\W{1,6}\w+"
    r"|(?<=://)[^\s/@]*:[^\s/@]+(?=@)"
)
_SECRET_KEYS = re.compile(
    r"(?i)^(.*[_-])?(secrets?|(ws)?token|authorization|passwords?|cookie|admin[_-]key|encryption_keys?)$"
)
_TRACES = ("exception", "stack")


def redact(text: str) -> str:
    """Return the text with everything replaced that looks like a token, secret or credential."""
    return _SECRET.sub(REDACTED, text)


def _redacted(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: REDACTED if _SECRET_KEYS.match(str(key)) and value is not None else _safe_value(value)
        for key, value in fields.items()
    }


def _safe_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _redacted(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe_value(part) for part in value]
    return redact(str(value))


def _escape_fields(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    for key, value in fields.items():
        if isinstance(value, str):
            lines = value.split("\n") if key in _TRACES else [value]
            fields[key] = "\n".join(printable(line) for line in lines)
    return fields


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def configure(level: str, log_format: Literal["auto", "text", "json"]) -> None:
    """Write all log lines of this process, also those of libraries, to stderr in one format."""
    renderers: list[Processor]
    if log_format == "text" or (log_format == "auto" and sys.stderr.isatty()):
        # Tracebacks have to be text by now: the renderer would format them after the redaction.
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderers = [_escape_fields, console]
    else:
        renderers = [structlog.processors.JSONRenderer(_dump_json, ensure_ascii=False)]
    structlog.configure(
        processors=[*_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *_shared_processors(),
                structlog.stdlib.PositionalArgumentsFormatter(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                lambda _, __, fields: _redacted(fields),
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It logs a warning with a traceback for a malformed response, which a receiver can provoke.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _dump_json(fields: Any, **options: Any) -> str:
    return escaped(json.dumps(fields, **options))


# structlog wraps its loggers according to the configuration, so that they have no one type.
Logger = Any


def get_logger(name: str) -> Logger:
    """Return the logger of a module; messages are constant, values go into fields."""
    return structlog.stdlib.get_logger(name)
