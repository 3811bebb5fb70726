"""Text for people: counts, durations, timestamps, and what a terminal can show."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationInfo

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)


def parse_timestamp(text: str) -> datetime:
    """Return the timestamp of a text in ISO 8601, in UTC unless it has an offset.

    Raises ValueError or OverflowError.
    """
    timestamp = datetime.fromisoformat(text)
    aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    return aware.astimezone(UTC)


def parse_duration(text: str) -> timedelta:
    """Return the duration of a text such as 90s, 30m, 24h or 7d; raise ValueError for others."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"'{printable(text)}' is not a duration such as 90s, 30m, 24h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_since(text: str, *, now: datetime) -> datetime:
    """Return the timestamp of a text: a duration before now, today, yesterday, or ISO 8601.

    Days begin in UTC. Raises ValueError.
    """
    text = text.strip()
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": today, "yesterday": today - timedelta(days=1)}
    if text in days:
        return days[text]
    try:
        return now - parse_duration(text) if _DURATION.fullmatch(text) else parse_timestamp(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"'{printable(text[:40])}' is not a time such as 2h, yesterday or 2026-11-22T09:00"
        ) from None


def check_period(since: datetime | None, until: datetime | None) -> None:
    """Raise ValueError for a period that ends before or when it begins."""
    if since is not None and until is not None and until <= since:
        raise ValueError(
            f"the period is empty: it begins at {format_timestamp(since)} "
            f"and ends at {format_timestamp(until)}"
        )


def check_until(until: datetime, info: "ValidationInfo") -> datetime:
    """Check the period that ends with this field of a model and begins with its field `since`."""
    check_period(info.data.get("since"), until)
    return until


def count(value: int, one: str, many: str | None = None, *, limit: int | None = None) -> str:
    """Return a number with its noun: 1 course, 2,000 courses, more than 10,000 courses.

    `limit` is up to where it was counted; a larger number means that there are more.
    """
    noun = one if value == 1 else many or one + "s"
    return f"{number(value, limit=limit)} {noun}"


def number(value: int, *, limit: int | None = None) -> str:
    """Return a number with thousands separators; "more than" the limit if it is larger."""
    return f"{value:,}" if limit is None or value <= limit else f"more than {limit:,}"


def format_duration(time: timedelta) -> str:
    """Return a rounded duration: 30 s, 42 min, 26 h, 3 days."""
    seconds = int(time.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 2 * 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 2 * 24 else count(hours // 24, "day")


def escaped(document: str) -> str:
    """Return JSON text with control characters escaped; it means the same."""
    # Of those in ASCII, json.dumps() leaves only DEL.
    if (document.isascii() and "\x7f" not in document) or document.isprintable():
        return document
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in document
    )


def printable(text: str) -> str:
    """Return the text with control and text-direction characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def problem_detail(body: str) -> str:
    """Return the `detail` of a problem document (RFC 9457), printable; any other body as it is."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body
    detail = document.get("detail") if isinstance(document, dict) else None
    return printable(detail) if isinstance(detail, str) and detail else body


def format_timestamp(at: datetime) -> str:
    """Return a timestamp in UTC, to the second: 2026-11-22 09:00:00 UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def readable(value: object) -> str:
    """Return a value as text for people: a dash for nothing, timestamps in UTC."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))
