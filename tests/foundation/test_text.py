"""Counts and durations in words; text and values for the terminal."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from foundation.text import (
    check_period,
    count,
    format_duration,
    parse_since,
    printable,
    problem_detail,
    readable,
)

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 courses"), (1, "1 course"), (12345, "12,345 courses")]
)
def test_count_has_the_right_number(value: int, words: str) -> None:
    assert count(value, "course") == words


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        pytest.param('{"type":"t","detail":"no\\nmatch"}', "no\\nmatch", id="problem document"),
        pytest.param('{"detail":"cut off', '{"detail":"cut off', id="cut off"),
        pytest.param('{"detail":1}', '{"detail":1}', id="other JSON"),
        pytest.param("[" * 100_000, "[" * 100_000, id="nested"),
        pytest.param("", "", id="empty"),
    ],
)
def test_detail_of_a_problem_document(body: str, shown: str) -> None:
    assert problem_detail(body) == shown


def test_count_takes_an_irregular_plural() -> None:
    assert count(2, "entry", "entries") == "2 entries"


def test_count_stops_at_its_limit() -> None:
    assert count(10_000, "course", limit=10_000) == "10,000 courses"
    assert count(10_001, "course", limit=10_000) == "more than 10,000 courses"


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        pytest.param(timedelta(seconds=59.9), "59 s", id="less than a minute"),
        pytest.param(timedelta(minutes=119), "119 min", id="minutes"),
        pytest.param(timedelta(hours=2), "2 h", id="two hours"),
        pytest.param(timedelta(hours=47, minutes=59), "47 h", id="hours"),
        pytest.param(timedelta(days=2), "2 days", id="days"),
    ],
)
def test_duration_has_one_unit(duration: timedelta, words: str) -> None:
    assert format_duration(duration) == words


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param("Übung, 日本語 😀 e\u0301", "Übung, 日本語 😀 e\u0301", id="any script"),
        pytest.param("\x1b[31m\x9b31m", "\\x1b[31m\\x9b31m", id="colour"),
        pytest.param("a\nb\rc\td\x00\x7f", "a\\nb\\rc\\td\\x00\\x7f", id="control characters"),
        pytest.param("\u202ea\u2066b\u2069", "\\u202ea\\u2066b\\u2069", id="direction"),
        pytest.param("a\u200b\ufeff\u2028", "a\\u200b\\ufeff\\u2028", id="invisible"),
        pytest.param("\ud800", "\\ud800", id="lone surrogate"),
        pytest.param("\U000e0041", "\\U000e0041", id="beyond 16 bits"),
    ],
)
def test_printable_text_has_no_control_characters(text: str, printed: str) -> None:
    assert printable(text) == printed


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, "-", id="none"),
        pytest.param("", "-", id="empty"),
        pytest.param(0, "0", id="zero"),
        pytest.param(False, "no", id="no"),
        pytest.param(True, "yes", id="yes"),
        pytest.param(Decimal("7.50"), "7.50", id="decimal"),
        pytest.param("a\nb", "a\\nb", id="line break"),
        pytest.param(
            datetime(2026, 11, 22, 14, 30, 1, 5, tzinfo=timezone(timedelta(hours=5.5))),
            "2026-11-22 09:00:01 UTC",
            id="timestamp in another zone",
        ),
    ],
)
def test_value_is_readable(value: object, shown: str) -> None:
    assert readable(value) == shown


@pytest.mark.parametrize(
    ("text", "time"),
    [
        pytest.param("2h", datetime(2026, 11, 22, 7, 30, tzinfo=UTC), id="duration"),
        pytest.param("today", datetime(2026, 11, 22, tzinfo=UTC), id="today"),
        pytest.param(" yesterday ", datetime(2026, 11, 21, tzinfo=UTC), id="yesterday"),
        pytest.param("2026-10-01", datetime(2026, 10, 1, tzinfo=UTC), id="day"),
        pytest.param(
            "2026-10-01T09:00+02:00", datetime(2026, 10, 1, 7, tzinfo=UTC), id="another zone"
        ),
    ],
)
def test_time_can_be_relative(text: str, time: datetime) -> None:
    assert parse_since(text, now=datetime(2026, 11, 22, 9, 30, tzinfo=UTC)) == time


@pytest.mark.parametrize(
    ("since", "until", "empty"),
    [
        pytest.param(NINE, NINE + timedelta(hours=1), False, id="an hour"),
        pytest.param(NINE, NINE, True, id="ends when it begins"),
        pytest.param(NINE, NINE - timedelta(hours=1), True, id="ends before"),
        pytest.param(None, NINE, False, id="without beginning"),
        pytest.param(NINE, None, False, id="without end"),
    ],
)
def test_empty_period_is_refused(
    since: datetime | None, until: datetime | None, empty: bool
) -> None:
    words = "the period is empty: it begins at 2026-11-22 09:00:00 UTC and ends at"
    with pytest.raises(ValueError, match=words) if empty else nullcontext():
        check_period(since, until)


@pytest.mark.parametrize("text", ["soon", "2", "99999d99999", "0001-01-01T00:00+23:00"])
def test_other_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as 2h, yesterday or 2026-11-22T09:00"):
        parse_since(text, now=datetime(2026, 11, 22, tzinfo=UTC))
