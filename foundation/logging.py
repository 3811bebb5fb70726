"""Logs: readable on a terminal, JSON elsewhere, and never a secret in them."""

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
    # Advice names what belongs there, in just these words.
    r"|(?i:bearer)\s+(?!<(?:admin key|course token|metrics token)>(?:[`;,.\s]|$))\S+"
    r"|(?i:wstoken)\W{1,6}\w+"
    r"|(?<=://)[^\s/@]*:[^\s/@]+(?=@)"
)
_SECRET_KEYS = re.compile(
    r"(?i)^(.*[_-])?(secrets?|(ws)?token|authorization|passwords?|cookie|admin[_-]key|encryption_keys?)$"
)
_TRACES = ("exception", "stack")


def redact(text: str) -> str:
    """Return the text with whatever looks like a token, a secret or a bearer taken out."""
    return _SECRET.sub(REDACTED, text)


def _redact_fields(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    return _without_secrets(fields)


def _without_secrets(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: REDACTED if _SECRET_KEYS.match(str(key)) and value is not None else _shown(value)
        for key, value in fields.items()
    }


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _without_secrets(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(part) for part in value]
    return redact(str(value))


def _spell_out(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    for key, value in fields.items():
        if isinstance(value, str):
            lines = value.split("\n") if key in _TRACES else [value]
            fields[key] = "\n".join(printable(line) for line in lines)
    return fields


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def configure(level: str, form: Literal["auto", "text", "json"]) -> None:
    """Send every log line of this process, the libraries' too, through one pipe to stderr."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact_fields,
                *_rendered(text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns, with a trace, of what a receiver answers badly: that is the receiver's to choose.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _json(fields: Any, **options: Any) -> str:
    return escaped(json.dumps(fields, **options))


def _rendered(text: bool) -> list[Processor]:
    if not text:
        return [structlog.processors.JSONRenderer(_json, ensure_ascii=False)]
    # A traceback reaches the renderer as text, or secrets in it would pass by the redaction.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [_spell_out, renderer]


Logger = Any
"""What `get_logger` returns: structlog's loggers are wrapped anew by each configuration."""


def get_logger(name: str) -> Logger:
    """Return the logger of a module; messages are constant, what varies goes into fields."""
    return structlog.stdlib.get_logger(name)
