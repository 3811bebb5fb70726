"""Moments as people write them."""

from datetime import UTC, datetime


def read(text: str) -> datetime:
    """Return the moment that a text in ISO 8601 names, in UTC unless it names its offset.

    Raises ValueError or OverflowError.
    """
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC)
