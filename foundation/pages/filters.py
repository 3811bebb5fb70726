"""Template filters for numbers, timestamps and durations."""

import re
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from contract.events import wire_time
from foundation.text import count, format_timestamp, number, problem_detail


def utc_microseconds(at: datetime) -> str:
    """Return a timestamp in UTC, to the microsecond."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"


def milliseconds(value: float) -> str:
    """Return a number of milliseconds as a duration."""
    return f"{value:,.0f} ms" if value < 1000 else duration(timedelta(milliseconds=value))


def duration(value: timedelta) -> str:
    """Return a duration in its two largest units; a few seconds have a decimal if it is not 0."""
    seconds = max(value.total_seconds(), 0)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    for size, unit, small_size, small in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    raise AssertionError(whole)


def sentence(text: str) -> str:
    """Return text with a capital and a full stop; a URL at its beginning stays as it is."""
    begins = text[:1].upper() if text.partition(" ")[0].isalpha() else text[:1]
    return f"{begins}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def break_at_slashes(text: str) -> Markup:
    """Return text, such as a URL, whose lines break after slashes rather than inside words."""
    return Markup("<wbr>").join(re.split(r"(?<=/)(?=[^/])", text))


def exact_time(text: str) -> datetime | None:
    """Return the time that a filter names with its time zone; None for one such as 2h or a date."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


FILTERS = {
    "sentence": sentence,
    "number": number,
    "count_of": count,
    "iso": wire_time,
    "exact_time": exact_time,
    "break_at_slashes": break_at_slashes,
    "problem_detail": problem_detail,
    "utc_seconds": format_timestamp,
    "utc_microseconds": utc_microseconds,
    "milliseconds": milliseconds,
    "duration": duration,
}
"""The filters by their names in templates."""
