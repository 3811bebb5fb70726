"""Trace context (W3C): what a request is part of, read, logged and sent on."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import structlog

HEADER = "traceparent"

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 1


@dataclass(frozen=True)
class Trace:
    """A span: the trace that it belongs to, its own id, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """The value of `traceparent` that makes whoever is asked a child of this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def child(self) -> "Trace":
        """Return a new span of the same trace."""
        return replace(self, span_id=_new_id(8))


def begin() -> Trace:
    """Return the first span of a new trace."""
    return Trace(_new_id(16), _new_id(8))


def parse(header: str | None) -> Trace | None:
    """Return the span that a `traceparent` names, or None if it is not one (Trace Context, 3.2).

    What is not understood is passed over: a trace is never worth a refusal.
    """
    found = _FORM.fullmatch(header or "")
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    later = version != "00"
    if version == "ff" or (more and not later) or not (int(trace_id, 16) and int(span_id, 16)):
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def after(header: str | None) -> Trace:
    """Return a span below the one that a `traceparent` names, or the first of a new trace."""
    named = parse(header)
    return begin() if named is None else named.child()


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """Return the span that is at work in this thread, or None if nobody began one."""
    return _current.get()


def enter(span: Trace) -> None:
    """Let a span be at work from now on, and stand in every log line."""
    _current.set(span)
    structlog.contextvars.bind_contextvars(trace_id=span.trace_id, span_id=span.span_id)


@contextmanager
def entered(span: Trace) -> Iterator[Trace]:
    """Let a span be at work, and stand in every log line, until the end."""
    token = _current.set(span)
    fields = {"trace_id": span.trace_id, "span_id": span.span_id}
    try:
        with structlog.contextvars.bound_contextvars(**fields):
            yield span
    finally:
        _current.reset(token)


def _new_id(size: int) -> str:
    """Return random hexadecimals of so many bytes; all zeros would name nothing."""
    while not int(found := secrets.token_hex(size), 16):
        pass
    return found
