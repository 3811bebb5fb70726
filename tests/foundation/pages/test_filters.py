"""Template filters."""

from datetime import datetime, timedelta, timezone

import pytest

from foundation.pages import filters

AT = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))


def test_timestamp_is_in_utc_to_the_microsecond() -> None:
    assert filters.utc_microseconds(AT) == "2026-11-22 09:00:00.123456 UTC"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-1, "0 s"),
        (4, "4 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (5430, "1 h 30 min"),
        (86_400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_duration_has_two_largest_units(seconds: float, written: str) -> None:
    assert filters.duration(timedelta(seconds=seconds)) == written


@pytest.mark.parametrize(("value", "written"), [(148.4, "148 ms"), (1300, "1.3 s")])
def test_milliseconds_become_seconds(value: float, written: str) -> None:
    assert filters.milliseconds(value) == written


@pytest.mark.parametrize(
    ("entered", "at"),
    [
        pytest.param("2026-11-22T10:00:00.123456+01:00", AT, id="exact"),
        pytest.param("2h", None, id="relative"),
        pytest.param("2026-11-22", None, id="date"),
        pytest.param("0001-01-01T00:00:00+23:00", None, id="before year 1"),
    ],
)
def test_exact_time_of_a_filter(entered: str, at: datetime | None) -> None:
    assert filters.exact_time(entered) == at


def test_url_breaks_after_slashes() -> None:
    broken = filters.break_at_slashes("https://elms.example/webhooks/<b>/")

    assert broken == "https://<wbr>elms.example/<wbr>webhooks/<wbr>&lt;b&gt;/"


def test_numbers_have_thousands_separators() -> None:
    assert filters.number(12771) == "12,771"
