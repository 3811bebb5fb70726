"""W3C Trace Context: the span of a request, read from its header, logged, and passed on."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

HEADER = "traceparent"

# Neither the version ff nor an id of zeros is valid.
_FORMAT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 1


@dataclass(frozen=True)
class Span:
    """A span: the id of its trace, its own id, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """The value of `traceparent` for a request that belongs to this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def child(self) -> "Span":
        """Return a new span of the same trace."""
        return Span(self.trace_id, _new_id(64), self.sampled)


def new_span() -> Span:
    """Return the first span of a new trace."""
    return Span(_new_id(128), _new_id(64))


def parse(header: str | None) -> Span | None:
    """Return the span in a `traceparent` header, or None if it is not valid (Trace Context, 3.2).

    An invalid header is ignored, never refused.
    """
    match = _FORMAT.fullmatch(header) if header else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more and version == "00":
        return None
    return Span(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def span_from(header: str | None) -> Span:
    """Return a child of the span in a `traceparent` header, or the first span of a new trace."""
    parent = parse(header)
    return new_span() if parent is None else parent.child()


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def current() -> Span | None:
    """Return the current span of this thread, or None."""
    return _current.get()


def set_current(span: Span) -> None:
    """Make a span the current one, and add its ids to every log line from now on."""
    _current.set(span)
    structlog.contextvars.bind_contextvars(trace_id=span.trace_id, span_id=span.span_id)


@contextmanager
def use(span: Span) -> Iterator[Span]:
    """Make a span the current one inside, and add its ids to every log line."""
    token = _current.set(span)
    fields = {"trace_id": span.trace_id, "span_id": span.span_id}
    try:
        with structlog.contextvars.bound_contextvars(**fields):
            yield span
    finally:
        _current.reset(token)


def _new_id(bits: int) -> str:
    # An id of zeros is invalid.
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
