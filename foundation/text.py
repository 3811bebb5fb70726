"""Text for people: counts, durations, timestamps, and what a terminal can show."""

import json
from datetime import UTC, datetime, timedelta


def read(text: str) -> datetime:
    """Return the moment that a text in ISO 8601 names, in UTC unless it names its offset.

    Raises ValueError or OverflowError.
    """
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC)


def count(value: int, one: str, many: str | None = None) -> str:
    """Return how many there are, in words: 1 course, 2 courses."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def lasted(time: timedelta) -> str:
    """Return how long something has lasted, roughly: 42 min, 26 h, 3 days."""
    minutes = int(time.total_seconds() // 60)
    if minutes < 2 * 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 2 * 24 else count(hours // 24, "day")


def escaped(document: str) -> str:
    """Return JSON text in which what could act on a terminal is escaped; it reads the same."""
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in document
    )


def printable(text: str) -> str:
    """Return the text with control and direction characters spelled out, so none acts."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
