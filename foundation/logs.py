"""Logs: readable on a terminal, JSON elsewhere, and never a secret in them."""

import logging
import re
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
_SECRET = re.compile(r"eas_\w{4,}|whsec_[\w+/=-]{4,}|gAAAA[\w=-]{20,}|(?i:bearer)\s+\S+")
_SECRET_KEYS = re.compile(
    r"(?i)^(.*_)?(secret|token|authorization|password|admin_key|encryption_keys?)$"
)


def redact(text: str) -> str:
    """Return the text with whatever looks like a token, a secret or a bearer taken out."""
    return _SECRET.sub(REDACTED, text)


def _redact_fields(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    for key, value in fields.items():
        if _SECRET_KEYS.match(key) and value is not None:
            fields[key] = REDACTED
        elif isinstance(value, str):
            fields[key] = redact(value)
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
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_tracebacks(text),
                _redact_fields,
                _renderer(text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("urllib3", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _tracebacks(text: bool) -> list[Processor]:
    return [] if text else [structlog.processors.format_exc_info]


def _renderer(text: bool) -> Processor:
    if text:
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def get(name: str) -> Any:
    """Return the logger of a module; messages are constant, what varies goes into fields."""
    return structlog.stdlib.get_logger(name)
