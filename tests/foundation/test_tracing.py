"""W3C Trace Context."""

import re

import pytest
import structlog

from foundation import tracing
from foundation.tracing import Span

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        pytest.param(GOOD, True, id="recorded"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-00", False, id="not recorded"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01-what", True, id="later version with more"),
    ],
)
def test_traceparent_is_parsed(header: str, sampled: bool) -> None:
    assert tracing.parse(header) == Span(TRACE_ID, SPAN_ID, sampled)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param(f"ff-{TRACE_ID}-{SPAN_ID}-01", id="version ff"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-01-what", id="this version with more"),
        pytest.param(f"00-{'0' * 32}-{SPAN_ID}-01", id="no trace"),
        pytest.param(f"00-{TRACE_ID}-{'0' * 16}-01", id="no span"),
        pytest.param(GOOD.upper(), id="capitals"),
        pytest.param(f"{GOOD},{GOOD}", id="repeated"),
        pytest.param(f"00-{TRACE_ID[:-1]}é-{SPAN_ID}-01", id="not ASCII"),
    ],
)
def test_invalid_traceparent_starts_a_new_trace(header: str | None) -> None:
    begun = tracing.span_from(header)

    assert tracing.parse(header) is None
    assert begun.trace_id != TRACE_ID
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", begun.header)
    assert tracing.parse(begun.header) == begun


def test_child_belongs_to_the_same_trace() -> None:
    child = tracing.span_from(f"00-{TRACE_ID}-{SPAN_ID}-00")

    assert (child.trace_id, child.sampled) == (TRACE_ID, False)
    assert child.span_id != SPAN_ID


def test_span_is_current_inside_use() -> None:
    span = tracing.new_span()
    before = tracing.current(), structlog.contextvars.get_contextvars()

    with tracing.use(span):
        within = tracing.current(), structlog.contextvars.get_contextvars()

    fields = {"trace_id": span.trace_id, "span_id": span.span_id}
    assert within == (span, {**before[1], **fields})
    assert (tracing.current(), structlog.contextvars.get_contextvars()) == before
