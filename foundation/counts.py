"""How many there are and how long something lasts, in words."""

from datetime import timedelta


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
